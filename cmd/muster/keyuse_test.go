package main

import (
	"net/http"
	"testing"

	"github.com/passmuster/muster/provisioning"
)

// Of several processes one makes the sweep that rolls keys, and any of them is used: each
// keeps what it noticed by itself.
func TestEachProcessKeepsWhenKeysWereUsed(t *testing.T) {
	h := newHost(t)
	h.init("--keep-root")
	var key []byte
	h.within(h.config(""), func(x *house) {
		keys, err := x.engine.AccessKeys(t.Context(), actorInit, provisioning.ServicePlane, provisioning.ServiceOwner)
		if err != nil {
			t.Fatal(err)
		}
		key = keys[1]
	})
	at := h.fixPorts("devices")
	_, stop := h.start()
	code, _, body := ask(t, h.client(), http.MethodPost, "https://"+at["devices"]+"/enrollments/query?api-version=2021-10-01",
		`{"query":"SELECT * FROM enrollments"}`, "Authorization", sas("127.0.0.1", provisioning.ServiceOwner, key), "Content-Type", "application/json")
	if code != http.StatusOK {
		t.Fatalf("signing in: %d %s", code, body)
	}
	stop()
	h.within(h.config(""), func(x *house) {
		p, err := x.engine.AccessPolicy(t.Context(), provisioning.ServicePlane, provisioning.ServiceOwner)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Keys[0].Used.IsZero() || p.Keys[1].Used.IsZero() {
			t.Errorf("the keys were used at %v and %v, want the secondary alone", p.Keys[0].Used, p.Keys[1].Used)
		}
	})
}
