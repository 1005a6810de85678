package provisioning

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// What a chain may not hold: one rule for doors, for hubs, and for what certificates of ours rest
// on (architecture §7, invariants 2 and 3).

// judgeStanding refuses what is disallowed, and what any disabled entry holds, in the
// chain sent, in its continuation by CAs that Muster holds, and, with a leaf of ours,
// in the outside chain that it rests on (invariants 2 and 3).
func (e *Engine) judgeStanding(d *decision, pinned bool) error {
	t := &d.trace
	if d.cut {
		return t.refuse("chain-too-long", "", "more certificates were sent than can be judged with the CAs held above them")
	}
	for _, l := range d.chain {
		if !pinned && !e.authority.StandsBehind(l.Cert) {
			return t.refuse("issuer-revoked", "", "a certificate in the chain is signed by an issuer of ours that is revoked")
		}
	}
	if x := e.refusal(d); x != nil {
		return t.refuse("disallowed", x.object(), x.sentence())
	}
	for _, h := range d.facts.Holders {
		if h.Enabled || pinned && h.Owner.Kind == Group {
			// The one exception of invariant 3: a pinned leaf does not rest on the CA above it.
			continue
		}
		if slices.Contains(d.query.Thumbs, h.Thumbprint) || d.own && d.outside(h.Thumbprint) || e.above(d, h) {
			return t.refuse("held-by-disabled", h.Owner.String(), "a certificate in the chain is held by a disabled entry")
		}
	}
	t.pass("standing", "", "nothing in the chain is disallowed or held by a disabled entry")
	return nil
}

// counts says whether a disallowance met bears on who is speaking: on what was sent or,
// with a leaf of ours, on the outside chain. The key of a CSR is judged with the CSR.
func (d *decision) counts(x Disallowance) bool {
	if !x.Key {
		return slices.Contains(d.query.Thumbs, verify.Thumbprint(x.Digest)) || d.own && d.outside(verify.Thumbprint(x.Digest))
	}
	k := verify.KeyHash(x.Digest)
	return slices.ContainsFunc(d.chain, func(l verify.Link) bool { return l.KeyHash == k }) || d.own && k != d.csrKey && x.Certificate == nil
}

// refusal finds what is disallowed of who is speaking: by what was sent and what Muster holds above
// it, or, with a leaf of ours, by the outside chain that it rests on; nil: nothing is. A CA need
// not be sent, nor held.
func (e *Engine) refusal(d *decision) *Disallowance {
	var cas []disallowedCA
	for i, x := range d.facts.Disallowances {
		if d.counts(x) {
			return &d.facts.Disallowances[i]
		}
		if x.Certificate == nil {
			continue
		}
		if authority, err := e.held.link(HeldCA{Thumbprint: verify.ThumbprintOf(x.Certificate), Certificate: x.Certificate}); err == nil {
			cas = append(cas, disallowedCA{x, authority})
		}
	}
	if len(cas) == 0 {
		return nil
	}
	path, held := slices.Clone(d.chain), []verify.Link(nil)
	for _, h := range d.facts.HeldCAs {
		if l, err := e.held.link(h); err == nil && d.signedBy(l) {
			held = append(held, l)
			if bytes.Equal(l.Cert.RawSubject, l.Cert.RawIssuer) {
				path = append(path, l) // the climb ends below it
			}
		}
	}
	if d.own {
		path = append(path, d.rests...)
	}
	for _, x := range cas {
		if x.refuses(path, held) {
			return &x.Disallowance
		}
	}
	return nil
}

func (d *decision) outside(x verify.Thumbprint) bool {
	return slices.Contains(d.facts.ChainLinks, x) || d.facts.Registration != nil && d.facts.Registration.Leaf == x
}

// above says whether a holder's CA, not sent, verifies a certificate of the chain.
func (e *Engine) above(d *decision, h Holder) bool {
	for _, held := range d.facts.HeldCAs {
		if held.Thumbprint == h.Thumbprint {
			l, err := e.held.link(held)
			return err == nil && d.signedBy(l)
		}
	}
	return false
}

// readRests reads what a registration rests on where a CA is disallowed, for the certificates of
// ours in its pair.
func (d *decision) readRests(tx Tx) (err error) {
	reg := d.facts.Registration
	if reg == nil || d.facts.Issued == nil && reg.Pair == (rotation.Pair{}) {
		return nil
	}
	if slices.ContainsFunc(d.facts.Disallowances, func(x Disallowance) bool { return x.Certificate != nil }) {
		d.rests, err = outsidePath(tx, *reg)
	}
	return err
}

