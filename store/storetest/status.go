package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func status(t *testing.T, open Open) {
	t.Run("shards are given away up to their cap, and end with their last certificate", shardRooms(open))
	t.Run("replicas that take room at once never take too much", shardRush(open))
	t.Run("delta lists are beside the whole ones and move nothing but number and cover", deltas(open))
	t.Run("old lists are deleted, the oldest first, and those named stay", pruning(open))
	t.Run("the status of a certificate is read from its row", certificateStatus(open))
	t.Run("one OCSP responder stands for an issuer, and only who saw it replaces it", responders(open))
}

func shardRooms(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		absent(w, func(tx provisioning.Tx) (ca.CRLShard, error) { return tx.NewestShard(i.ID) })
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		newest := func(tx provisioning.Tx) (ca.CRLShard, error) { return tx.NewestShard(i.ID) }
		same(w, view(w, newest), ca.CRLShard{Issuer: i.ID})
		s := ca.CRLShard{Issuer: i.ID, Shard: 1, Issued: 10, Ends: w.now, Address: "http://pki.example/1.crl"}
		w.update(func(tx provisioning.Tx) error { return tx.InsertShard(s) })
		w.refused(fault.Conflict, "shard-exists", func(tx provisioning.Tx) error { return tx.InsertShard(s) })
		w.refused(fault.NotFound, "", func(tx provisioning.Tx) error {
			return tx.InsertShard(ca.CRLShard{Issuer: "00000000000000ff", Shard: 1})
		})
		same(w, view(w, newest), s)
		take := func(n int64, ends time.Time) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.TakeFromShard(s, n, 30, ends) }
		}
		w.update(take(10, w.now.Add(time.Hour)))
		w.update(take(10, w.now.Add(-time.Hour)))
		w.refused(fault.Conflict, "shard-full", take(1, w.now))
		s.Issued, s.Ends = 30, w.now.Add(time.Hour)
		same(w, view(w, newest), s)
		same(w, view(w, func(tx provisioning.Tx) (ca.CRLShard, error) { return tx.CRLShard(i.ID, 0) }), ca.CRLShard{Issuer: i.ID})
		absent(w, func(tx provisioning.Tx) (ca.CRLShard, error) { return tx.CRLShard(i.ID, 2) })
		Check(t, w.db)
	}
}

func shardRush(open Open) func(*testing.T) {
	return func(t *testing.T) {
		const block, room, takers = 4, 16, 24
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		var all sync.WaitGroup
		for range takers {
			all.Go(func() {
				for {
					err := w.store.Update(bg, func(tx provisioning.Tx) error {
						s, err := tx.NewestShard(i.ID)
						if err != nil {
							return err
						}
						if s.Shard > 0 && s.Issued+block <= room {
							return tx.TakeFromShard(s, block, room, w.now)
						}
						return tx.InsertShard(ca.CRLShard{Issuer: i.ID, Shard: s.Shard + 1, Issued: block, Ends: w.now, Address: "x"})
					})
					if fault.Is(err, fault.Conflict) {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					return
				}
			})
		}
		all.Wait()
		var given int64
		for _, s := range view(w, provisioning.Tx.CRLShards) {
			if s.Issued > room {
				t.Errorf("shard %d has %d certificates", s.Shard, s.Issued)
			}
			given += s.Issued
		}
		if given != block*takers {
			t.Errorf("%d places are given away, want %d", given, block*takers)
		}
	}
}

// crlsOf is an issuer, and a way to store CRLs of its shard 0.
func crlsOf(w *world) (ca.Issuer, func(number, base int64) ca.CRL) {
	i := w.issuer(1)
	w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
	return i, func(number, base int64) ca.CRL {
		return ca.CRL{
			Issuer: i.ID, Number: number, Base: base, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Duration(number) * time.Hour),
			DER: fmt.Append(nil, number, "/", base),
		}
	}
}

func deltas(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i, crl := crlsOf(w)
		insert := func(c ca.CRL, deltas ...ca.CRL) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.InsertCRL(c, deltas...) }
		}
		latest := func(tx provisioning.Tx) (ca.CRL, error) { return tx.LatestCRL(i.ID, 0) }
		delta := func(tx provisioning.Tx) (ca.CRL, error) { return tx.LatestDelta(i.ID, 0) }
		w.update(insert(crl(1, 0)))
		absent(w, delta)
		w.update(insert(crl(2, 1)))
		same(w, view(w, latest), crl(1, 0))
		same(w, view(w, delta), crl(2, 1))
		if row := view(w, provisioning.Tx.CRLShards)[0]; row.Number != 2 || !row.Next.Equal(w.now.Add(time.Hour)) {
			t.Errorf("number %d, the next whole one by %v", row.Number, row.Next)
		}
		w.refused(fault.Conflict, "crl-number", insert(crl(2, 1)))
		w.update(insert(crl(3, 0), crl(3, 1)))
		same(w, view(w, latest), crl(3, 0))
		same(w, view(w, delta), crl(3, 1))
		oldest := func(at time.Duration) func(provisioning.Tx) (ca.CRL, error) {
			return func(tx provisioning.Tx) (ca.CRL, error) { return tx.OldestCRL(i.ID, 0, w.now.Add(at)) }
		}
		same(w, view(w, oldest(0)), crl(1, 0))
		same(w, view(w, oldest(time.Hour)), crl(3, 0)) // at its very nextUpdate a list is over
		absent(w, oldest(3*time.Hour))
		Check(t, w.db)
	}
}

