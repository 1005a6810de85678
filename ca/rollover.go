package ca

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// An issuer rolls by the moves of a rotation.Pair, one for each role and profile: the next
// one is prepared beside the active one, promoted, and the former one retires when the last
// certificate it signed has ended (architecture §6, Rotation step 6).

// issuersActor is who retires issuers whose time has come, in the ledger.
const issuersActor = "job:issuers"

// place gives a new issuer its slot and inserts it: Active where its role and profile have
// no active issuer, else Prepared; fault.Conflict, rule "issuer-prepared", beside another
// prepared one.
func place(tx Tx, i *Issuer) error {
	pair, err := tx.IssuerPair(i.Role, i.Profile)
	if err != nil {
		return err
	}
	if pair.Cell(rotation.Primary).State == rotation.Staged || pair.Cell(rotation.Secondary).State == rotation.Staged {
		return fault.New(fault.Conflict, "issuer-prepared", "Another issuer of this role and profile is prepared: promote or retire it first.")
	}
	first := !hasActive(pair)
	if pair, err = pair.Stage(i.ref(), time.Time{}, time.Time{}); err != nil {
		return err
	}
	if first {
		if pair, err = pair.Promote(i.ref(), i.Created, 0); err != nil {
			return err
		}
	}
	i.follow(pair)
	return tx.InsertIssuer(*i)
}

// follow takes an issuer's place from its pair after a move. One that is not in it is
// Retired.
func (i *Issuer) follow(p rotation.Pair) {
	slot, held := p.Find(i.ref())
	if !held {
		i.State = IssuerRetired
		return
	}
	i.Slot, i.RetireAt = slot, p.Cell(slot).RetireAt
	i.State = map[rotation.State]IssuerState{
		rotation.Staged: IssuerPrepared, rotation.Active: IssuerActive, rotation.Retiring: IssuerRetiring,
	}[p.Cell(slot).State]
}

// recordCA puts a CA's certificate on record among those its issuer, one of ours, signed.
func recordCA(tx Tx, by IssuerID, c *x509.Certificate, at time.Time, actor, subject string) error {
	_, err := Record(tx, Unrecorded{certificate: caCertificate(by, c, at)}, audit.Event{Actor: actor, Subject: subject})
	return err
}

func caCertificate(by IssuerID, c *x509.Certificate, at time.Time) Certificate {
	return Certificate{
		Issuer: by, Serial: SerialOf(c.SerialNumber), Thumbprint: verify.ThumbprintOf(c.Raw), KeyHash: verify.KeyHashOf(c.RawSubjectPublicKeyInfo),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Issued: at.UTC(), DER: c.Raw,
	}
}

// Promotion says how an issuer takes over.
type Promotion struct {
	// Overlap is how long the former issuer goes on signing CRLs and OCSP answers; nil: until
	// the last certificate it signed has ended.
	Overlap *time.Duration
	// Force allows an overlap that ends before that.
	Force bool
}

// Promote makes a prepared issuer the active one of its role and profile. The former one is
// Retiring from the same commit on: no process signs a device's certificate with it any
// more (see Tx.InsertCertificate). Conflict: "issuer-not-prepared", "issuer-key-elsewhere",
// "issuer-not-in-date", "issuer-in-use" (the overlap ends before the last certificate does).
func (a *Authority) Promote(ctx context.Context, actor string, id IssuerID, p Promotion) (Issuer, error) {
	next, err := a.readyIssuer(ctx, id)
	if err != nil {
		return Issuer{}, err
	}
	former, err := a.tailOf(ctx, func(i Issuer) bool {
		return i.State == IssuerActive && i.Role == next.Role && i.Profile == next.Profile
	})
	if err != nil {
		return Issuer{}, err
	}
	now := a.now().UTC()
	promoted := next.Issuer
	err = a.store.UpdateTrust(ctx, func(tx Tx) error {
		overlap, err := former.overlap(tx, p, now)
		if err != nil {
			return err
		}
		pair, err := tx.IssuerPair(next.Role, next.Profile)
		if err != nil {
			return err
		}
		if pair, err = pair.Promote(next.ref(), now, overlap); err != nil {
			return errNotPrepared(next.Issuer)
		}
		if was := former.issuer; was.ID != "" {
			was.follow(pair)
			if err := moveIssuer(tx, was, IssuerActive, actor, audit.IssuerRetiring, "", now); err != nil {
				return err
			}
		}
		promoted.follow(pair)
		return moveIssuer(tx, promoted, IssuerPrepared, actor, audit.IssuerPromoted, "", now)
	})
	if err != nil {
		return Issuer{}, err
	}
	return promoted, a.Reload(ctx)
}

