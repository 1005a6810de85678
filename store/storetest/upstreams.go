package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

func upstreams(t *testing.T, open Open) {
	t.Run("an intent is read back as it was written, and settled once", intents(open))
	t.Run("intents are listed oldest first, page by page", intentPages(open))
	t.Run("an upstream is told of what its own issuer issued, once", told(open))
	t.Run("what does not agree with an upstream is found", func(t *testing.T) { disagreements(t, open) })
}

// elsewhere is an issuer whose key is with an upstream.
func (w *world) elsewhere(d byte) ca.Issuer {
	i := w.issuer(d)
	i.KeyURI, i.Upstream, i.Profile = "", "factory", string(rune('a'+d))
	w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
	return i
}

func (w *world) intent(i ca.Issuer, id string) ca.Intent {
	return ca.Intent{ID: id, Issuer: i.ID, RegistrationID: w.id("dev-1"), CSR: []byte{0x30}, Created: w.now, State: ca.IntentOpen}
}

func intents(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.elsewhere(1)
		n := w.intent(i, "n-1")
		absent(w, func(tx provisioning.Tx) (ca.Intent, error) { return tx.Intent("n-1") })
		w.update(func(tx provisioning.Tx) error { return tx.InsertIntent(n) })
		w.refused(fault.Conflict, "intent-exists", func(tx provisioning.Tx) error { return tx.InsertIntent(n) })
		n.Serial, n.Certificate = "00ff", []byte{0x30, 1}
		w.update(func(tx provisioning.Tx) error { return tx.UpdateIntent(n, ca.IntentOpen) })
		same(w, view(w, func(tx provisioning.Tx) (ca.Intent, error) { return tx.Intent("n-1") }), n)
		w.refused(fault.Conflict, "intent-settled", func(tx provisioning.Tx) error { return tx.UpdateIntent(n, ca.IntentOrphaned) })
		w.update(func(tx provisioning.Tx) error { return tx.CloseIntent("n-1", w.now) })
		w.refused(fault.Conflict, "intent-settled", func(tx provisioning.Tx) error { return tx.CloseIntent("n-1", w.now) })
		n.State, n.Settled = ca.IntentIssued, w.now
		same(w, view(w, func(tx provisioning.Tx) (ca.Intent, error) { return tx.Intent("n-1") }), n)
		w.refused(fault.Internal, "", func(tx provisioning.Tx) error { return tx.UpdateIntent(n, ca.IntentIssued) })
	}
}

func intentPages(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i, j := w.elsewhere(1), w.elsewhere(2)
		old, other, done := w.intent(i, "n-3"), w.intent(j, "n-2"), w.intent(i, "n-1")
		old.Created = w.now.Add(-time.Hour)
		done.State, done.Settled, done.Detail = ca.IntentRefused, w.now, "no"
		w.update(func(tx provisioning.Tx) error {
			for _, n := range []ca.Intent{done, other, old} {
				if err := tx.InsertIntent(n); err != nil {
					return err
				}
			}
			return nil
		})
		list := func(f ca.IntentFilter) []ca.Intent {
			return view(w, func(tx provisioning.Tx) ([]ca.Intent, error) { return tx.Intents(f) })
		}
		same(w, list(ca.IntentFilter{}), []ca.Intent{old, done, other})
		same(w, list(ca.IntentFilter{Limit: 1}), []ca.Intent{old})
		same(w, list(ca.IntentFilter{After: old}), []ca.Intent{done, other})
		same(w, list(ca.IntentFilter{After: done}), []ca.Intent{other})
		same(w, list(ca.IntentFilter{Issuer: i.ID}), []ca.Intent{old, done})
		same(w, list(ca.IntentFilter{State: ca.IntentRefused}), []ca.Intent{done})
		same(w, list(ca.IntentFilter{Unended: true}), []ca.Intent{old, other})
		same(w, list(ca.IntentFilter{State: ca.IntentOpen, Before: w.now}), []ca.Intent{old})
		same(w, view(w, provisioning.Tx.UpstreamBacklog), ca.UpstreamBacklog{Open: 2})
	}
}

