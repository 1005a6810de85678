package ca_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// upstreamRows is the part of memStore that upstreams need.
type upstreamRows struct {
	intents     []ca.Intent
	revocations []ca.UpstreamRevocation
}

func (u upstreamRows) clone() upstreamRows {
	return upstreamRows{slices.Clone(u.intents), slices.Clone(u.revocations)}
}

func (r *rows) InsertIntent(i ca.Intent) error {
	r.upstream.intents = append(r.upstream.intents, i)
	return nil
}

func (r *rows) intent(id string) *ca.Intent {
	i := slices.IndexFunc(r.upstream.intents, func(i ca.Intent) bool { return i.ID == id })
	if i < 0 {
		return nil
	}
	return &r.upstream.intents[i]
}

func (r *rows) Intent(id string) (ca.Intent, error) {
	if i := r.intent(id); i != nil {
		return *i, nil
	}
	return ca.Intent{}, fault.New(fault.NotFound, "intent-not-found", "")
}

func (r *rows) Intents(f ca.IntentFilter) (out []ca.Intent, _ error) {
	for _, i := range r.upstream.intents {
		if (f.Issuer == "" || f.Issuer == i.Issuer) && (f.State == "" || f.State == i.State) && (f.Before.IsZero() || i.Created.Before(f.Before)) &&
			(!f.Unended || i.State == ca.IntentOpen || i.State == ca.IntentOrphaned) {
			out = append(out, i)
		}
	}
	return out, nil
}

func (r *rows) UpdateIntent(next ca.Intent, was ca.IntentState) error {
	i := r.intent(next.ID)
	if i == nil || i.State != was || (next.State == ca.IntentOpen) != next.Settled.IsZero() {
		return fault.New(fault.Conflict, "intent-settled", "")
	}
	*i = next
	return nil
}

func (r *rows) CloseIntent(id string, at time.Time) error {
	i := r.intent(id)
	if i == nil || i.State != ca.IntentOpen {
		return fault.New(fault.Conflict, "intent-settled", "")
	}
	i.State, i.Settled = ca.IntentIssued, at
	return nil
}

func (r *rows) TellUpstream(c ca.Certificate, at time.Time) error {
	if r.issuer(c.Issuer).Upstream == "" {
		return nil
	}
	return r.InsertUpstreamRevocation(ca.UpstreamRevocation{Issuer: c.Issuer, Serial: c.Serial, Reason: c.Reason, Certificate: c.DER, Created: at, Next: at})
}

func (r *rows) revocation(issuer ca.IssuerID, serial ca.Serial) *ca.UpstreamRevocation {
	i := slices.IndexFunc(r.upstream.revocations, func(u ca.UpstreamRevocation) bool { return u.Issuer == issuer && u.Serial == serial })
	if i < 0 {
		return nil
	}
	return &r.upstream.revocations[i]
}

func (r *rows) InsertUpstreamRevocation(u ca.UpstreamRevocation) error {
	if r.revocation(u.Issuer, u.Serial) == nil {
		r.upstream.revocations = append(r.upstream.revocations, u)
	}
	return nil
}

func (r *rows) UpdateUpstreamRevocation(u ca.UpstreamRevocation) error {
	*r.revocation(u.Issuer, u.Serial) = u
	return nil
}

func (r *rows) DueUpstreamRevocations(issuer ca.IssuerID, intent string, now time.Time, limit int) (out []ca.UpstreamRevocation, _ error) {
	for _, u := range r.upstream.revocations {
		if u.Issuer == issuer && (intent == "" || u.Intent == intent) && u.Told.IsZero() && !u.Next.After(now) {
			out = append(out, u)
		}
	}
	slices.SortStableFunc(out, func(a, b ca.UpstreamRevocation) int { return cmp.Compare(a.Next.UnixNano(), b.Next.UnixNano()) })
	return out[:min(limit, len(out))], nil
}

func (r *rows) UpstreamBacklog() (b ca.UpstreamBacklog, _ error) {
	for _, i := range r.upstream.intents {
		switch i.State {
		case ca.IntentOpen:
			b.Open++
		case ca.IntentOrphaned:
			b.Orphaned++
		}
	}
	for _, u := range r.upstream.revocations {
		if u.Told.IsZero() {
			b.Revocations++
		}
	}
	return b, nil
}