func errNotPrepared(i Issuer) error {
	return fault.New(fault.Conflict, "issuer-not-prepared", "Only a prepared issuer can be promoted; this one is %s.", i.State).About("issuer " + string(i.ID))
}

// moveIssuer writes where an issuer stands now, with the ledger entry. A reason is for the
// Revoked.
func moveIssuer(tx Tx, i Issuer, was IssuerState, actor string, action audit.Action, reason Reason, now time.Time) error {
	if err := tx.MoveIssuer(i, was); err != nil {
		return err
	}
	body := map[string]any{"name": i.Name, "role": i.Role, "profile": i.Profile, "was": was}
	switch i.State {
	case IssuerRetiring:
		body["retireAt"] = i.RetireAt
	case IssuerRevoked:
		body["reason"] = reason
	}
	return tx.Append(audit.Event{At: now, Actor: actor, Action: action, Subject: "issuer:" + string(i.ID), Body: audit.Body(body)})
}

// tail is what is left of an issuer: until when certificates it signed are good. The long
// read is done ahead of the transaction that rests on it, which reads what came after.
type tail struct {
	issuer Issuer // zero: there is none
	good   time.Time
	last   int64
}

func (a *Authority) tailOf(ctx context.Context, is func(Issuer) bool) (t tail, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		rows, err := tx.Issuers()
		if err != nil {
			return err
		}
		t = tail{}
		at := slices.IndexFunc(rows, is)
		if at < 0 {
			return nil
		}
		t.issuer = rows[at]
		t.good, t.last, err = tx.LastExpiry(t.issuer.ID, 0)
		return err
	})
	return t, err
}

// end is when the last certificate below the issuer ends, a CA's of ours included.
func (t tail) end(tx Tx) (time.Time, error) {
	if t.issuer.ID == "" {
		return time.Time{}, nil
	}
	good, _, err := tx.LastExpiry(t.issuer.ID, t.last)
	if err != nil {
		return good, err
	}
	if t.good.After(good) {
		good = t.good
	}
	rows, err := tx.Issuers()
	if err != nil {
		return good, err
	}
	for _, below := range rows {
		if below.Parent != t.issuer.ID || below.ID == t.issuer.ID || below.State == IssuerRetired || below.State == IssuerRevoked {
			continue
		}
		if c, err := x509.ParseCertificate(below.Certificate); err == nil && c.NotAfter.After(good) {
			good = c.NotAfter
		}
	}
	return good, nil
}

// overlap is how long the former issuer stays: until its last certificate has ended, or as
// the operator says.
func (t tail) overlap(tx Tx, p Promotion, now time.Time) (time.Duration, error) {
	end, err := t.end(tx)
	if err != nil {
		return 0, err
	}
	needed := max(0, end.Sub(now))
	switch {
	case p.Overlap == nil:
		return needed, nil
	case *p.Overlap < needed && !p.Force:
		return 0, inUse(t.issuer.ID, end)
	}
	return max(0, *p.Overlap), nil
}

// readyIssuer is an issuer that could sign from now on. What is on record is read first: it
// may have been made by another process.
func (a *Authority) readyIssuer(ctx context.Context, id IssuerID) (*issuer, error) {
	if err := a.Reload(ctx); err != nil {
		return nil, err
	}
	next, now, about := a.current.Load().byID(id), a.now(), "issuer "+string(id)
	switch {
	case next == nil:
		return nil, noIssuer(id)
	case next.State != IssuerPrepared:
		return nil, errNotPrepared(next.Issuer)
	case next.Role == RoleIssuing && next.signer == nil && next.Upstream == "":
		return nil, fault.New(fault.Conflict, "issuer-key-elsewhere", "The issuer's key is not on this host.").About(about)
	case now.Before(next.certificate.NotBefore) || now.After(next.certificate.NotAfter):
		return nil, fault.New(fault.Conflict, "issuer-not-in-date", "The issuer's certificate is valid from %s to %s.",
			next.certificate.NotBefore.Format(time.RFC3339), next.certificate.NotAfter.Format(time.RFC3339)).About(about)
	}
	if late, is := next.signer.(*lateKey); is {
		if _, err := late.open(ctx); err != nil {
			return nil, err
		}
	}
	return next, nil
}

