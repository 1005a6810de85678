package admin

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// subscription is somebody who is told of what is written into the ledger.
type subscription struct {
	Name                string     `json:"name,omitempty" doc:"That of the path, where it is given."`
	URL                 string     `json:"url,omitempty" maxLength:"2048" writeOnly:"true" doc:"Where events are posted to, over https. Kept where it is not given; answered by nothing."`
	Endpoint            string     `json:"endpoint,omitempty" readOnly:"true" doc:"Scheme and host of the address: the rest may be a secret."`
	Actions             []string   `json:"actions,omitempty" doc:"Beginnings of actions of the ledger, such as issuer. or roll.stuck; none: all."`
	Enabled             *bool      `json:"enabled,omitempty" nullable:"false" doc:"true unless given."`
	Key                 string     `json:"key,omitempty" readOnly:"true" doc:"whsec_…, which signs the events (Standard Webhooks); answered once, when it was made."`
	Behind              *int64     `json:"behind,omitempty" readOnly:"true" doc:"Ledger entries that it has not come to yet."`
	Delivered           *time.Time `json:"deliveredDateTimeUtc,omitempty" readOnly:"true"`
	Tries               int        `json:"tries,omitempty" readOnly:"true" doc:"Failures in a row."`
	NextTry             *time.Time `json:"nextTryDateTimeUtc,omitempty" readOnly:"true"`
	Problem             string     `json:"problem,omitempty" readOnly:"true"`
	Etag                string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

func subscriptionOf(s provisioning.SubscriptionStatus) (subscription, error) {
	out := subscribed(s.Subscription, nil)
	out.Behind = &s.Behind
	return out, nil
}

// subscribed is a subscription as it was written, with its key where that was made just now.
func subscribed(s provisioning.Subscription, key []byte) subscription {
	out := subscription{
		Name: s.Name, Endpoint: s.Endpoint, Actions: s.Actions, Enabled: &s.Enabled,
		Delivered: instant(s.Delivered), Tries: s.Tries, Problem: s.Problem,
		Etag: etag(s.Version), CreatedDateTimeUtc: instant(s.Created), LastUpdatedDateTime: instant(s.Updated),
	}
	if s.Tries > 0 {
		out.NextTry = instant(s.NextTry)
	}
	if key != nil {
		out.Key = "whsec_" + base64.StdEncoding.EncodeToString(key)
	}
	return out
}

func (s subscription) draft(name string) (provisioning.SubscriptionDraft, error) {
	out := provisioning.SubscriptionDraft{Name: name, URL: s.URL, Actions: s.Actions, Enabled: s.Enabled == nil || *s.Enabled}
	if s.Name != "" && s.Name != name {
		return out, otherName("/name")
	}
	return out, nil
}

// SubscriptionName is the name in a path.
type SubscriptionName struct {
	Name string `path:"name" maxLength:"64"`
}

type (
	subscriptionPut struct {
		SubscriptionName
		Conditions
		Body subscription
	}
	subscriptionPatch struct {
		SubscriptionName
		Conditions
		Body mergePatch `contentType:"application/merge-patch+json"`
	}
	subscriptionAct struct {
		SubscriptionName
		Conditions
	}
	// subscriptionTest is how a subscriber took a test.
	subscriptionTest struct {
		Name string `json:"name"`
		OK   bool   `json:"ok"`
	}
)

func (d *door) addSubscriptions() {
	const tag, one = "subscriptions", "/subscriptions/{name}"
	add(d, route{"list-subscriptions", http.MethodGet, "/subscriptions", policies.ScopeRead, tag, "List subscriptions to the ledger", false}, d.listSubscriptions)
	add(d, route{"get-subscription", http.MethodGet, one, policies.ScopeRead, tag, "Read a subscription and how far behind it is", false}, d.getSubscription)
	add(d, route{"put-subscription", http.MethodPut, one, policies.ScopeAdmin, tag, "Subscribe somebody to the ledger, or change that", true}, d.putSubscription)
	add(d, route{"patch-subscription", http.MethodPatch, one, policies.ScopeAdmin, tag, "Change a subscription", false}, d.patchSubscription)
	add(d, route{"delete-subscription", http.MethodDelete, one, policies.ScopeAdmin, tag, "End a subscription", false}, d.deleteSubscription)
	add(d, route{"roll-subscription-key", http.MethodPost, one + "/key", policies.ScopeAdmin, tag, "Give a subscription a new key, which signs from now on", false}, d.rollSubscriptionKey)
	add(d, route{"test-subscription", http.MethodPost, one + "/test", policies.ScopeAdmin, tag, "Send a subscriber a test and say whether it was taken", false}, d.testSubscription)
}

func (d *door) listSubscriptions(ctx context.Context, in *Paging) (*listed[subscription], error) {
	rows, err := d.Engine.Subscriptions(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "subscriptions", func(s provisioning.SubscriptionStatus) string { return s.Name }, subscriptionOf)
}

func (d *door) getSubscription(ctx context.Context, in *SubscriptionName) (*found[subscription], error) {
	s, err := d.Engine.Subscription(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	body, err := subscriptionOf(s)
	return &found[subscription]{ETag: etag(s.Version), Body: body}, err
}

func (d *door) putSubscription(ctx context.Context, in *subscriptionPut) (*written[subscription], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return d.writeSubscription(ctx, in.Name, in.Body, pre)
}

func (d *door) writeSubscription(ctx context.Context, name string, body subscription, pre provisioning.Precondition) (*written[subscription], error) {
	draft, err := body.draft(name)
	if err != nil {
		return nil, err
	}
	s, key, err := d.Engine.PutSubscription(ctx, actor(ctx), draft, pre)
	if err != nil {
		return nil, err
	}
	out := &written[subscription]{Status: http.StatusOK, ETag: etag(s.Version), Body: subscribed(s, key)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+"/subscriptions/"+s.Name
	}
	return out, nil
}

func (d *door) patchSubscription(ctx context.Context, in *subscriptionPatch) (*found[subscription], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	s, err := d.Engine.Subscription(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if pre, err = over(pre, s.Version); err != nil {
		return nil, err
	}
	next, err := patched(d, subscription{Name: s.Name, Actions: s.Actions, Enabled: &s.Enabled}, in.Body)
	if err != nil {
		return nil, err
	}
	out, err := d.writeSubscription(ctx, in.Name, next, pre)
	if err != nil {
		return nil, err
	}
	return &found[subscription]{ETag: out.ETag, Body: out.Body}, nil
}

func (d *door) deleteSubscription(ctx context.Context, in *subscriptionAct) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, d.Engine.DeleteSubscription(ctx, actor(ctx), in.Name, pre)
}

func (d *door) rollSubscriptionKey(ctx context.Context, in *subscriptionAct) (*found[subscription], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	s, key, err := d.Engine.RollSubscriptionKey(ctx, actor(ctx), in.Name, pre)
	if err != nil {
		return nil, err
	}
	return &found[subscription]{ETag: etag(s.Version), Body: subscribed(s, key)}, nil
}

func (d *door) testSubscription(ctx context.Context, in *SubscriptionName) (*found[subscriptionTest], error) {
	if err := d.Engine.TestSubscription(ctx, actor(ctx), in.Name); err != nil {
		return nil, err
	}
	return &found[subscriptionTest]{Body: subscriptionTest{Name: in.Name, OK: true}}, nil
}
