package store

import (
	"context"
	"hash/maphash"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
)

// DB is the store of one ID scope on one engine.
type DB struct {
	engine Engine
	seed   maphash.Seed // of Facts.Digest: good for the life of this DB
	facts  factsStatements
	fleets fleets
}

// New makes a DB of a migrated engine. The engine stays the caller's to close.
func New(e Engine) *DB { return &DB{engine: e, seed: maphash.MakeSeed()} }

// CA is the store as package ca asks for it.
func (db *DB) CA() ca.Store { return domain[ca.Tx]{db, Devices, func(t *tx) ca.Tx { return t }} }

// CAJobs is CA for work that no caller waits for: devices go first.
func (db *DB) CAJobs() ca.Store { return domain[ca.Tx]{db, Jobs, func(t *tx) ca.Tx { return t }} }

// Provisioning is the store as package provisioning asks for it.
func (db *DB) Provisioning() provisioning.Store {
	return domain[provisioning.Tx]{db, Devices, func(t *tx) provisioning.Tx { return t }}
}

// ProvisioningJobs is Provisioning for work that no caller waits for: devices go first.
func (db *DB) ProvisioningJobs() provisioning.Store {
	return domain[provisioning.Tx]{db, Jobs, func(t *tx) provisioning.Tx { return t }}
}

// Stats are the engine's counters.
func (db *DB) Stats() Stats { return db.engine.Stats() }

// domain is a DB as one domain package sees it. Go does not turn a func(T) error into a
// func(*tx) error, so this does.
type domain[T any] struct {
	db   *DB
	lane Lane
	as   func(*tx) T
}

func (d domain[T]) View(ctx context.Context, f func(T) error) error {
	return d.db.view(ctx, func(t *tx) error { return f(d.as(t)) })
}

func (d domain[T]) Update(ctx context.Context, f func(T) error) error {
	return d.db.update(ctx, d.lane, func(t *tx) error { return f(d.as(t)) })
}

func (d domain[T]) UpdateTrust(ctx context.Context, f func(T) error) error {
	return d.db.update(ctx, Trust, func(t *tx) error { return f(d.as(t)) })
}

func (db *DB) view(ctx context.Context, f func(*tx) error) error {
	return db.engine.View(ctx, db.run(f))
}

func (d domain[T]) TrustChanges() (uint64, bool) { return d.db.engine.TrustChanges() }

var moveEpoch = statement("UPDATE trust_epoch SET value = value + 1").trust()

func (db *DB) update(ctx context.Context, lane Lane, f func(*tx) error) error {
	return db.engine.Update(ctx, lane, db.run(func(t *tx) error {
		t.trust = lane == Trust
		if err := f(t); err != nil || !t.trust {
			return err
		}
		// Transactions that decided before this one notice by the epoch (see Unmoved).
		return t.exec(moveEpoch)
	}))
}

func (db *DB) run(f func(*tx) error) func(Conn) error {
	return func(c Conn) error {
		t := tx{conn: c, db: db}
		if err := f(&t); err != nil {
			return err
		}
		return t.failed
	}
}