func inUse(id IssuerID, ends time.Time) error {
	return fault.New(fault.Conflict, "issuer-in-use", "Certificates of the issuer are good until %s; without it nobody learns that one is revoked.",
		ends.Format(time.RFC3339)).About("issuer " + string(id))
}

// Retire ends a Retiring issuer early, withdraws a Prepared one, and lets the Active one of
// a single profile retire without a successor: the issuer for all profiles takes over, and
// it is Retired when the last certificate it signed has ended. Conflict: "issuer-in-use"
// (certificates of it are good still, unless forced), "issuer-active" (nobody would take
// over), "issuer-ended" (it is Retired or Revoked already), "issuer-external".
func (a *Authority) Retire(ctx context.Context, actor string, id IssuerID, force bool) (Issuer, error) {
	last, err := a.tailOf(ctx, func(i Issuer) bool { return i.ID == id })
	if err != nil {
		return Issuer{}, err
	}
	if last.issuer.ID == "" {
		return Issuer{}, noIssuer(id)
	}
	now := a.now().UTC()
	var retired Issuer
	err = a.store.UpdateTrust(ctx, func(tx Tx) error {
		retired = last.issuer
		action, err := retired.retire(tx, last, force, now)
		if err != nil {
			return err
		}
		return moveIssuer(tx, retired, last.issuer.State, actor, action, "", now)
	})
	if err != nil {
		return Issuer{}, err
	}
	return retired, a.Reload(ctx)
}

// retire makes the move that Retire says.
func (i *Issuer) retire(tx Tx, last tail, force bool, now time.Time) (audit.Action, error) {
	about := "issuer " + string(i.ID)
	if i.Role == RoleExternal {
		return "", fault.New(fault.Conflict, "issuer-external", "Another authority's CA is not retired here.").About(about)
	}
	pair, err := tx.IssuerPair(i.Role, i.Profile)
	if err != nil {
		return "", err
	}
	end, err := last.end(tx)
	if err != nil {
		return "", err
	}
	switch i.State {
	case IssuerPrepared:
		pair = pair.Drop(i.ref())
	case IssuerRetiring:
		if _, held := pair.Find(i.ref()); held {
			pair, err = pair.Retire(i.ref())
		}
	case IssuerActive:
		general, gerr := tx.IssuerPair(RoleIssuing, "")
		if gerr != nil {
			return "", gerr
		}
		if i.Profile == "" || !hasActive(general) {
			return "", fault.New(fault.Conflict, "issuer-active", "Nobody would take over from the active issuer: promote another one.").About(about)
		}
		if pair, err = pair.Relieve(i.ref(), now, max(0, end.Sub(now))); err == nil {
			i.follow(pair)
			return audit.IssuerRetiring, nil
		}
	default:
		err = fault.New(fault.Conflict, "issuer-ended", "The issuer is %s already.", i.State).About(about)
	}
	// A prepared CA has signed for nobody but its own OCSP responder.
	if unused := i.State == IssuerPrepared && i.Role == RoleIssuing; err == nil && !unused && end.After(now) && !force {
		err = inUse(i.ID, end)
	}
	i.follow(pair)
	return audit.IssuerRetired, err
}

func hasActive(p rotation.Pair) bool {
	return p.Cell(rotation.Primary).State == rotation.Active || p.Cell(rotation.Secondary).State == rotation.Active
}

// SweepIssuers reads what others did, and retires the issuers whose time has come. It may
// run at any time and on several replicas.
func (a *Authority) SweepIssuers(ctx context.Context) error {
	if err := a.Reload(ctx); err != nil {
		return err
	}
	now, moved := a.now().UTC(), false
	for _, i := range a.current.Load().issuers {
		if i.State != IssuerRetiring || now.Before(i.RetireAt) {
			continue
		}
		retired := i.Issuer
		retired.State = IssuerRetired
		err := a.store.UpdateTrust(ctx, func(tx Tx) error {
			return moveIssuer(tx, retired, IssuerRetiring, issuersActor, audit.IssuerRetired, "", now)
		})
		if err != nil && fault.RuleOf(err) != "issuer-moved" { // else another replica was first
			return err
		}
		moved = true
	}
	if !moved {
		return nil
	}
	return a.Reload(ctx)
}