func told(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		here, there := w.issuer(1), w.elsewhere(2)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, here) })
		ours, theirs := w.certificate(here, "dev-1"), w.certificate(there, "dev-1")
		w.update(func(tx provisioning.Tx) error {
			for _, c := range []*ca.Certificate{&ours, &theirs} {
				c.RevokedAt, c.Reason = w.now, ca.KeyCompromise
				if err := w.record(tx, *c); err != nil {
					return err
				}
				if err := tx.TellUpstream(*c, w.now); err != nil {
					return err
				}
			}
			return tx.TellUpstream(theirs, w.now.Add(time.Hour))
		})
		due := func(i ca.Issuer, intent string, at time.Time) []ca.UpstreamRevocation {
			return view(w, func(tx provisioning.Tx) ([]ca.UpstreamRevocation, error) {
				return tx.DueUpstreamRevocations(i.ID, intent, at, 10)
			})
		}
		want := ca.UpstreamRevocation{Issuer: there.ID, Serial: theirs.Serial, Reason: ca.KeyCompromise, Certificate: theirs.DER, Created: w.now, Next: w.now}
		same(w, due(here, "", w.now), nil)
		same(w, due(there, "", w.now), []ca.UpstreamRevocation{want})
		same(w, due(there, "", w.now.Add(-time.Second)), nil)
		same(w, due(there, "n-1", w.now), nil)
		orphan := ca.UpstreamRevocation{Issuer: there.ID, Serial: "00ff", Reason: ca.CessationOfOperation, Intent: "n-1", Created: w.now, Next: w.now.Add(-time.Hour)}
		for range 2 {
			w.update(func(tx provisioning.Tx) error { return tx.InsertUpstreamRevocation(orphan) })
		}
		same(w, due(there, "", w.now), []ca.UpstreamRevocation{orphan, want})
		same(w, due(there, "n-1", w.now), []ca.UpstreamRevocation{orphan})
		orphan.Tries, orphan.Next, orphan.Detail = 1, w.now.Add(time.Minute), "not now"
		want.Tries, want.Told = 2, w.now
		w.update(func(tx provisioning.Tx) error {
			if err := tx.UpdateUpstreamRevocation(orphan); err != nil {
				return err
			}
			return tx.UpdateUpstreamRevocation(want)
		})
		same(w, due(there, "", w.now), nil)
		same(w, due(there, "", w.now.Add(time.Minute)), []ca.UpstreamRevocation{orphan})
		same(w, view(w, provisioning.Tx.UpstreamBacklog), ca.UpstreamBacklog{Revocations: 1})
	}
}

// disagreements breaks one thing at a time and wants store.Check to name it.
func disagreements(t *testing.T, open Open) {
	for name, c := range map[string]struct {
		harm func(*world, ca.Issuer, provisioning.Tx) error
		want string
	}{
		"a certificate without an intent": {func(w *world, i ca.Issuer, tx provisioning.Tx) error { return w.record(tx, w.certificate(i, "dev-1")) }, "recorded"},
		"an issued intent without its certificate": {func(w *world, i ca.Issuer, tx provisioning.Tx) error {
			n := w.intent(i, "n-1")
			n.State, n.Settled, n.Serial = ca.IntentIssued, w.now, "00ff"
			return tx.InsertIntent(n)
		}, "recorded"},
		"an orphan that nobody revokes": {func(w *world, i ca.Issuer, tx provisioning.Tx) error {
			n := w.intent(i, "n-1")
			n.State, n.Settled, n.Serial = ca.IntentOrphaned, w.now, "00ff"
			return tx.InsertIntent(n)
		}, "recorded"},
		"a revoked certificate of which the upstream is not told": {func(w *world, i ca.Issuer, tx provisioning.Tx) error {
			c := w.certificate(i, "dev-1")
			n := w.intent(i, "n-1")
			n.State, n.Settled, n.Serial = ca.IntentIssued, w.now, c.Serial
			if err := tx.InsertIntent(n); err != nil {
				return err
			}
			if err := w.record(tx, c); err != nil {
				return err
			}
			c.RevokedAt, c.Reason = w.now, ca.Superseded
			if err := tx.MarkRevoked(c); err != nil {
				return err
			}
			return tx.Append(w.revoked(c))
		}, "one-way"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, open)
			i := w.elsewhere(1)
			w.update(func(tx provisioning.Tx) error { return c.harm(w, i, tx) })
			found, err := store.Check(bg, w.db)
			if err != nil || len(found) != 1 || found[0].Invariant != c.want {
				t.Errorf("found %v, %v, want one that breaks %q", found, err, c.want)
			}
		})
	}
}
