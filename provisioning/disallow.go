package provisioning

import (
	"context"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// DisallowRequest says what is compromised: a certificate, as DER, or by what Muster knows it by.
type DisallowRequest struct {
	Certificate []byte            // DER; nil: by thumbprint, or issuer and serial
	Thumbprint  verify.Thumbprint // SHA-256
	Issuer      ca.IssuerID       // of the serial; "": whichever has it. Without a serial: a CA of ours
	Serial      ca.Serial
	Scope       DisallowScope // "": below for a CA, else certificate
	Reason      ca.Reason     // "": cACompromise below a CA, else keyCompromise
	Since       time.Time     // as Incident.Since
	AtMost      *int64        // devices that may rest on it, whatever the preview said; nil: as many as it said
	// StopsIssuing has it done though no issuer of ours is left to sign for a profile.
	StopsIssuing bool
}

// DisallowPreview is what a disallowance would do. ID goes with the act, which is refused when it
// would do more by then.
type DisallowPreview struct {
	ID          string
	Expires     time.Time
	Incident           // as it would begin: Entries and Revoked, without ID
	Known       bool   // it is on record; else it is kept as a block for what may come
	Ours        bool   // it was issued here
	AlreadyBy   string // the id of the disallowance that is in force; "": none is
	Hubs        []HubCount
	WouldEnter  []Owner // groups above it, by which its devices would come in if only what holds it were deleted
	SameKey     []SameKey
	IssuedSince int64 // certificates of ours that fall by Since
	CRL         CRLGrowth
	Pinned      int64       // individual enrollments that pin a leaf signed under its name: they are refused, and stay
	Fallen      []ca.Issuer // issuers of ours that are revoked, as they stand now
	Stops       []ca.Stop   // what nobody signs for any more then
	Lost        int64       // certificates in devices' slots that these, or others with their keys, signed: none is good then

	c    compromise
	fall []ca.Certificate // Revoked
	seq  int64            // what the ledger has behind it came after the preview
}

// previewLife is how long a preview stands for an act.
const previewLife = time.Hour

// PreviewDisallow says what Disallow would do, by the same code, and does nothing.
//
// Errors: Malformed with the field; NotFound "certificate-unknown" for a thumbprint or serial
// that was never seen here; Conflict "own-issuer" for a CA of ours without all below it.
func (e *Engine) PreviewDisallow(ctx context.Context, r DisallowRequest) (p DisallowPreview, err error) {
	now := e.now()
	settled, err := e.ledger.Horizon(ctx)
	if err != nil {
		return p, err
	}
	err = e.store.View(ctx, func(tx Tx) error {
		if p, err = e.foresee(tx, r, now); err != nil {
			return err
		}
		p.seq = settled
		c := p.c
		if p.Hubs, err = tx.CountRestingOn(c.restsOn()); err != nil {
			return err
		}
		for _, h := range p.Hubs {
			p.Devices += h.Devices
		}
		if err := e.waits(tx, p.Hubs, now); err != nil {
			return err
		}
		if p.WouldEnter, err = above(tx, c.link, Owner{}); err != nil {
			return err
		}
		if p.SameKey, err = c.sameKey(tx); err != nil {
			return err
		}
		if c.link.Cert.IsCA {
			if p.Pinned, err = tx.CountEntriesSignedBy(verify.NameHash(c.link.Cert.RawSubject), Individual); err != nil {
				return err
			}
		}
		if own := c.issuers(); own != nil {
			if p.Lost, err = tx.CountInUse(own); err != nil {
				return err
			}
		}
		var since []ShardCount
		if !p.Since.IsZero() && c.link.Cert.IsCA {
			since, err = tx.CountIssuedSince(c.restsOn(), p.Since)
		}
		p.IssuedSince, p.CRL = certificatesOf(since), p.growth(since)
		return err
	})
	p.Expires = now.Add(previewLife)
	p.ID = e.sealPreview(p)
	return p, err
}

// foresee is what the preview and the act have in common: what is meant, and what becomes of
// the entries that hold it.
func (e *Engine) foresee(tx Tx, r DisallowRequest, now time.Time) (p DisallowPreview, err error) {
	der, ours, err := e.meant(tx, r)
	if err != nil {
		return p, err
	}
	c, err := newCompromise(der, r.Scope)
	if err != nil {
		return p, fault.New(fault.Malformed, "certificate-malformed", "this is no X.509 certificate").At("/certificate").Because(err)
	}
	isCA := c.link.Cert.IsCA && c.link.Cert.BasicConstraintsValid
	if c.scope == "" {
		if c.scope = DisallowCertificate; isCA {
			c.scope = DisallowBelow
		}
	}
	switch {
	case !slices.Contains([]DisallowScope{DisallowCertificate, DisallowKey, DisallowBelow}, c.scope):
		return p, fault.New(fault.Malformed, "scope-unknown", "a scope is one of certificate, key, below").At("/scope")
	case c.scope == DisallowBelow && !isCA:
		return p, fault.New(fault.Malformed, "scope-not-a-ca", "nothing is below a certificate that is no CA: its scope is certificate or key").At("/scope")
	case c.scope == DisallowKey && c.link.Cert.PublicKey == nil:
		return p, fault.New(fault.Malformed, "scope-key-unreadable", "the key of this certificate is of a kind that cannot be read, so no device would be known by it").At("/scope")
	case !r.Since.IsZero() && r.Since.After(now):
		return p, fault.New(fault.Malformed, "since-in-future", "it cannot have been stolen later than now").At("/since")
	}
	if err := c.readFall(tx); err != nil {
		return p, err
	}
	own := len(c.fall.Issuers) > 0
	if own && c.scope != DisallowBelow {
		return p, fault.New(fault.Conflict, "own-issuer", "this is a CA of ours: it is disallowed with all it signed (scope below)").At("/scope")
	}
	reason := r.Reason
	if reason == "" {
		if reason = ca.KeyCompromise; isCA {
			reason = ca.CACompromise
		}
	} else if reason, err = ca.ParseReason(string(reason)); err != nil {
		return p, err
	}
	p.c, p.Ours, p.Stops = c, own || ours != nil, c.fall.Stops
	for _, i := range c.fall.Issuers {
		if i.State != ca.IssuerRevoked {
			p.Fallen = append(p.Fallen, i)
		}
	}
	p.Incident = Incident{
		Scope: c.scope, Reason: reason, Subject: c.link.Cert.Subject.String(), Certificate: der, Since: r.Since.UTC().Truncate(time.Microsecond), Created: now,
		Issuers: c.issuers(),
	}
	_, err = tx.KnownCertificate(c.link.Thumbprint)
	if p.Known = own || err == nil; err != nil && !fault.Is(err, fault.NotFound) {
		return p, err
	}
	if p.AlreadyBy, err = tx.IncidentInForce(c.scope, der); err != nil {
		return p, err
	}
	if !own { // the certificate of an issuer is revoked with it
		if p.fall, err = c.fallen(tx, ours, p.Since, now); err != nil {
			return p, err
		}
		p.Revoked = int64(len(p.fall))
	}
	p.Entries, err = c.effects(tx, now)
	return p, err
}

// meant finds the certificate of a request; issued is nil when it is not one of ours.
func (e *Engine) meant(tx Tx, r DisallowRequest) (der []byte, issued *ca.Certificate, err error) {
	switch {
	case r.Certificate != nil:
		der = r.Certificate
	case r.Serial != "":
		c, err := findCertificate(tx, r.Issuer, r.Serial)
		if err != nil {
			return nil, nil, err
		}
		r.Thumbprint = c.Thumbprint
		fallthrough
	case !r.Thumbprint.IsZero():
		if der, err = tx.KnownCertificate(r.Thumbprint); fault.Is(err, fault.NotFound) {
			return nil, nil, fault.New(fault.NotFound, "certificate-unknown", "no certificate of this thumbprint was ever seen here: give the certificate itself")
		}
		if err != nil {
			return nil, nil, err
		}
	case r.Issuer != "":
		if der, err = issuerCertificate(tx, r.Issuer); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, fault.New(fault.Malformed, "certificate-missing", "say what is compromised: the certificate, its thumbprint, or issuer and serial")
	}
	issued, err = issuedAs(tx, verify.ThumbprintOf(der))
	return der, issued, err
}

// Disallow refuses what is compromised everywhere: from its commit on no door admits it, on any
// replica, and the built-in hub lets none of its devices in. What others know of them follows
// (SweepIncidents). The preview is that of PreviewDisallow; doing it twice is one incident.
//
// Errors: as PreviewDisallow; Conflict "preview-needed", "preview-expired", "effect-grew", "more-devices-than-expected",
// "disallowed-otherwise" for one in force with another Since, "last-issuer" where it ends issuing and StopsIssuing does not say so.
func (e *Engine) Disallow(ctx context.Context, actor string, r DisallowRequest, preview string) (done Incident, err error) {
	now := e.now()
	id := timedID(now)
	seen, err := e.openPreview(preview)
	if err != nil {
		return done, err
	}
	grown, err := e.grown(ctx, r, seen, now)
	if err != nil {
		return done, err
	}
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		p, err := e.foresee(tx, r, now)
		if err != nil {
			return err
		}
		if p.AlreadyBy != "" {
			if done, err = tx.Incident(p.AlreadyBy); err == nil && !p.Since.IsZero() && !p.Since.Equal(done.Since) {
				err = fault.New(fault.Conflict, "disallowed-otherwise", "it is disallowed already, with another time of theft or none: lift that first").About("disallowance " + done.ID)
			}
			return err
		}
		if len(p.Stops) > 0 && !r.StopsIssuing {
			return lastIssuer(p.Stops)
		}
		p.Devices, p.IssuedSince = grown.Devices, grown.IssuedSince
		if r.AtMost != nil {
			if p.Devices > *r.AtMost {
				return fault.New(fault.Conflict, "more-devices-than-expected", "%d devices rest on it, more than the %d expected", p.Devices, *r.AtMost)
			}
			seen.devices = p.Devices
		}
		if err := seen.covers(p, now); err != nil {
			return err
		}
		done = p.Incident
		done.ID, done.Actor, done.Devices = id, actor, 0
		return e.carryOutDisallowance(tx, p, &done)
	})
	if err == nil && len(done.Issuers) > 0 {
		e.heedIssuers(ctx)
	}
	return done, err
}

