package provisioning

import (
	"context"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Subscription is somebody who is told of what is written into the ledger, in its order,
// each entry at least once. There is no queue: Cursor is the last entry that was delivered.
type Subscription struct {
	Name      string
	Actions   []string // beginnings of actions, "roll."; none: all
	Enabled   bool
	Endpoint  string // scheme and host of the address, whose rest may be a secret; the store leaves it empty
	SealedURL []byte
	SealedKey []byte // signs what is sent
	Cursor    int64
	Tries     int       // failures in a row
	NextTry   time.Time // not before; zero: at once
	Delivered time.Time // when something was taken last; zero: nothing yet
	Problem   string    // of the last try; "": it was taken
	Created   time.Time
	Updated   time.Time
	Version   int64
}

// SubscriptionDraft is a subscription as an operator writes it. URL "" keeps the address.
type SubscriptionDraft struct {
	Name    string
	URL     string
	Actions []string
	Enabled bool
}

// SubscriptionTx is what provisioning reads and writes of subscriptions.
type SubscriptionTx interface {
	Subscription(name string) (Subscription, error)
	// Subscriptions lists all by name.
	Subscriptions() ([]Subscription, error)
	InsertSubscription(Subscription) error
	// UpdateSubscription writes what an operator says; the progress stays.
	UpdateSubscription(s Subscription, was int64) error
	DeleteSubscription(name string, version int64) error
	// MoveSubscription writes the progress, and only of a subscription whose cursor and next
	// try are still those that were read: else Conflict, rule "subscription-moved".
	MoveSubscription(was, is Subscription) error
}

// Bounds of what is written.
const (
	maxSubscriptions       = 32
	maxSubscriptionActions = 32
)

// PutSubscription creates a subscription, which begins with what is written from now on, or
// changes one. A new one's key is answered, this once.
//
// Errors: Malformed with the field; Conflict "too-many-subscriptions".
func (e *Engine) PutSubscription(ctx context.Context, actor string, draft SubscriptionDraft, pre Precondition) (s Subscription, key []byte, err error) {
	now := e.now()
	if err := e.checkSubscription(draft); err != nil {
		return s, nil, err
	}
	made := newReceiverKey()
	start, err := e.ledger.Horizon(ctx)
	if err != nil {
		return s, nil, err
	}
	err = e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Subscription(draft.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		s, key = was, nil
		s.Name, s.Actions, s.Enabled, s.Updated = draft.Name, draft.Actions, draft.Enabled, now
		if draft.URL != "" {
			s.SealedURL = e.box.Seal(subscriptionPurpose(s.Name, "url"), []byte(draft.URL))
		}
		if s.SealedURL == nil {
			return fault.New(fault.Malformed, "webhook-missing", "a subscription needs an address to send to").At("/url")
		}
		if s, err = e.withEndpoint(s); err != nil {
			return err
		}
		if was.Version != 0 {
			s.Version++
			return first(tx.UpdateSubscription(s, was.Version), tx.Append(s.event(actor, audit.SubscriptionPut, now)))
		}
		all, err := tx.Subscriptions()
		if err == nil && len(all) >= maxSubscriptions {
			err = fault.New(fault.Conflict, "too-many-subscriptions", "there are %d subscriptions already, the most there may be", maxSubscriptions)
		}
		if err != nil {
			return err
		}
		key = made
		s.SealedKey, s.Cursor, s.Created, s.Version = e.box.Seal(subscriptionPurpose(s.Name, "key"), key), start, now, firstVersion(now)
		return first(tx.InsertSubscription(s), tx.Append(s.event(actor, audit.SubscriptionPut, now)))
	})
	return s, key, err
}

func (s Subscription) event(actor string, action audit.Action, now time.Time) audit.Event {
	return audit.Event{At: now, Actor: actor, Action: action, Subject: "subscription:" + s.Name,
		Body: audit.Body(map[string]any{"endpoint": s.Endpoint, "actions": s.Actions, "enabled": s.Enabled})}
}

