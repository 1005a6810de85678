package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func (w *world) subscription(name string) provisioning.Subscription {
	return provisioning.Subscription{
		Name: name, SealedURL: []byte("sealed address"), SealedKey: []byte("sealed key"), Actions: []string{"issuer.", "roll.stuck"}, Enabled: true,
		Cursor: 7, Created: w.now, Updated: w.now, Version: 1,
	}
}

func subscriptions(t *testing.T, open Open) {
	read := func(w *world, name string) provisioning.Subscription {
		w.Helper()
		return view(w, func(tx provisioning.Tx) (provisioning.Subscription, error) { return tx.Subscription(name) })
	}
	t.Run("a subscription is read back as it was written, and its progress stays when it is changed", func(t *testing.T) {
		w := newWorld(t, open)
		b, a := w.subscription("b"), w.subscription("a")
		a.Actions, a.Enabled = nil, false
		for _, s := range []provisioning.Subscription{b, a} {
			w.update(func(tx provisioning.Tx) error { return tx.InsertSubscription(s) })
		}
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Subscription, error) { return tx.Subscriptions() }), []provisioning.Subscription{a, b})
		w.refused(fault.Conflict, "subscription-exists", func(tx provisioning.Tx) error { return tx.InsertSubscription(a) })

		moved := b
		moved.Cursor, moved.Tries, moved.NextTry, moved.Delivered, moved.Problem = 9, 2, w.now.Add(time.Minute), w.now, "it answered 500"
		w.update(func(tx provisioning.Tx) error { return tx.MoveSubscription(b, moved) })
		changed := b
		changed.SealedURL, changed.SealedKey, changed.Actions, changed.Enabled, changed.Updated, changed.Version = []byte("other"), []byte("other key"), nil, false, w.now.Add(time.Hour), 2
		w.update(func(tx provisioning.Tx) error { return tx.UpdateSubscription(changed, 1) })
		changed.Cursor, changed.Tries, changed.NextTry, changed.Delivered, changed.Problem = moved.Cursor, moved.Tries, moved.NextTry, moved.Delivered, moved.Problem
		same(w, read(w, "b"), changed)
		w.refused(fault.PreconditionFailed, "subscription-changed", func(tx provisioning.Tx) error { return tx.UpdateSubscription(changed, 1) })
		w.refused(fault.PreconditionFailed, "subscription-changed", func(tx provisioning.Tx) error { return tx.DeleteSubscription("b", 1) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteSubscription("b", 2) })
		absent(w, func(tx provisioning.Tx) (provisioning.Subscription, error) { return tx.Subscription("b") })
	})
	t.Run("of two who serve a subscription one wins", func(t *testing.T) {
		w := newWorld(t, open)
		s := w.subscription("a")
		w.update(func(tx provisioning.Tx) error { return tx.InsertSubscription(s) })
		claimed := s
		claimed.NextTry = w.now.Add(time.Minute)
		w.update(func(tx provisioning.Tx) error { return tx.MoveSubscription(s, claimed) })
		w.refused(fault.Conflict, "subscription-moved", func(tx provisioning.Tx) error { return tx.MoveSubscription(s, claimed) })
		same(w, read(w, "a"), claimed)
	})
}
