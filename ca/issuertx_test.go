package ca_test

import (
	"context"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

// issuerRows are what memStore keeps for ca.IssuerTx.
type issuerRows struct {
	requests []ca.IssuerRequest
	cross    []ca.CrossCertificate
	notices  []string
}

func (r issuerRows) clone() issuerRows {
	return issuerRows{slices.Clone(r.requests), slices.Clone(r.cross), slices.Clone(r.notices)}
}

func (s *memStore) UpdateTrust(ctx context.Context, f func(ca.Tx) error) error {
	return s.Update(ctx, f)
}

// IssuerPair makes the pair by its own moves, as only the store restores one.
func (r *rows) IssuerPair(role ca.Role, profile string) (p rotation.Pair, err error) {
	cells := ca.Cells(r.issuers, role, profile)
	for _, s := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		ref := cells[s].Ref
		if cells[s].State == rotation.Empty {
			ref = rotation.Ref{byte(s)} // keeps the slot while the other is filled
		}
		if p, err = p.Stage(ref, time.Time{}, time.Time{}); err != nil {
			return p, err
		}
	}
	for _, c := range cells {
		switch c.State {
		case rotation.Retiring:
			p, _ = p.Promote(c.Ref, c.RetireAt, 0)
			p, err = p.Relieve(c.Ref, c.RetireAt, 0)
		}
		if err != nil {
			return p, err
		}
	}
	for s, c := range cells {
		switch c.State {
		case rotation.Active:
			p, err = p.Promote(c.Ref, time.Time{}, 0)
		case rotation.Empty:
			p = p.Drop(rotation.Ref{byte(s)})
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func (r *rows) MoveIssuer(i ca.Issuer, was ca.IssuerState) error {
	stored := r.issuer(i.ID)
	if stored.State != was {
		return fault.New(fault.Conflict, "issuer-moved", "")
	}
	for _, other := range r.issuers {
		if i.State == ca.IssuerActive && other.ID != i.ID && other.Role == i.Role && other.Profile == i.Profile && other.State == ca.IssuerActive {
			return fault.New(fault.Conflict, "issuer-active", "")
		}
	}
	stored.State, stored.Slot, stored.RetireAt = i.State, i.Slot, i.RetireAt
	return nil
}

func (r *rows) LastExpiry(issuer ca.IssuerID, after int64) (ends time.Time, last int64, err error) {
	for _, c := range r.certificates {
		if c.Issuer == issuer && c.Position > after {
			last = c.Position
			if c.NotAfter.After(ends) {
				ends = c.NotAfter
			}
		}
	}
	return ends, last, nil
}

func (r *rows) IssuerRequests() ([]ca.IssuerRequest, error) { return slices.Clone(r.requests), nil }

func (r *rows) InsertIssuerRequest(q ca.IssuerRequest) error {
	r.requests = append(r.requests, q)
	return nil
}

func (r *rows) DeleteIssuerRequest(id ca.IssuerID) error {
	at := slices.IndexFunc(r.requests, func(q ca.IssuerRequest) bool { return q.ID == id })
	if at < 0 {
		return fault.New(fault.NotFound, "issuer-request-not-found", "")
	}
	r.requests = slices.Delete(r.requests, at, at+1)
	return nil
}

func (r *rows) CrossCertificates() ([]ca.CrossCertificate, error) { return slices.Clone(r.cross), nil }

func (r *rows) InsertCrossCertificate(c ca.CrossCertificate) error {
	r.cross = append(r.cross, c)
	return nil
}

func (r *rows) Noticed(notice string) (bool, error) { return slices.Contains(r.notices, notice), nil }

func (r *rows) Notice(notice string, _ time.Time) error {
	if slices.Contains(r.notices, notice) {
		return fault.New(fault.Conflict, "notice-exists", "")
	}
	r.notices = append(r.notices, notice)
	return nil
}
