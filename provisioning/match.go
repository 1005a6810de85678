package provisioning

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// decision is who is speaking, for which entry, and the facts it rests on.
type decision struct {
	query    FactsQuery
	facts    Facts
	identity verify.Identity
	entry    Enrollment
	own      bool           // attested by a leaf of ours standing in the device's pair
	key      provenKey      // the symmetric key or TPM it was attested by; zero: by something else
	chain    verify.Chain   // what was sent, and what Muster holds that continues it
	csrKey   verify.KeyHash // of the CSR; zero without one
	trace    Trace
	webhook  *asked // what it answered; nil: it was not asked

	quarantine *Quarantine // that the device is in; nil: none, or it was not read

	csr      *x509.CertificateRequest // nil: no certificate is asked for
	renewal  bool                     // it is asked for by the one it replaces
	retained bool                     // by us: the device is not here, csr is the request on record
	rests    []verify.Link            // what the registration rests on, read where a CA is disallowed
	cut      bool                     // more was sent than could be looked at with what is held above
	whole    bool                     // all facts are read, also of an ordinary device
	shown    verify.CodeHash          // a one-time code; zero: none
	code     *EnrollmentCode          // on record; nil: there is no such code

	polls bool        // it asks how things stand, and registers nothing
	tpm   tpmOnRecord // of a device with a TPM

	connection    *Connection
	door, address string // for what is remembered of it alone
}

// newDecision asks for the facts of an attempt.
func newDecision(a Attempt, csr *x509.CertificateRequest) *decision {
	d := &decision{query: FactsQuery{ID: a.ID, SharedKey: a.Evidence.sharedKey(), Profiles: csr != nil}, csr: csr, shown: a.Evidence.Code, connection: a.Evidence.Connection, door: a.Door, address: a.Address}
	if csr != nil {
		d.csrKey = verify.KeyHashOf(csr.RawSubjectPublicKeyInfo)
		d.query.Keys = append(d.query.Keys, d.csrKey)
	}
	if shown := a.Evidence.TPM; shown != nil {
		d.query.TPM = true
		key := verify.KeyHashOf(shown.Endorsement.SPKI())
		if shown.Certificates.Leaf().KeyHash != key { // none, or one that is no word for it
			d.query.Keys = append(d.query.Keys, key)
			return d
		}
		for _, l := range shown.Certificates {
			d.cover(l)
		}
		return d
	}
	if !d.query.SharedKey && d.shown.IsZero() && len(a.Evidence.Chain) > 0 {
		for _, l := range a.Evidence.Chain {
			d.cover(l)
		}
	}
	return d
}

// cover makes the query ask about one more certificate of the chain.
func (d *decision) cover(l verify.Link) {
	d.chain = append(d.chain, l)
	d.query.Thumbs = append(d.query.Thumbs, l.Thumbprint)
	d.query.Keys = slices.Insert(d.query.Keys, len(d.query.Thumbs)-1, l.KeyHash)
	if name := verify.NameHash(l.Cert.RawIssuer); !slices.Contains(d.query.Issuers, name) {
		d.query.Issuers = append(d.query.Issuers, name)
	}
}

// decide reads the facts of an attempt and says who is speaking for which entry, or
// refuses. The cheap refusals come first: what the one indexed read shows needs no
// signature (INV-R3). The trace is complete in either case.
func (e *Engine) decide(ctx context.Context, a Attempt, csr *x509.CertificateRequest, now time.Time) (*decision, error) {
	return e.reach(ctx, newDecision(a, csr), a, now)
}

// decidePoll is decide for what registers nothing.
func (e *Engine) decidePoll(ctx context.Context, a Attempt, now time.Time) (*decision, error) {
	d := newDecision(a, nil)
	d.polls = true
	return e.reach(ctx, d, a, now)
}

// reach is decide for a decision that has been begun.
func (e *Engine) reach(ctx context.Context, d *decision, a Attempt, now time.Time) (*decision, error) {
	if err := e.store.View(ctx, func(tx Tx) error {
		return first(e.readFacts(tx, d), d.readRule(tx), d.readTPM(tx, a), d.readQuarantine(tx))
	}); err != nil {
		return d, err
	}
	return d, e.judge(d, a, now)
}

