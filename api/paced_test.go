package api_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// Whoever is refused is soon put off, with the same words at every door and for every
// reason, and is let in as soon as he may be.
func TestTheRefusedArePutOff(t *testing.T) {
	w := newWorld(t)
	w.put(provisioning.Individual, "off-1", provisioning.RoleKey, provisioning.SlotDraft{Key: make([]byte, 32)})
	w.enable(provisioning.Individual, "off-1", false)
	hour := w.now().Add(time.Hour)
	asks := map[string]request{
		"off-1":   dps("PUT", "off-1", "/register"+stable, `{"registrationId":"off-1"}`).with("Authorization", testkit.SAS(make([]byte, 32), idScope, "off-1", hour)),
		"nobody":  dps("PUT", "nobody", "/register"+stable, `{"registrationId":"nobody"}`).with("Authorization", testkit.SAS([]byte("no"), idScope, "nobody", hour)),
		"est-dev": enroll("simpleenroll", testkit.CSR(t, newKey(), "est-dev")).with("Authorization", basicAuth("est-dev", []byte("wrong"))),
	}
	for id, ask := range asks {
		t.Run(id, func(t *testing.T) {
			client := w.client(nil)
			for range 5 {
				a := w.do(client, w.devices, ask)
				if want(t, a, http.StatusUnauthorized); a.header.Get("Retry-After") != "" {
					t.Errorf("the first few refusals advise %q", a.header.Get("Retry-After"))
				}
			}
			for range 3 {
				a := w.do(client, w.devices, ask)
				want(t, a, http.StatusTooManyRequests)
				if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 {
					t.Errorf("advice %q", a.header.Get("Retry-After"))
				}
			}
			w.advance(time.Second)
			a := w.do(client, w.devices, ask)
			want(t, a, http.StatusUnauthorized)
			if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 2 || wait > 4 {
				t.Errorf("the sixth refusal advises %q", a.header.Get("Retry-After"))
			}
		})
	}
	w.enable(provisioning.Individual, "off-1", true)
	want(t, w.do(w.client(nil), w.devices, asks["off-1"]), http.StatusAccepted)
}
