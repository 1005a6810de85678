package ca_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// memStore is a small real ca.Store. It runs every Update twice on copies and keeps
// the second, as a real one may. beforeCommit fails an Update that is then lost;
// afterCommit fails one that was kept all the same.
type memStore struct {
	mu           sync.Mutex
	rows         rows
	beforeCommit func() error
	afterCommit  func() error

	changes uint64 // Updates
	shared  bool   // another process may write
	views   int
	// afterView runs when a View has read, before its caller goes on.
	afterView func()
}

type rows struct {
	issuers      []ca.Issuer
	certificates []ca.Certificate
	shards       []ca.CRLShard
	crls         []ca.CRL
	ledger       []audit.Event
	upstream     upstreamRows
	responders   []ca.OCSPResponder
	issuerRows
}

func (r rows) clone() *rows {
	return &rows{
		slices.Clone(r.issuers), slices.Clone(r.certificates), slices.Clone(r.shards), slices.Clone(r.crls), slices.Clone(r.ledger),
		r.upstream.clone(), slices.Clone(r.responders), r.issuerRows.clone(),
	}
}

func (s *memStore) View(_ context.Context, f func(ca.Tx) error) error {
	s.mu.Lock()
	s.views++
	err := f(s.rows.clone())
	after := s.afterView
	s.mu.Unlock()
	if after != nil {
		after()
	}
	return err
}

func (s *memStore) Update(_ context.Context, f func(ca.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = f(s.rows.clone())
	next := s.rows.clone()
	if err := f(next); err != nil {
		return err
	}
	if s.beforeCommit != nil {
		if err := s.beforeCommit(); err != nil {
			return err
		}
	}
	s.rows = *next
	s.changes++
	if s.afterCommit != nil {
		return s.afterCommit()
	}
	return nil
}

func (s *memStore) TrustChanges() (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes, !s.shared
}

func (s *memStore) read() *rows {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows.clone()
}

func (r *rows) issuer(id ca.IssuerID) *ca.Issuer {
	i := slices.IndexFunc(r.issuers, func(i ca.Issuer) bool { return i.ID == id })
	return &r.issuers[i]
}

func (r *rows) shard(id ca.IssuerID, shard int) *ca.CRLShard {
	i := slices.IndexFunc(r.shards, func(s ca.CRLShard) bool { return s.Issuer == id && s.Shard == shard })
	return &r.shards[i]
}

func (r *rows) CRLShards() ([]ca.CRLShard, error) { return slices.Clone(r.shards), nil }

func (r *rows) Issuers() ([]ca.Issuer, error) { return slices.Clone(r.issuers), nil }

func (r *rows) InsertIssuer(i ca.Issuer) error {
	for _, other := range r.issuers {
		if other.ID == i.ID || (i.Role != ca.RoleExternal && other.Role == i.Role && other.Profile == i.Profile && i.State == ca.IssuerActive && other.State == ca.IssuerActive) {
			return fault.New(fault.Conflict, "issuer-active", "")
		}
	}
	r.issuers = append(r.issuers, i)
	r.shards = append(r.shards, ca.CRLShard{Issuer: i.ID})
	return nil
}

func (r *rows) InsertCertificate(c ca.Certificate) error {
	if _, err := r.Certificate(c.Issuer, c.Serial); err == nil {
		return fault.New(fault.Conflict, "serial-taken", "")
	}
	ended := func(i ca.Issuer) bool { return i.ID == c.Issuer && i.State != ca.IssuerActive }
	if !c.RegistrationID.IsZero() && slices.ContainsFunc(r.issuers, ended) {
		return fault.New(fault.Conflict, "issuer-not-active", "")
	}
	c.Position = int64(len(r.certificates) + 1)
	r.certificates = append(r.certificates, c)
	return nil
}

func (r *rows) Certificate(issuer ca.IssuerID, serial ca.Serial) (ca.Certificate, error) {
	for _, c := range r.certificates {
		if c.Issuer == issuer && c.Serial == serial {
			return c, nil
		}
	}
	return ca.Certificate{}, fault.New(fault.NotFound, "no-certificate", "")
}

func (r *rows) MarkRevoked(c ca.Certificate) error {
	for i := range r.certificates {
		if r.certificates[i].Thumbprint == c.Thumbprint {
			r.certificates[i].RevokedAt, r.certificates[i].Reason = c.RevokedAt, c.Reason
			r.shard(c.Issuer, c.Shard).Revocations++
		}
	}
	return nil
}

func (r *rows) RevokedCertificates(issuer ca.IssuerID, shard int, notAfter time.Time, after ca.Serial, limit int) ([]ca.Revocation, error) {
	var out []ca.Revocation
	for _, c := range r.certificates {
		if c.Issuer == issuer && c.Shard == shard && c.IsRevoked() && !c.NotAfter.Before(notAfter) && c.Serial > after {
			out = append(out, ca.Revocation{Serial: c.Serial, RevokedAt: c.RevokedAt, Reason: c.Reason})
		}
	}
	slices.SortFunc(out, func(a, b ca.Revocation) int {
		if a.Serial < b.Serial {
			return -1
		}
		return 1
	})
	return out[:min(limit, len(out))], nil
}

func (r *rows) InsertCRL(c ca.CRL, deltas ...ca.CRL) error {
	s := r.shard(c.Issuer, c.Shard)
	if c.Number <= s.Number {
		return fault.New(fault.Conflict, "crl-number", "")
	}
	s.Number, s.Covers = c.Number, c.Covers
	if c.Base == 0 {
		s.Next = c.NextUpdate
	}
	r.crls = append(append(r.crls, c), deltas...)
	return nil
}

func (r *rows) LatestCRL(issuer ca.IssuerID, shard int) (ca.CRL, error) {
	for _, c := range slices.Backward(r.crls) {
		if c.Issuer == issuer && c.Shard == shard && c.Base == 0 {
			return c, nil
		}
	}
	return ca.CRL{}, fault.New(fault.NotFound, "no-crl", "")
}

func (r *rows) Append(e audit.Event) error {
	r.ledger = append(r.ledger, e)
	return nil
}

// actions is the ledger as one line per entry.
func (r *rows) actions() (out []audit.Action) {
	for _, e := range r.ledger {
		out = append(out, e.Action)
	}
	return out
}

func wantActions(t *testing.T, s *memStore, want ...audit.Action) {
	t.Helper()
	if got := s.read().actions(); !slices.Equal(got, want) {
		t.Errorf("the ledger reads %v, want %v", got, want)
	}
}