// grown counts again what is counted in a preview: of devices those that are new since, so that
// the act does not read all there are; of certificates issued since a theft all.
func (e *Engine) grown(ctx context.Context, r DisallowRequest, seen seenEffect, now time.Time) (p DisallowPreview, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if p, err = e.foresee(tx, r, now); err != nil {
			return err
		}
		more, err := tx.CountNewRestingOn(p.c.restsOn(), seen.seq, seen.made())
		if err != nil {
			return err
		}
		p.Devices = seen.devices + more
		if !p.Since.IsZero() && p.c.link.Cert.IsCA {
			var since []ShardCount
			since, err = tx.CountIssuedSince(p.c.restsOn(), p.Since)
			p.IssuedSince = certificatesOf(since)
		}
		return err
	})
	return p, err
}

// carryOutDisallowance writes all that the act is.
func (e *Engine) carryOutDisallowance(tx Tx, p DisallowPreview, i *Incident) error {
	if _, err := ca.RevokeFallen(tx, p.c.fall.Issuers, i.Actor, i.Reason, i.Created); err != nil {
		return err
	}
	for _, x := range p.fall {
		if err := e.revokeFor(tx, x, *i, i.Actor, i.Created); err != nil {
			return err
		}
	}
	bearers, err := p.bearers(tx)
	if err != nil {
		return err
	}
	i.Devices = int64(len(bearers))
	if err := tx.InsertIncident(*i); err != nil {
		return err
	}
	for _, reg := range bearers {
		if err := receive(tx, i.ID, reg, i.Created); err != nil {
			return err
		}
	}
	for _, row := range p.c.rows(*i) {
		if err := tx.InsertDisallowance(row); err != nil {
			return err
		}
	}
	for _, x := range i.Entries {
		if err := e.applyEffect(tx, x, i.Actor, i.Created); err != nil {
			return err
		}
	}
	return tx.Append(i.event(audit.Disallowed, i.Actor, i.Created))
}

