package provisioning

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/verify"
)

// judgeCertified finds the group that admits a TPM by the certificate of its endorsement key: of
// those that take such a TPM, the one nearest that certificate on the proven path.
func (e *Engine) judgeCertified(d *decision, now time.Time) (group Enrollment, err error) {
	t, shown := &d.trace, d.tpm.shown
	if shown == nil {
		return e.judgeRecordedEndorsement(d)
	}
	switch certs := shown.Certificates; {
	case len(certs) == 0:
		return group, t.refuse("no-enrollment", "", "no enrollment names this endorsement key, no group lists it ("+d.key.hash.String()+"), and no certificate of a manufacturer was shown")
	case certs.Leaf().KeyHash != d.key.hash:
		return group, t.refuse("endorsement-other-key", "", "the certificate shown is for another key than the TPM's endorsement key, or spells it otherwise")
	}
	if err := e.judgeStanding(d, false); err != nil {
		return group, err
	}
	roots, err := e.roots(d)
	if err != nil {
		return group, err
	}
	endorsed, err := verify.CheckEndorsement(shown.Certificates, shown.Endorsement.SPKI(), roots, now)
	if err != nil {
		return group, t.refused("", err)
	}
	is := endorsed.TPM()
	t.pass("anchor-verified", "", "the endorsement key's certificate is valid up to a verified trust anchor; its TPM is "+describe(is))
	var otherwise []Enrollment
	for _, link := range endorsed.Path()[1:] {
		holding := d.groupsHolding(link.Thumbprint, func(r Role) bool { return r == RoleTPMCA })
		taking := slices.DeleteFunc(slices.Clone(holding), func(g Enrollment) bool { return !g.TPM.takes(is) })
		if group, there := d.preferOwner(taking); there {
			t.pass("group", group.String(), "it admits TPMs that are certified below "+nameOf(link.Cert))
			d.tpm.endorsed = endorsed
			return group, nil
		}
		otherwise = append(otherwise, holding...)
	}
	if len(otherwise) > 0 {
		return group, t.refuse("tpm-other-model", otherwise[0].String(), "the group admits other TPMs than "+describe(is))
	}
	return group, t.refuse("no-enrollment", "", "no enrollment group admits TPMs by a certificate on the proven path")
}

// judgeRecordedEndorsement is judgeCertified for a device that shows no certificate: what attested
// it counts as if presented. What its TPM is was judged when it registered.
func (e *Engine) judgeRecordedEndorsement(d *decision) (group Enrollment, err error) {
	t, reg := &d.trace, *d.facts.Registration
	d.own = true
	err = first(e.judgeStanding(d, false), d.vouchedStill(reg))
	d.own = false
	if err != nil {
		return group, err
	}
	for _, link := range d.facts.ChainLinks {
		holding := d.groupsHolding(link, func(r Role) bool { return r == RoleTPMCA })
		if group, there := d.preferOwner(holding); there {
			t.pass("group", group.String(), "it admits TPMs that are certified below the CA that certified this one")
			return group, nil
		}
	}
	return group, t.refuse("no-enrollment", "", "no group lists the endorsement key ("+d.key.hash.String()+"), or admits TPMs by what certified this one")
}

// takes says that a TPM is one of those that the conditions name.
func (c TPMConditions) takes(is verify.TPMModel) bool {
	one := func(of []string, word string) bool {
		return len(of) == 0 || slices.ContainsFunc(of, func(w string) bool { return strings.EqualFold(w, word) })
	}
	return one(c.Manufacturers, is.Manufacturer) && one(c.Models, is.Model) && one(c.Versions, is.Version)
}

// describe is what a TPM is, in a sentence; a stranger may have written it.
func describe(is verify.TPMModel) string {
	const longest = 64
	var words []string
	for _, word := range []string{is.Manufacturer, is.Model, is.Version} {
		if len(word) > longest {
			word = word[:longest]
		}
		words = append(words, strconv.QuoteToASCII(word))
	}
	return "manufacturer " + words[0] + ", model " + words[1] + ", version " + words[2]
}
