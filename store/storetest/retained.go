package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

func retained(t *testing.T, open Open) {
	t.Run("a request is kept, replaced and forgotten, and what is pending of it stays", func(t *testing.T) {
		w := newWorld(t, open)
		k := provisioning.RetainedRequest{ID: w.id("dev-1"), CSR: []byte("a request"), KeptAt: w.now}
		read := func(tx provisioning.Tx) (provisioning.RetainedRequest, error) { return tx.RetainedRequest(k.ID) }
		absent(w, read)
		w.update(func(tx provisioning.Tx) error { return tx.PutRetainedRequest(k) })
		same(w, view(w, read), k)
		k.Pending = rotation.Ref{1}
		w.update(func(tx provisioning.Tx) error { return tx.SetPending(k.ID, k.Pending) })
		k.CSR, k.KeptAt = []byte("another"), w.now.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error { return tx.PutRetainedRequest(k) })
		same(w, view(w, read), k)
		w.update(func(tx provisioning.Tx) error { return tx.SetPending(k.ID, rotation.Ref{}) })
		k.Pending = rotation.Ref{}
		same(w, view(w, read), k)
		w.update(func(tx provisioning.Tx) error { return tx.DeleteRetainedRequest(k.ID) })
		absent(w, read)
	})
	t.Run("what is pending is listed by id", func(t *testing.T) {
		w := newWorld(t, open)
		for i, device := range []string{"dev-3", "dev-1", "dev-2", "dev-4"} {
			k := provisioning.RetainedRequest{ID: w.id(device), CSR: []byte("a request"), KeptAt: w.now}
			w.update(func(tx provisioning.Tx) error { return tx.PutRetainedRequest(k) })
			if device != "dev-2" {
				w.update(func(tx provisioning.Tx) error { return tx.SetPending(k.ID, rotation.Ref{byte(i + 1)}) })
			}
		}
		list := func(after string, limit int) (ids []string) {
			for _, k := range view(w, func(tx provisioning.Tx) ([]provisioning.RetainedRequest, error) {
				if after == "" {
					return tx.PendingRequests(provisioning.RetainedRequest{}.ID, limit)
				}
				return tx.PendingRequests(w.id(after), limit)
			}) {
				if k.CSR != nil || k.Pending == (rotation.Ref{}) {
					t.Errorf("%s is listed with %d octets and %x", k.ID, len(k.CSR), k.Pending[:1])
				}
				ids = append(ids, k.ID.String())
			}
			return ids
		}
		same(w, list("", 2), []string{"dev-1", "dev-3"})
		same(w, list("dev-3", 2), []string{"dev-4"})
	})
}