// signs says whether a certificate is signed by another, as its name and its key have it.
func signs(by, l verify.Link) bool {
	return bytes.Equal(l.Cert.RawIssuer, by.Cert.RawSubject) && verify.SignedBy(l, by)
}

// disallowedCA is an active disallowance of a CA, its certificate read.
type disallowedCA struct {
	Disallowance
	authority verify.Link
}

// refuses says whether a path is refused: the CA, or its key, is in it or signed what is. One that
// is disallowed alone, and not its key, does not refuse what another certificate for its key, in
// the path or held, may have signed as well.
func (x disallowedCA) refuses(path, held []verify.Link) bool {
	return slices.ContainsFunc(path, func(l verify.Link) bool {
		switch {
		case x.Key:
			return l.KeyHash == x.authority.KeyHash || signs(x.authority, l)
		case l.Thumbprint == x.authority.Thumbprint:
			return true
		case bytes.Equal(l.Cert.RawIssuer, l.Cert.RawSubject) || !signs(x.authority, l):
			return false
		}
		other := func(o verify.Link) bool {
			return o.Thumbprint != l.Thumbprint && o.Thumbprint != x.authority.Thumbprint && signs(o, l)
		}
		return !slices.ContainsFunc(path, other) && !slices.ContainsFunc(held, other)
	})
}

// outsidePath is what is on record of how a registration was attested: its outside chain, or the
// leaf that an entry pins.
func outsidePath(tx Tx, reg Registration) (path []verify.Link, err error) {
	switch {
	case reg.Chain != 0:
		return recordedChain(tx, reg.Chain)
	case reg.Leaf.IsZero():
		return nil, nil
	}
	leaf, err := tx.PinnedLeaf(reg.Leaf)
	if err != nil || leaf == nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return nil, err
	}
	return []verify.Link{verify.NewLink(cert)}, nil
}

// bars says of registrations, in one transaction, whether what attested them is disallowed, or
// signed by a CA that is: what doors ask of the outside chain that a certificate of ours rests on.
type bars struct {
	tx     Tx
	cas    []disallowedCA
	read   bool
	chains map[ChainID]bool // whether a CA refuses it: most devices of a page have the same
}

func (b *bars) has(reg Registration) (bool, error) {
	if disallowed, err := b.tx.Barred(reg); disallowed || err != nil {
		return disallowed, err
	}
	if err := b.readCAs(); err != nil || len(b.cas) == 0 {
		return false, err
	}
	if refused, known := b.chains[reg.Chain]; known {
		return refused, nil
	}
	path, err := outsidePath(b.tx, reg)
	if err != nil {
		return false, err
	}
	refused := slices.ContainsFunc(b.cas, func(x disallowedCA) bool { return x.refuses(path, nil) })
	if reg.Chain != 0 {
		if b.chains == nil {
			b.chains = map[ChainID]bool{}
		}
		b.chains[reg.Chain] = refused
	}
	return refused, nil
}

// shown says whether what a client shows, leaf first, is disallowed in any part, or below a CA that is.
func (b *bars) shown(chain verify.Chain) (bool, error) {
	for _, l := range chain {
		if disallowed, err := b.tx.Barred(Registration{Leaf: l.Thumbprint, LeafKey: l.KeyHash}); disallowed || err != nil {
			return disallowed, err
		}
	}
	err := b.readCAs()
	return slices.ContainsFunc(b.cas, func(x disallowedCA) bool { return x.refuses(chain, nil) }), err
}

// shuts says whether a device is shut out at its hub: it is held, or what attested it is disallowed.
func (b *bars) shuts(reg Registration) (bool, error) {
	if !reg.HeldAt.IsZero() {
		return true, nil
	}
	return b.has(reg)
}

// readCAs reads them once: a hub's devices are asked for by the page.
func (b *bars) readCAs() error {
	if b.read {
		return nil
	}
	list, err := b.tx.DisallowedCAs()
	if err != nil {
		return err
	}
	for _, x := range list {
		cert, err := x509.ParseCertificate(x.Certificate)
		if err != nil {
			return err
		}
		b.cas = append(b.cas, disallowedCA{x, verify.NewLink(cert)})
	}
	b.read = true
	return nil
}