// readRule reads the profiles where an attempt without a CSR may be the first use of a
// certificate of ours: then the one before stands for its profile's overlap. That is once
// in the life of a certificate.
func (d *decision) readRule(tx Tx) (err error) {
	reg := d.facts.Registration
	if d.query.Profiles || d.facts.Issued == nil || reg == nil {
		return nil
	}
	slot, held := reg.Pair.Find(rotation.Ref(d.facts.Issued.Thumbprint))
	if !held || reg.Pair.Cell(slot).State != rotation.Staged {
		return nil
	}
	d.facts.Profiles, err = tx.Profiles()
	return err
}

// readFacts runs the query until it covers the whole chain as Muster knows it: when
// a CA that Muster holds continues what was sent (its key verifies a certificate sent)
// and is itself below another, the query grows by it. Held certificates may refuse,
// never admit (architecture §7, invariant 3; scenarios X2). Every certificate sent is
// asked about, not only the topmost by name: a client chooses what it puts on top.
func (e *Engine) readFacts(tx Tx, d *decision) (err error) {
	if !d.shown.IsZero() {
		return d.readCode(tx)
	}
	for d.facts, err = d.read(tx); err == nil; d.facts, err = d.read(tx) {
		above, ok := e.continued(d)
		if !ok {
			return d.readRests(tx)
		}
		if d.cut = len(d.chain) >= maxQueryThumbs; d.cut {
			return nil // what was sent leaves no room for what is held above it
		}
		d.cover(above)
	}
	return err
}

func (d *decision) read(tx Tx) (Facts, error) {
	if !d.whole {
		if f, ok, err := tx.OrdinaryFacts(d.query); ok || err != nil {
			return f, err
		}
	}
	return tx.Facts(d.query)
}

const maxQueryThumbs = 10

// continued returns a held CA, not yet covered and not self-issued, that signed a
// certificate of the chain. A self-issued one ends the chain: nothing is above it.
func (e *Engine) continued(d *decision) (verify.Link, bool) {
	for _, h := range d.facts.HeldCAs {
		if slices.Contains(d.query.Thumbs, h.Thumbprint) {
			continue
		}
		l, err := e.held.link(h)
		if err == nil && !bytes.Equal(l.Cert.RawSubject, l.Cert.RawIssuer) && d.signedBy(l) {
			return l, true
		}
	}
	return verify.Link{}, false
}

// signedBy says whether a CA's key verifies a certificate of the chain.
func (d *decision) signedBy(authority verify.Link) bool {
	return slices.ContainsFunc(d.chain, func(l verify.Link) bool { return signs(authority, l) })
}

// judge is the decision itself, from facts alone. Its order is the documentation:
// the certificate of ours, the individual entry, what is disallowed, what a disabled
// entry holds, then the proof.
func (e *Engine) judge(d *decision, a Attempt, now time.Time) error {
	t := &d.trace
	individual, shadowed := d.facts.Individual(a.ID)
	switch {
	case shadowed && !individual.Enabled:
		return t.refuse("enrollment-disabled", individual.String(), "the individual enrollment is disabled; it alone decides")
	case shadowed:
		t.pass("individual-enrollment", individual.String(), "an individual enrollment exists: it alone decides")
	default:
		t.note("individual-enrollment", "", "no individual enrollment for this id: groups are searched")
	}
	if err := d.judgeHold(); err != nil {
		return err
	}
	if !d.shown.IsZero() {
		return e.judgeCode(d, individual, shadowed, now)
	}
	if shadowed && individual.Role() == RoleTPM && len(a.Evidence.Chain) == 0 || a.Evidence.TPM != nil || !shadowed && d.pollsByGroup(a) {
		return e.judgeTPM(d, a, individual, shadowed, now)
	}
	if d.query.SharedKey {
		return e.judgeKey(d, a, individual, shadowed, now)
	}
	if len(a.Evidence.Chain) == 0 {
		return t.refuse("no-credential", "", "the device showed neither a certificate nor a token")
	}
	pinned := shadowed && pins(individual, a.Evidence.Chain.Leaf().Thumbprint)
	if err := e.judgeOwn(d, a, individual, shadowed, pinned, now); err != nil {
		return err
	}
	if err := e.judgeStanding(d, pinned); err != nil {
		return err
	}
	switch {
	case d.retained && !d.own:
		return t.refuse("renewal-needs-issued-certificate", "", "only a certificate issued here and standing in the device's pair is renewed by us")
	case pinned:
		return d.prove(a, individual, verify.Anchors{Pinned: []verify.Thumbprint{a.Evidence.Chain.Leaf().Thumbprint}}, now)
	case d.own:
		return d.prove(a, d.entry, verify.Anchors{Pinned: []verify.Thumbprint{a.Evidence.Chain.Leaf().Thumbprint}, Grace: d.grace()}, now)
	case shadowed && individual.Role() != RoleClient:
		return t.refuse("attestation-mismatch", individual.String(), "the individual enrollment attests with a "+individual.Role().noun()+", not with a certificate")
	case shadowed:
		return t.refuse("certificate-not-enrolled", individual.String(), "the certificate is in neither slot of the individual enrollment"+individual.room())
	}
	return e.judgeGroups(d, a, now)
}

