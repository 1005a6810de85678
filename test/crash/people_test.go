package crash_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/test/instance"
)

// newcomers enrolls devices of the group, each three times, until ctx ends.
func (w *world) newcomers(ctx context.Context, n int, groupKey []byte) {
	for k := 0; ctx.Err() == nil; k++ {
		id := fmt.Sprintf("dev-%d-%d", n, k/3)
		if err := w.attempt(ctx, id, device.DeriveKey(groupKey, id)); err != nil {
			w.Errorf("enrolling %s: %v", id, err)
			return
		}
	}
}

// regular enrolls one device of its own entry again and again, disabled or not.
func (w *world) regular(ctx context.Context, s *solo) {
	for ctx.Err() == nil {
		switch err := w.attempt(ctx, s.id, s.key); {
		case err == nil:
			s.saw(&s.served)
			s.saw(&s.answered)
		case device.IsRefused(err, http.StatusUnauthorized):
			s.saw(&s.answered)
			<-time.After(5 * time.Millisecond)
		case device.IsRefused(err, http.StatusTooManyRequests): // refused too often to be decided
			<-time.After(5 * time.Millisecond)
		default:
			w.Errorf("enrolling %s: %v", s.id, err)
			return
		}
	}
}

// attempt enrolls a device once and keeps what it was given. Where no answer came it
// waits for the next start; other failures are returned.
func (w *world) attempt(ctx context.Context, id string, key []byte) error {
	for ctx.Err() == nil {
		restart := w.nextStart()
		cert, err := w.site.enroll(ctx, id, key)
		var silence *device.Unreachable
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &silence):
			wait(ctx, restart)
		case err != nil:
			return err
		default:
			thumbprint := sha256.Sum256(cert.Raw)
			w.give(id, hex.EncodeToString(cert.SerialNumber.Bytes()), hex.EncodeToString(thumbprint[:]))
			return nil
		}
	}
	return nil
}

// solo is a device with an entry of its own, which an operator disables and enables.
type solo struct {
	id  string
	key []byte

	mu               sync.Mutex
	answered, served chan struct{} // closed at the next answer, and at the next that is no refusal
}

// newSolo enrolls a device by name, with a key of its own.
func (w *world) newSolo(id string) *solo {
	key := sha256.Sum256([]byte(id))
	text := base64.StdEncoding.EncodeToString(key[:])
	err := w.admin.Call(w.Context(), http.MethodPut, "/enrollments/"+id, instance.Object{
		"attestation":          instance.Object{"type": "symmetricKey", "symmetricKey": instance.Object{"primaryKey": text, "secondaryKey": text}},
		"credentialPolicyName": "default",
	}, nil)
	if err != nil {
		w.Fatal(err)
	}
	return &solo{id: id, key: key[:], answered: make(chan struct{}), served: make(chan struct{})}
}

func (s *solo) saw(what *chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(*what)
	*what = make(chan struct{})
}

func (s *solo) next(what *chan struct{}) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *what
}

// operate disables devices one after the other, looks whether that holds while they go
// on asking, over kills too, and enables them again.
func (w *world) operate(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		s := w.solos[n%len(w.solos)]
		w.insist(ctx, http.MethodPost, "/enrollments/"+s.id+"/disable", nil)
		before := w.recorded(ctx, s)
		for range 1 + rand.IntN(5) { // as many are decided without a pause
			wait(ctx, s.next(&s.answered))
		}
		after := w.recorded(ctx, s)
		var is struct{ ProvisioningStatus string }
		w.insist(ctx, http.MethodGet, "/enrollments/"+s.id, &is)
		if ctx.Err() != nil {
			return
		}
		if !slices.Equal(before, after) {
			w.Errorf("while %s was disabled its certificates went from %d to %d", s.id, len(before), len(after))
		}
		if is.ProvisioningStatus != "disabled" {
			w.Errorf("%s was disabled, and then it was %q", s.id, is.ProvisioningStatus)
		}
		w.held++
		served := s.next(&s.served)
		w.insist(ctx, http.MethodPost, "/enrollments/"+s.id+"/enable", nil)
		wait(ctx, served)
	}
}

// recorded is the inventory of a device.
func (w *world) recorded(ctx context.Context, s *solo) (all []record) {
	w.until(ctx, func() (err error) {
		all, err = inventory(ctx, w.admin, "&registrationId="+s.id)
		return err
	})
	return all
}

// insist repeats a call until it is acknowledged; each of them may be repeated.
func (w *world) insist(ctx context.Context, method, path string, out any) {
	w.until(ctx, func() error { return w.admin.Call(ctx, method, path, nil, out) })
}

// until repeats a call that may fall into a moment at which the server is not there. An
// answer that is no success is a failure of the test.
func (w *world) until(ctx context.Context, call func() error) {
	for ctx.Err() == nil {
		restart := w.nextStart()
		err := call()
		if err == nil || ctx.Err() != nil {
			return
		}
		var status *instance.Status
		if errors.As(err, &status) {
			w.Error(err)
		}
		wait(ctx, restart)
	}
}

func wait(ctx context.Context, c <-chan struct{}) {
	select {
	case <-c:
	case <-ctx.Done():
	}
}
