package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/provisioning"
)

// TestAServerSealsWebhooksOfBeforeWithoutANewKEK is INV-K1: no key-encryption key is being replaced, and
// what stands in the clear is sealed all the same.
func TestAServerSealsWebhooksOfBeforeWithoutANewKEK(t *testing.T) {
	onBoth := map[string]func(h host) []string{
		"sqlite": func(host) []string { return nil },
		"postgres": func(h host) []string {
			h.write("dsn", testpg.DSN(t)+"\n", 0o600)
			return []string{"--dsn-file", h.path("dsn")}
		},
	}
	for name, flags := range onBoth {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.init(append([]string{"--keep-root"}, flags(h)...)...)
			owner := provisioning.Owner{Kind: provisioning.Individual, ID: parsedID(t, "dev-1")}
			const old = "2021-10-01\nhttps://alloc.example.net/?code=" + webhookKey
			stored := func(x *house) (bytes []byte) {
				t.Helper()
				err := x.db.Provisioning().View(t.Context(), func(tx provisioning.Tx) error {
					en, err := tx.Enrollment(owner)
					bytes = en.SealedWebhook
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return bytes
			}
			h.within(h.config(""), func(x *house) {
				enrolledWithKeys(t, x)
				was := provisioning.SealedValue{Place: provisioning.SealedWebhooks, Key: []string{"0", "dev-1"}, Sealed: stored(x)}
				if err := x.db.Provisioning().Update(t.Context(), func(tx provisioning.Tx) error { return tx.Reseal(was, []byte(old)) }); err != nil {
					t.Fatal(err)
				}
			})
			said, stop := h.start()
			said.await(t, "what was sealed", func() bool { return strings.Contains(said.String(), "sealed secrets anew") })
			stop()
			h.within(h.config(""), func(x *house) {
				if sealed := stored(x); len(sealed) == 0 || bytes.Contains(sealed, []byte("code=")) {
					t.Errorf("stored is %q", sealed)
				}
				if en, err := x.engine.Enrollment(t.Context(), owner); err != nil || en.Custom.URL != "https://alloc.example.net/?code="+webhookKey || en.Custom.APIVersion != "2021-10-01" {
					t.Errorf("%+v, %v", en.Custom, err)
				}
			})
		})
	}
}