// bearers are the devices of what is revoked in the act itself, as they are after it.
func (p DisallowPreview) bearers(tx Tx) (list []Registration, err error) {
	seen := map[verify.RegistrationID]bool{{}: true}
	for _, x := range p.fall {
		if seen[x.RegistrationID] {
			continue
		}
		seen[x.RegistrationID] = true
		reg, err := tx.Registration(x.RegistrationID)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, reg)
	}
	return list, nil
}

// fallen are certificates of ours that are revoked in the act itself: the one that is meant; those
// with its key if that is meant, whosoever they are; and of its device those that it led to since it
// was stolen, whatever the device came with later (scenarios I13).
func (c compromise) fallen(tx Tx, ours *ca.Certificate, since, now time.Time) (list []ca.Certificate, err error) {
	if ours != nil && ours.RevokedAt.IsZero() {
		list = append(list, *ours)
	}
	if c.link.Cert.IsCA {
		return list, nil
	}
	if c.scope == DisallowKey {
		same, err := tx.GoodWithKey(c.link.KeyHash, now)
		if err != nil {
			return nil, err
		}
		for _, x := range same {
			if x.Thumbprint != c.link.Thumbprint {
				list = append(list, x)
			}
		}
	}
	id, err := verify.ParseRegistrationID(c.link.Cert.Subject.CommonName)
	if err != nil {
		return list, nil
	}
	led := map[verify.Thumbprint]bool{}
	if !since.IsZero() {
		err = descendants(tx, id, c.link.Thumbprint, 0, func(d Descendant) bool {
			led[d.Thumbprint] = !d.Issued.Before(since)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	good, err := tx.GoodCertificates(id, now)
	for _, x := range good {
		listed := x.Thumbprint == c.link.Thumbprint || c.scope == DisallowKey && x.KeyHash == c.link.KeyHash
		if led[x.Thumbprint] && !listed {
			list = append(list, x)
		}
	}
	return list, err
}

// revokeFor revokes a certificate of ours because of an incident: it leaves its device's pair, and
// what hubs hold of it.
func (e *Engine) revokeFor(tx Tx, c ca.Certificate, i Incident, actor string, now time.Time) error {
	event := audit.Event{At: now, Actor: actor, Subject: "certificate:" + string(c.Serial),
		Body: audit.Body(map[string]any{"registrationId": c.RegistrationID.String(), "disallowance": i.ID})}
	if _, err := ca.RevokeIn(tx, c, i.leafReason(), event, now); err != nil {
		return err
	}
	return first(tx.DropHubThumbprint(thumbprintText(c.Thumbprint[:]), now), dropFromPair(tx, c, now))
}

func (i Incident) event(action audit.Action, actor string, now time.Time) audit.Event {
	thumb := verify.ThumbprintOf(i.Certificate)
	return audit.Event{At: now, Actor: actor, Action: action, Subject: "disallowance:" + i.ID, Body: audit.Body(map[string]any{
		"sha256": thumb.String(), "scope": string(i.Scope), "reason": string(i.Reason), "entries": len(i.Entries), "devices": i.Devices, "revoked": i.Revoked,
		"issuers": len(i.Issuers),
	})}
}

// LiftDisallowance ends what a disallowance refuses, for good: it brings back no certificate that
// was revoked and no slot that was emptied, and enables no entry. Lifting twice is lifting once.
func (e *Engine) LiftDisallowance(ctx context.Context, actor, id string) (i Incident, err error) {
	now := e.now()
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		if i, err = tx.Incident(id); err != nil || !i.LiftedAt.IsZero() {
			return err
		}
		was := i
		i.LiftedAt, i.LiftedBy = now, actor
		i.Cursor, i.Passed, i.Done = "", time.Time{}, time.Time{} // hubs are to be told again
		return first(tx.LiftDisallowances(id, now), tx.MoveIncident(was, i), tx.Append(i.event(audit.DisallowLifted, actor, now)))
	})
	return i, err
}