func pruning(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i, crl := crlsOf(w)
		for n := int64(1); n <= 260; n++ {
			c := crl(n, 0)
			if n%2 == 0 {
				c = crl(n, n-1)
			}
			w.update(func(tx provisioning.Tx) error { return tx.InsertCRL(c) })
		}
		left := func() (n int) {
			w.Helper()
			for number := int64(1); number <= 260; number++ {
				// The oldest that is left, seen through its own nextUpdate.
				if c, err := oldestFrom(w, i.ID, number); err == nil && c.Number == number {
					n++
				}
			}
			return n
		}
		prune := func(whole, deltas int64) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.PruneCRLs(i.ID, 0, whole, deltas) }
		}
		w.update(prune(251, 259))
		if got := left(); got != 80 {
			t.Errorf("%d whole lists are left after the first hundred are gone, want 80", got)
		}
		w.update(prune(251, 259))
		w.update(prune(251, 259))
		w.update(prune(251, 259))
		if got := left(); got != 5 {
			t.Errorf("%d whole lists are left, want those from 251", got)
		}
		same(w, view(w, func(tx provisioning.Tx) (ca.CRL, error) { return tx.LatestDelta(i.ID, 0) }), crl(260, 259))
		Check(t, w.db)
	}
}

// oldestFrom is the oldest whole list that is good an instant before list number n ends.
func oldestFrom(w *world, id ca.IssuerID, n int64) (c ca.CRL, err error) {
	err = w.store.View(bg, func(tx provisioning.Tx) (err error) {
		c, err = tx.OldestCRL(id, 0, w.now.Add(time.Duration(n)*time.Hour-time.Second))
		return err
	})
	return c, err
}

func certificateStatus(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i, other := w.issuer(1), w.issuer(2)
		other.State = ca.IssuerRetired
		c := w.certificate(i, "dev-1")
		w.update(func(tx provisioning.Tx) error {
			return errors.Join(w.create(tx, i), w.create(tx, other), w.record(tx, c))
		})
		read := func(id ca.IssuerID, serial ca.Serial) func(provisioning.Tx) (ca.Revocation, error) {
			return func(tx provisioning.Tx) (ca.Revocation, error) { return tx.CertificateStatus(id, serial) }
		}
		same(w, view(w, read(i.ID, c.Serial)), ca.Revocation{Serial: c.Serial})
		absent(w, read(other.ID, c.Serial))
		absent(w, read(i.ID, "7f"))
		absent(w, read(i.ID, "no hex"))
		quiet, exact := w.engine.TrustChanges()
		device := w.certificate(i, "dev-2")
		w.update(func(tx provisioning.Tx) error { return w.record(tx, device) })
		if n, _ := w.engine.TrustChanges(); n != quiet {
			t.Errorf("a certificate that is issued counts as a change of trust: %d, then %d", quiet, n)
		}
		c.RevokedAt, c.Reason = w.now, "keyCompromise"
		w.update(func(tx provisioning.Tx) error { return errors.Join(tx.MarkRevoked(c), tx.Append(w.revoked(c))) })
		if n, _ := w.engine.TrustChanges(); exact && n == quiet {
			t.Error("a revocation does not count as a change of trust")
		}
		same(w, view(w, read(i.ID, c.Serial)), ca.Revocation{Serial: c.Serial, RevokedAt: w.now, Reason: "keyCompromise"})

		same(w, view(w, read(i.ID, device.Serial)), ca.Revocation{Serial: device.Serial})
		quiet, _ = w.engine.TrustChanges()
		ended := i
		ended.State, ended.RetireAt = ca.IssuerRevoked, w.now.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error { return tx.MoveIssuer(ended, i.State) })
		same(w, view(w, read(i.ID, device.Serial)), ca.Revocation{Serial: device.Serial, RevokedAt: ended.RetireAt, Reason: ca.Unspecified})
		same(w, view(w, read(i.ID, c.Serial)), ca.Revocation{Serial: c.Serial, RevokedAt: w.now, Reason: "keyCompromise"})
		if n, _ := w.engine.TrustChanges(); exact && n == quiet {
			t.Error("the end of an issuer does not count as a change of trust")
		}
	}
}

func responders(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		read := func(tx provisioning.Tx) (ca.OCSPResponder, error) { return tx.OCSPResponder(i.ID) }
		absent(w, read)
		responder := func(n byte) ca.OCSPResponder {
			return ca.OCSPResponder{Issuer: i.ID, Certificate: []byte{0x30, n}, SealedKey: []byte{n}, NotAfter: w.now.Add(time.Duration(n) * time.Hour)}
		}
		put := func(r ca.OCSPResponder, before []byte) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.PutOCSPResponder(r, before) }
		}
		w.refused(fault.Conflict, "responder-moved", put(responder(1), responder(9).Certificate))
		w.update(put(responder(1), nil))
		same(w, view(w, read), responder(1))
		w.refused(fault.Conflict, "responder-moved", put(responder(2), nil))
		w.update(put(responder(2), responder(1).Certificate))
		w.refused(fault.Conflict, "responder-moved", put(responder(3), responder(1).Certificate))
		same(w, view(w, read), responder(2))
	}
}