// judgeOwn deals with a leaf that Muster issued: it speaks only while it stands in
// the pair of its registration, and only for the entry that owns that registration,
// if that entry is the one that decides (architecture §6; INV-C5).
func (e *Engine) judgeOwn(d *decision, a Attempt, individual Enrollment, shadowed, pinned bool, now time.Time) error {
	t, ours := &d.trace, d.facts.Issued
	if ours == nil {
		if e.authority.IsOurs(a.Evidence.Chain.Leaf().Cert) {
			return t.refuse("certificate-not-on-record", "", "the certificate names an issuer of ours, and was never recorded here")
		}
		return nil
	}
	object := "certificate " + string(ours.Serial)
	if !ours.RevokedAt.IsZero() {
		return t.refuse("certificate-revoked", object, "the certificate was issued here and is revoked ("+string(ours.Reason)+")")
	}
	if d.facts.IssuerRevoked {
		return t.refuse("issuer-revoked", "issuer "+string(ours.Issuer), "the certificate was issued here by an issuer that is revoked")
	}
	if pinned {
		return nil
	}
	reg := d.facts.Registration
	if reg == nil || !reg.Pair.Standing(rotation.Ref(ours.Thumbprint), now) {
		return t.refuse("certificate-not-standing", object, "the certificate was issued here but no longer stands in the device's pair")
	}
	if reg.Owner.IsZero() {
		return t.refuse("registration-orphaned", object, "the entry that admitted this device was deleted")
	}
	if shadowed && reg.Owner != individual.Owner {
		return t.refuse("certificate-not-enrolled", individual.String(), "an individual enrollment now decides for this id, and the certificate was issued under "+reg.Owner.String())
	}
	entry, ok := d.facts.Entry(reg.Owner)
	if !ok {
		return t.refuse("registration-orphaned", object, "the entry that admitted this device was deleted")
	}
	if !entry.Enabled {
		return t.refuse("enrollment-disabled", entry.String(), "the entry that owns the registration is disabled")
	}
	d.own, d.entry = true, entry
	t.pass("own-certificate", object, "issued here and standing in the device's pair; it speaks for "+entry.String())
	return d.vouchedStill(*reg)
}

// vouchedStill holds a renewal to the outside chain that first attested the device,
// as if it had been presented: it must still lead to a verified anchor (INV-V5).
func (d *decision) vouchedStill(reg Registration) error {
	if reg.Chain == 0 {
		return nil // a pinned leaf or a key: nothing above it vouched
	}
	for _, h := range d.facts.HeldCAs {
		if h.Verified && slices.Contains(d.facts.ChainLinks, h.Thumbprint) {
			d.trace.pass("anchor-verified", "anchor "+h.Anchor, "the chain that first attested this device still leads to a verified anchor")
			return nil
		}
	}
	return d.trace.refuse("anchor-not-verified", "", "the chain that first attested this device leads to no verified anchor any more")
}

// judgeGroups proves the chain up to a verified anchor and takes the group nearest
// the leaf on the proven path (contract §6.2, INV-D2).
func (e *Engine) judgeGroups(d *decision, a Attempt, now time.Time) error {
	t := &d.trace
	if !slices.ContainsFunc(d.facts.Holders, func(h Holder) bool { return h.Owner.Kind == Group && !h.Owner.IsZero() }) {
		return t.refuse("no-enrollment", "", "no enrollment group holds a certificate of this chain")
	}
	roots, err := e.roots(d)
	if err != nil {
		return err
	}
	identity, err := verify.X509(verify.X509Evidence{ID: a.ID, Chain: a.Evidence.Chain, Memo: a.Evidence.Connection.memo()}, verify.Anchors{Verified: roots}, now)
	if err != nil {
		return t.refused("", err)
	}
	t.pass("anchor-verified", "", "the chain is valid up to a verified trust anchor")
	for _, link := range identity.Path()[1:] {
		if group, ok := d.groupHolding(link.Thumbprint); ok {
			t.pass("group", group.String(), "it holds the certificate nearest the leaf: "+nameOf(link.Cert))
			d.identity, d.entry = identity, group
			return nil
		}
	}
	return t.refuse("no-enrollment", "", "no enrollment group holds a certificate on the proven path")
}

