package store

import (
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

var subscriptionColumns = cols("t name, b sealed_url, b sealed_key, t actions, i enabled, i cursor, i tries, i next_try, i delivered, t problem, i created, i updated, i version")

var (
	selectSubscription  = statement("SELECT " + subscriptionColumns.list("") + " FROM subscriptions WHERE name = ?")
	selectSubscriptions = statement("SELECT " + subscriptionColumns.list("") + " FROM subscriptions ORDER BY name").apart()
	insertSubscription  = statement(insert("subscriptions", subscriptionColumns)).unique(exists("subscription"))
	updateSubscription  = statement("UPDATE subscriptions SET sealed_url = ?, sealed_key = ?, actions = ?, enabled = ?, updated = ?, version = ? WHERE name = ? AND version = ?").
				missed(stale("subscription"))
	deleteSubscription = statement("DELETE FROM subscriptions WHERE name = ? AND version = ?").missed(stale("subscription"))
	moveSubscription   = statement("UPDATE subscriptions SET cursor = ?, tries = ?, next_try = ?, delivered = ?, problem = ? WHERE name = ? AND cursor = ? AND next_try = ?").
				missed(fault.New(fault.Conflict, "subscription-moved", "The subscription was served by somebody else, or deleted."))
)

func scanSubscription(r *row) provisioning.Subscription {
	return provisioning.Subscription{
		Name: r.text(), SealedURL: r.blob(), SealedKey: r.blob(), Actions: r.list(), Enabled: r.bool(),
		Cursor: r.int(), Tries: int(r.int()), NextTry: r.time(), Delivered: r.time(), Problem: r.text(),
		Created: r.time(), Updated: r.time(), Version: r.int(),
	}
}

func (t *tx) Subscription(name string) (provisioning.Subscription, error) {
	return one(t, selectSubscription, notFound("subscription"), scanSubscription, name)
}

func (t *tx) Subscriptions() ([]provisioning.Subscription, error) {
	return all(t, selectSubscriptions, scanSubscription)
}

func (t *tx) InsertSubscription(s provisioning.Subscription) error {
	return t.exec(insertSubscription, s.Name, s.SealedURL, s.SealedKey, lines(s.Actions), flag(s.Enabled), s.Cursor, int64(s.Tries),
		micros(s.NextTry), micros(s.Delivered), s.Problem, micros(s.Created), micros(s.Updated), s.Version)
}

func (t *tx) UpdateSubscription(s provisioning.Subscription, was int64) error {
	return t.exec(updateSubscription, s.SealedURL, s.SealedKey, lines(s.Actions), flag(s.Enabled), micros(s.Updated), s.Version, s.Name, was)
}

func (t *tx) DeleteSubscription(name string, version int64) error {
	return t.exec(deleteSubscription, name, version)
}

func (t *tx) MoveSubscription(was, is provisioning.Subscription) error {
	return t.exec(moveSubscription, is.Cursor, int64(is.Tries), micros(is.NextTry), micros(is.Delivered), is.Problem, is.Name, was.Cursor, micros(was.NextTry))
}