func (e *Engine) checkSubscription(d SubscriptionDraft) error {
	if !policies.ValidName(d.Name) {
		return fault.New(fault.Malformed, "subscription-name", "a subscription's name is 1 to 64 letters, digits, dots, dashes and underscores, with at least one letter or digit").At("/name")
	}
	if len(d.Actions) > maxSubscriptionActions {
		return fault.New(fault.Malformed, "subscription-actions", "a subscription names at most %d beginnings of actions", maxSubscriptionActions).At("/actions")
	}
	for _, a := range d.Actions {
		if a == "" || len(a) > 64 || strings.ContainsFunc(a, func(c rune) bool { return (c < 'a' || c > 'z') && c != '.' && c != '-' }) {
			return fault.New(fault.Malformed, "subscription-actions", "an action begins like issuer. or roll.stuck").At("/actions")
		}
	}
	if d.URL == "" {
		return nil
	}
	return CheckWebhookURL(d.URL, "/url", e.localWebhooks)
}

// DeleteSubscription ends a subscription.
func (e *Engine) DeleteSubscription(ctx context.Context, actor, name string, pre Precondition) error {
	now := e.now()
	return e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Subscription(name)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if was, err = e.withEndpoint(was); err != nil {
			return err
		}
		return first(tx.DeleteSubscription(name, was.Version), tx.Append(was.event(actor, audit.SubscriptionDelete, now)))
	})
}

// RollSubscriptionKey gives a subscription a new key, which signs from now on.
func (e *Engine) RollSubscriptionKey(ctx context.Context, actor, name string, pre Precondition) (s Subscription, key []byte, err error) {
	now := e.now()
	key = newReceiverKey()
	err = e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Subscription(name)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if s, err = e.withEndpoint(was); err != nil {
			return err
		}
		s.SealedKey, s.Updated, s.Version = e.box.Seal(subscriptionPurpose(name, "key"), key), now, was.Version+1
		return first(tx.UpdateSubscription(s, was.Version), tx.Append(s.event(actor, audit.SubscriptionKeyRolled, now)))
	})
	return s, key, err
}

// SubscriptionStatus is a subscription and how far behind it is.
type SubscriptionStatus struct {
	Subscription
	Behind int64 // ledger entries after its cursor, for whomever they are
}

// Subscription reads one.
func (e *Engine) Subscription(ctx context.Context, name string) (s SubscriptionStatus, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		s.Subscription, err = tx.Subscription(name)
		return err
	})
	if err != nil {
		return s, err
	}
	return e.subscriptionStatus(ctx, s.Subscription)
}

func (e *Engine) subscriptionStatus(ctx context.Context, s Subscription) (out SubscriptionStatus, err error) {
	if out.Subscription, err = e.withEndpoint(s); err == nil {
		out.Behind, err = e.ledger.Behind(ctx, s.Cursor)
	}
	return out, err
}

// Subscriptions lists them by name.
func (e *Engine) Subscriptions(ctx context.Context) (list []SubscriptionStatus, err error) {
	var all []Subscription
	err = e.store.View(ctx, func(tx Tx) error {
		all, err = tx.Subscriptions()
		return err
	})
	for _, s := range all {
		status, err := e.subscriptionStatus(ctx, s)
		if err != nil {
			return nil, err
		}
		list = append(list, status)
	}
	return list, err
}

// withEndpoint fills in what may be shown of the address.
func (e *Engine) withEndpoint(s Subscription) (Subscription, error) {
	origin, err := e.originOf(subscriptionPurpose(s.Name, "url"), s.SealedURL)
	s.Endpoint = origin
	return s, err
}

// subscriptionPurpose binds what is sealed to its row and column (INV-K2).
func subscriptionPurpose(name, column string) string { return "subscriptions|" + name + "|" + column }