// roots are the verified anchors that were met; a refusal if there are none.
func (e *Engine) roots(d *decision) (roots []verify.Link, err error) {
	t, unverified := &d.trace, ""
	for _, h := range d.facts.HeldCAs {
		switch {
		case h.Anchor == "":
		case !h.Verified:
			unverified = "anchor " + h.Anchor
		default:
			l, err := e.held.link(h)
			if err != nil {
				return nil, err
			}
			roots = append(roots, l)
		}
	}
	if len(roots) == 0 && unverified != "" {
		return nil, t.refuse("anchor-not-verified", unverified, "the chain leads to a trust anchor that has not proved possession")
	}
	if len(roots) == 0 {
		return nil, t.refuse("chain-not-trusted", "", "no verified trust anchor is in the chain or above it")
	}
	return roots, nil
}

// nameOf is what people call a CA.
func nameOf(authority *x509.Certificate) string {
	if cn := authority.Subject.CommonName; cn != "" {
		return cn
	}
	return authority.Subject.String()
}

// groupHolding returns the group that holds a certificate, and admits by it. Two may (scenarios D6):
// then the registration's owner, else the first by name.
func (d *decision) groupHolding(x verify.Thumbprint) (Enrollment, bool) {
	return d.preferOwner(d.groupsHolding(x, func(r Role) bool { return r != RoleTPMCA }))
}

func (d *decision) groupsHolding(x verify.Thumbprint, role func(Role) bool) (found []Enrollment) {
	for _, h := range d.facts.Holders {
		if h.Thumbprint != x || h.Owner.Kind != Group || !role(h.Role) {
			continue
		}
		if g, ok := d.facts.Entry(h.Owner); ok {
			found = append(found, g)
		}
	}
	return found
}

func (d *decision) preferOwner(found []Enrollment) (Enrollment, bool) {
	if len(found) == 0 {
		return Enrollment{}, false
	}
	best := found[0]
	for _, g := range found {
		if d.facts.Registration != nil && g.Owner == d.facts.Registration.Owner {
			return g, true
		}
		if g.ID.String() < best.ID.String() {
			best = g
		}
	}
	return best, true
}

// judgeKey proves possession of a symmetric key: the individual entry's, or one
// derived from a group's. A key that a disabled group holds too is refused.
func (e *Engine) judgeKey(d *decision, a Attempt, individual Enrollment, shadowed bool, now time.Time) error {
	t := &d.trace
	if shadowed {
		if individual.Role() != RoleKey {
			return t.refuse("attestation-mismatch", individual.String(), "the individual enrollment attests with a "+individual.Role().noun()+", not with a symmetric key")
		}
		id, key, err := e.proveKey(a, individual, now)
		if err != nil {
			return t.refused(individual.String(), err)
		}
		d.identity, d.entry, d.key = id, individual, key
		t.pass("credential", individual.String(), "the key is the enrolled one")
		return nil
	}
	refusal := fault.New(fault.Unauthenticated, "no-enrollment", "no enrollment group derives this device's key")
	for _, k := range d.keyTrials() {
		id, key, err := e.proveCredential(a, *k.entry, *k.credential, spellings(a), now)
		if err != nil {
			if f := fault.As(err); f != nil && !otherKey(f) {
				refusal = f // the token itself is at fault: expired, for another resource
			}
			continue
		}
		if !k.entry.Enabled {
			return t.refuse("enrollment-disabled", k.entry.String(), "the group that derives this device's key is disabled")
		}
		d.identity, d.entry, d.key = id, *k.entry, key
		break // the disabled have been tried: nothing behind could change anything
	}
	if d.identity.IsZero() {
		return t.refused("", refusal)
	}
	t.pass("group", d.entry.String(), "it derives this device's key")
	return nil
}

// keyTrial is one key of a group that may yield the device's. An entry is large: a thousand
// are not copied, nor moved by sorting.
type keyTrial struct {
	entry      *Enrollment
	credential *Credential
	rank       int
}

