package device

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestADeviceTakesTheCertificateThatWaitsForItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ctx := context.Background()
		if err := w.agent.Register(ctx); err != nil {
			t.Fatal(err)
		}
		first := w.current()
		if err := w.agent.FetchPending(ctx); !IsRefused(err, http.StatusNotFound) || w.state().LastError != "" {
			t.Fatalf("nothing was waiting: %v, noted %q", err, w.state().LastError)
		}
		time.Sleep(time.Hour)
		now := time.Now()
		w.service.pending = w.service.issuer.leaf(t, testID, first.Key.Public(), now, now.Add(w.service.lifetime))
		w.service.hub = "hub-2.example.net"
		if err := w.agent.FetchPending(ctx); err != nil {
			t.Fatal(err)
		}
		got := w.current()
		if !got.Leaf().Equal(w.service.pending) || got.Slot == first.Slot || !certifies(got.Leaf(), first.Key) || len(got.Chain) != 3 {
			t.Errorf("slot %s holds %s of %s", got.Slot, got.Leaf().SerialNumber, got.Leaf().Subject)
		}
		if previous, err := w.folder.Previous(); err != nil || !previous.Leaf().Equal(first.Leaf()) {
			t.Errorf("the one before is gone: %v", err)
		}
		state := w.state()
		if state.Thumbprint != thumbprint(got.Leaf()) || state.AssignedHub != "hub-2.example.net" || !state.RenewAt.After(now) {
			t.Errorf("state %+v", state)
		}
		if calls := w.service.calls; calls[len(calls)-1] != "PUT /"+testScope+"/registrations/"+testID+"/register" || w.service.lastRegistration.CSR != nil || w.service.lastProof != "issuer issuing" {
			t.Errorf("it was not put to use: %v", calls)
		}
	})
}

func TestAPendingCertificateThatIsNotTheDevicesIsNotStored(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*world)
		bad    error
	}{
		"for another key": {func(w *world) {
			w.service.pending = w.service.issuer.leaf(t, testID, testKey(t).Public(), time.Now(), time.Now().Add(time.Hour))
		}, ErrBadAnswer},
		"over EST": {func(w *world) { w.config.Protocol = EST; w.restart() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				if err := w.agent.Register(context.Background()); err != nil {
					t.Fatal(err)
				}
				before := w.current()
				tt.change(w)
				err := w.agent.FetchPending(context.Background())
				if err == nil || tt.bad != nil && !errors.Is(err, tt.bad) {
					t.Errorf("error %v", err)
				}
				if !w.current().Leaf().Equal(before.Leaf()) {
					t.Error("the credential was replaced")
				}
			})
		})
	}
}

func TestADeviceRenewsInTheWindowItsServerAdvises(t *testing.T) {
	const day = 24 * time.Hour
	for name, tt := range map[string]struct {
		from, by time.Duration // after now; both 0: no advice
		own      bool          // the device goes by its own rule
	}{
		"an early window":                     {10 * day, 12 * day, false},
		"a moment":                            {70 * day, 70 * day, false},
		"no window":                           {0, 0, true},
		"a window that ends before it begins": {12 * day, 10 * day, true},
		"a window after the end":              {80 * day, 91 * day, true},
		"a window before the beginning":       {-day, 10 * day, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				now := time.Now()
				if tt.from != 0 {
					w.service.advice = map[string]any{"from": now.Add(tt.from).UTC(), "by": now.Add(tt.by).UTC()}
				}
				if err := w.agent.Register(context.Background()); err != nil {
					t.Fatal(err)
				}
				from, by := tt.from, tt.by
				if tt.own {
					from, by = 54*day, 66*day
				}
				if at := w.state().RenewAt; at.Before(now.Add(from)) || at.After(now.Add(by)) {
					t.Errorf("renews after %s", at.Sub(now))
				}
			})
		})
	}
}

func FuzzAdvice(f *testing.F) {
	for _, seed := range []string{`{"renewal":{"from":"2026-04-30T07:55:01Z","by":"2026-05-10T07:55:01Z"}}`, `{"renewal":null}`, `{"renewal":{"from":1}}`, `[]`, `{"fromWebhook":true}`} {
		f.Add([]byte(seed))
	}
	leaf := newAuthority(f, "issuer", time.Now()).issuing
	f.Fuzz(func(t *testing.T, payload []byte) {
		if w, ok := advised(json.RawMessage(payload), leaf); ok && (w.From.Before(leaf.NotBefore) || w.By.After(leaf.NotAfter) || w.By.Before(w.From)) {
			t.Errorf("%s is taken for advice", payload)
		}
	})
}
