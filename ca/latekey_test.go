package ca_test

import (
	"context"
	"crypto"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// awayKeys are keys whose keeper can be away, or give another key than it should.
type awayKeys struct {
	*keys.Folder
	away    bool
	instead string
}

func (k *awayKeys) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if k.away {
		return nil, fault.New(fault.Unavailable, "key-device-unavailable", "The key device cannot be used now.")
	}
	if k.instead != "" {
		uri = k.instead
	}
	return k.Folder.Open(ctx, uri)
}

func TestAnAuthorityStartsWhileItsKeysAreAway(t *testing.T) {
	w, root, issuing := newHierarchy(t, "")
	if err := w.SweepCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := &awayKeys{Folder: w.keys, away: true}
	a, err := ca.New(t.Context(), w.store, kept, ca.Config{PKIURL: "http://pki.example"}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	issue := func() error {
		_, err := a.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
		return err
	}
	if err := issue(); fault.RuleOf(err) != "signing-failed" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("issuing while the keys are away: %v", err)
	}
	if _, err := a.PublishedCRL(t.Context(), issuing.ID, 0); err != nil {
		t.Errorf("the CRL on record: %v", err)
	}
	if len(a.Chain(issuing.ID)) != 2 || len(a.Bundle()) != 2 {
		t.Error("chains are not served")
	}
	if err := a.Reload(t.Context()); err != nil {
		t.Errorf("reading the issuers again: %v", err)
	}
	kept.away, kept.instead = false, root.KeyURI
	if err := issue(); fault.RuleOf(err) != "signing-failed" {
		t.Errorf("another key came back: %v", err)
	}
	kept.instead = ""
	if err := issue(); err != nil {
		t.Errorf("the keys are back: %v", err)
	}
	kept.away = true // an open key asks its keeper itself
	if err := issue(); err != nil {
		t.Errorf("once it is open: %v", err)
	}
}

func TestAKeyThatDoesNotOpenKeepsNobodyFromLearningTheRest(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	folder, err := keys.OpenFolder(t.TempDir(), nil) // of another host, which has not been given the next keys
	if err != nil {
		t.Fatal(err)
	}
	kept := &movedKeys{first: w.keys, then: folder}
	other, err := ca.New(t.Context(), w.store, kept, ca.Config{PKIURL: "http://pki.example"}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	kept.moved = true
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	if _, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if err := other.Reload(t.Context()); fault.RuleOf(err) != "key-missing" {
		t.Errorf("the key that is not there: %v", err)
	}
	if len(other.Chain(two.ID)) != 2 || len(other.Bundle()) != 2 {
		t.Errorf("the other host trusts %d CAs and has a chain of %d for the next issuer", len(other.Bundle()), len(other.Chain(two.ID)))
	}
	for range 2 {
		if _, err := other.Promote(t.Context(), operator, two.ID, ca.Promotion{}); fault.RuleOf(err) != "key-missing" {
			t.Errorf("an issuer whose key is not there is promoted: %v", err)
		}
	}
	if got, err := other.RevokeIssuer(t.Context(), operator, two.ID, ca.KeyCompromise); err != nil || !got.OnCRL {
		t.Errorf("an issuer whose key is not there is revoked: %+v, %v", got, err)
	}
}

// movedKeys are found in one folder, then in another.
type movedKeys struct {
	first, then *keys.Folder
	moved       bool
}

func (k *movedKeys) Create(ctx context.Context, name string, kt policies.KeyType) (string, crypto.Signer, error) {
	return k.then.Create(ctx, name, kt)
}

func (k *movedKeys) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if k.moved {
		return k.then.Open(ctx, uri)
	}
	return k.first.Open(ctx, uri)
}