// keyTrials are the keys of all symmetric-key groups in the order they are tried: those of the
// disabled, each of which can refuse; those of the group that owns the registration, so that a
// device that is known costs a trial or two among a thousand groups; the primary ones, which
// most devices use; the secondary ones.
func (d *decision) keyTrials() []keyTrial {
	var trials []keyTrial
	for i := range d.facts.Enrollments {
		g := &d.facts.Enrollments[i]
		if g.Kind != Group {
			continue
		}
		for n := range g.Credentials {
			c := &g.Credentials[n]
			if c.Role != RoleKey {
				continue
			}
			rank := 2 + int(c.Slot)
			switch {
			case !g.Enabled:
				rank = 0
			case d.facts.Registration != nil && g.Owner == d.facts.Registration.Owner:
				rank = 1
			}
			trials = append(trials, keyTrial{g, c, rank})
		}
	}
	slices.SortStableFunc(trials, func(a, b keyTrial) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.entry.ID.String(), b.entry.ID.String()))
	})
	return trials
}

// otherKey says that verify refused only because the signature or key is not this key's.
func otherKey(f *fault.Error) bool { return f.Rule == "sas-signature" || f.Rule == "key-mismatch" }

// spellings are the texts a group key is derived over: the id as the device spells
// it, then lower case (contract §2.4).
func spellings(a Attempt) []string {
	if lower := a.ID.String(); lower != a.Spelled {
		return []string{a.Spelled, lower}
	}
	return []string{a.Spelled}
}

// proveKey tries both slots of an individual entry.
func (e *Engine) proveKey(a Attempt, entry Enrollment, now time.Time) (id verify.Identity, key provenKey, err error) {
	err = fault.New(fault.Unauthenticated, "key-mismatch", "the entry has no key")
	for _, c := range entry.Credentials {
		if id, key, err = e.proveCredential(a, entry, c, nil, now); err == nil {
			return id, key, nil
		}
	}
	return verify.Identity{}, provenKey{}, err
}

// proveCredential tries one key. With spellings it is a group's, from which the device's are
// derived.
func (e *Engine) proveCredential(a Attempt, entry Enrollment, c Credential, derive []string, now time.Time) (id verify.Identity, proven provenKey, err error) {
	plain, err := e.box.Open(keyPurpose(entry.Owner, c.Slot), c.SealedKey)
	if err != nil {
		return verify.Identity{}, provenKey{}, err
	}
	key := verify.NewSecret(plain)
	if derive == nil {
		if id, err = e.proveOne(a, key, now); err == nil {
			return id, provenBy(key, c), nil
		}
	}
	for _, spelled := range derive {
		if id, err = e.proveOne(a, verify.DeriveKey(key, spelled), now); err == nil {
			return id, provenBy(key, c), nil
		}
	}
	return verify.Identity{}, provenKey{}, err
}

func (e *Engine) proveOne(a Attempt, key verify.Secret, now time.Time) (verify.Identity, error) {
	if a.Evidence.Token != nil {
		return verify.SAS(verify.SASEvidence{IDScope: e.idScope, ID: a.ID, Token: *a.Evidence.Token}, key, now)
	}
	return verify.SharedKey(verify.KeyEvidence{ID: a.ID, Key: *a.Evidence.Key}, key, now)
}

// prove checks the device's leaf against pins and ends the decision for entry.
func (d *decision) prove(a Attempt, entry Enrollment, anchors verify.Anchors, now time.Time) error {
	var id verify.Identity
	var err error
	if d.retained {
		id, err = verify.Retained(verify.RetainedEvidence{ID: a.ID, Leaf: a.Evidence.Chain.Leaf(), CSR: d.csr, Grace: anchors.Grace}, now)
	} else {
		id, err = verify.X509(verify.X509Evidence{ID: a.ID, Chain: a.Evidence.Chain, Memo: a.Evidence.Connection.memo()}, anchors, now)
	}
	if err != nil {
		return d.trace.refused(entry.String(), err)
	}
	d.identity, d.entry = id, entry
	d.trace.pass("credential", entry.String(), "the certificate is the one on record, byte for byte")
	return nil
}

// pins says whether an individual entry holds this very leaf.
func pins(e Enrollment, leaf verify.Thumbprint) bool {
	return slices.ContainsFunc(e.Credentials, func(c Credential) bool {
		return c.Role == RoleClient && verify.ThumbprintOf(c.Certificate) == leaf
	})
}

// keyPurpose binds a sealed key to its row (INV-K2).
func keyPurpose(o Owner, s rotation.Slot) string {
	return "entry_credentials|" + o.Kind.String() + "|" + o.ID.String() + "|" + s.String()
}
