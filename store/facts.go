package store

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Facts is the match View. What the rows mean for each other (who holds what was asked
// about) is worked out here: the statement only finds them.
func (t *tx) Facts(q provisioning.FactsQuery) (provisioning.Facts, error) {
	s, args, err := t.db.factsStatement(q)
	if err != nil {
		return provisioning.Facts{}, err
	}
	found := facts{query: q}
	print := NewFingerprint(t.db.seed)
	err = t.query(s, func(r *row) error {
		if r.values[0] != int64(tagEpoch) {
			print.Add(r.values)
		}
		return found.add(r)
	}, args...)
	if err != nil {
		return provisioning.Facts{}, err
	}
	out := found.facts()
	out.Digest = print.Sum()
	if out.Registration != nil {
		t.seen = placeOf(*out.Registration)
	}
	if !q.TPM {
		t.db.fleets.put(fleetOf(q), fleetPart(q, out))
	}
	return out, nil
}

var selectEpoch = statement("SELECT value, CASE WHEN EXISTS (SELECT 1 FROM disallowances WHERE lifted_at = 0 AND digest = ?)" +
	" THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END FROM trust_epoch")

// Unmoved reads one small row where Facts reads many: every transaction that changes
// what facts are made of, but for the registration itself, moves the epoch (update).
func (t *tx) Unmoved(f provisioning.Facts, csrKey verify.KeyHash) (bool, error) {
	unmoved := false
	err := t.query(selectEpoch, func(r *row) error {
		epoch, disallowed := r.int(), r.bool()
		unmoved = epoch == f.Epoch && !disallowed
		return nil
	}, csrKey[:])
	if f.Registration != nil {
		t.seen = placeOf(*f.Registration)
	}
	return unmoved, err
}

// factsStatement picks the statement for a query and fills its parameters.
func (db *DB) factsStatement(q provisioning.FactsQuery) (*Stmt, []any, error) {
	size := slices.IndexFunc(factsSizes[:], func(n int) bool {
		return len(q.Thumbs) <= n && len(q.Keys) <= n+1 && len(q.Issuers) <= n
	})
	if size < 0 {
		return nil, nil, fmt.Errorf("internal error: a query for %d certificates, %d keys and %d names", len(q.Thumbs), len(q.Keys), len(q.Issuers))
	}
	n := factsSizes[size]
	id := q.ID.String()
	args := append(make([]any, 0, 3*n+8), id)
	args = fill(args, q.Thumbs, n)
	args = fill(args, q.Keys, n+1)
	args = fill(args, q.Issuers, n)
	args = append(args, id, id, id)
	if n > 0 {
		var leaf int64
		if len(q.Thumbs) > 0 {
			leaf = thumb8(q.Thumbs[0])
		}
		args = append(args, leaf)
	}
	args = append(args, id, id)
	return db.facts.of(factsShape{size: size, sharedKey: q.SharedKey, profiles: q.Profiles, tpm: q.TPM}), args, nil
}

// fill appends n hashes: those there are, then the first again, or no bytes where there
// is none.
func fill[H ~[32]byte](args []any, hashes []H, n int) []any {
	for i := range n {
		switch {
		case i < len(hashes):
			h := [32]byte(hashes[i])
			args = append(args, h[:])
		case len(hashes) > 0:
			args = append(args, args[len(args)-i])
		default:
			args = append(args, []byte{})
		}
	}
	return args
}

// facts collects the rows.
type facts struct {
	query       provisioning.FactsQuery
	out         provisioning.Facts
	links       []link
	entries     []provisioning.Enrollment
	credentials []credential
	anchors     []anchor
	reg         []any // the values of registrationColumns, as far as they have come
	regParts    int
	scratch     [64]any
}

// link is a certificate of the outside chain.
type link struct {
	position   int64
	thumbprint verify.Thumbprint
}

// anchor is a trust anchor that was met.
type anchor struct {
	name        string
	certificate []byte
	verified    bool
	thumbprint  verify.Thumbprint
}

// add scans one row of the common shape.
func (f *facts) add(r *row) error {
	which := tag(r.int())
	if which < 0 || which >= tags {
		return fmt.Errorf("internal error: a row of facts has tag %d", which)
	}
	values := f.scratch[:len(places[which])]
	for i, at := range places[which] {
		values[i] = r.values[at]
	}
	part := row{values: values}
	f.scan(which, &part)
	return part.err
}

func (f *facts) scan(which tag, r *row) {
	switch which {
	case tagEpoch:
		f.out.Epoch = r.int()
	case tagRegistration, tagRegistrationRest:
		f.registration(int(which-tagRegistration), r)
	case tagLink:
		f.links = append(f.links, link{r.int(), r.hash()})
	case tagDisallowance:
		f.out.Disallowances = append(f.out.Disallowances, scanDisallowance(r))
	case tagEntry:
		f.entries = append(f.entries, scanEntry(r))
	case tagCredential:
		f.credentials = append(f.credentials, scanCredential(r))
	case tagAnchor:
		f.anchors = append(f.anchors, anchor{r.text(), r.blob(), !r.time().IsZero(), r.hash()})
	case tagIssued:
		// The index holds only the first bytes of the thumbprint.
		if c := scanCertificate(r); len(f.query.Thumbs) > 0 && c.Thumbprint == f.query.Thumbs[0] {
			f.out.Issued, f.out.IssuerRevoked = &c, r.bool()
		}
	case tagHub:
		f.out.Hubs = append(f.out.Hubs, scanHub(r))
	case tagAlias:
		f.out.Aliases = append(f.out.Aliases, provisioning.Alias{Hub: r.text(), ID: r.id()})
	case tagListed:
		f.out.Listed = append(f.out.Listed, scanListed(r))
	case tagProfile:
		f.out.Profiles = append(f.out.Profiles, scanProfile(r))
	}
}

// registration takes one of the two rows of a registration; with the second it is whole.
func (f *facts) registration(part int, r *row) {
	if f.reg == nil {
		f.reg = make([]any, len(registrationColumns))
	}
	for i, at := range registrationParts[part] {
		f.reg[at] = r.values[i]
	}
	if f.regParts++; f.regParts == len(registrationParts) {
		whole := row{values: f.reg}
		reg := scanRegistration(&whole)
		f.out.Registration, r.err = &reg, whole.err
	}
}

// facts puts the rows together, each list in an order that does not depend on the engine.
func (f *facts) facts() provisioning.Facts {
	slices.SortFunc(f.links, func(a, b link) int { return cmp.Compare(a.position, b.position) })
	for _, l := range f.links {
		f.out.ChainLinks = append(f.out.ChainLinks, l.thumbprint)
	}
	slices.SortFunc(f.entries, func(a, b provisioning.Enrollment) int { return compareOwners(a.Owner, b.Owner) })
	slices.SortFunc(f.credentials, func(a, b credential) int {
		return cmp.Or(compareOwners(a.owner, b.owner), cmp.Compare(a.Slot, b.Slot))
	})
	slices.SortFunc(f.anchors, func(a, b anchor) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(f.out.Hubs, func(a, b provisioning.Hub) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(f.out.Aliases, func(a, b provisioning.Alias) int {
		return cmp.Or(cmp.Compare(a.Hub, b.Hub), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	slices.SortFunc(f.out.Profiles, func(a, b provisioning.Profile) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(f.out.Disallowances, func(a, b provisioning.Disallowance) int { return cmp.Compare(a.ID, b.ID) })
	f.out.Disallowances = slices.CompactFunc(f.out.Disallowances, func(a, b provisioning.Disallowance) bool { return a.ID == b.ID })
	for i := range f.entries {
		e := &f.entries[i]
		for _, c := range f.credentials {
			if c.owner == e.Owner {
				e.Credentials = append(e.Credentials, c.Credential)
				f.holder(*e, c)
			}
		}
		if e.Kind == provisioning.Group || e.ID == f.query.ID || f.ownerIs(e.Owner) {
			f.out.Enrollments = append(f.out.Enrollments, *e)
		}
	}
	for _, a := range f.anchors {
		f.out.Holders = append(f.out.Holders, provisioning.Holder{Anchor: a.name, Enabled: true, Thumbprint: a.thumbprint})
		f.out.HeldCAs = append(f.out.HeldCAs, provisioning.HeldCA{Thumbprint: a.thumbprint, Certificate: a.certificate, Anchor: a.name, Verified: a.verified})
	}
	return f.out
}

func compareOwners(a, b provisioning.Owner) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID.String(), b.ID.String()))
}

func (f *facts) ownerIs(o provisioning.Owner) bool {
	return f.out.Registration != nil && f.out.Registration.Owner == o
}

// holder notes that an entry holds something that was asked about.
func (f *facts) holder(e provisioning.Enrollment, c credential) {
	h := provisioning.Holder{Owner: e.Owner, Enabled: e.Enabled, Role: c.Role, Thumbprint: c.thumbprint}
	switch c.Role {
	case provisioning.RoleCARef, provisioning.RoleTPMCA:
		i := slices.IndexFunc(f.anchors, func(a anchor) bool { return a.name == c.Anchor })
		if i < 0 {
			return
		}
		h.Anchor, h.Thumbprint = c.Anchor, f.anchors[i].thumbprint
	case provisioning.RoleClient:
		if !f.asked(c.thumbprint) {
			return
		}
	case provisioning.RoleSigning:
		if !f.asked(c.thumbprint) && !slices.Contains(f.query.Issuers, c.subject) {
			return
		}
		held := func(x provisioning.HeldCA) bool { return x.Thumbprint == c.thumbprint }
		if !slices.ContainsFunc(f.out.HeldCAs, held) {
			f.out.HeldCAs = append(f.out.HeldCAs, provisioning.HeldCA{Thumbprint: c.thumbprint, Certificate: c.Certificate})
		}
	default:
		return
	}
	f.out.Holders = append(f.out.Holders, h)
}

// asked says whether a certificate is one of those the query is about.
func (f *facts) asked(x verify.Thumbprint) bool {
	return slices.Contains(f.query.Thumbs, x) || slices.Contains(f.out.ChainLinks, x) ||
		f.out.Registration != nil && f.out.Registration.Leaf == x
}
