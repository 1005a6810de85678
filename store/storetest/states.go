package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

// states drives registrations and their pairs through random lives and compares what is
// read with what a plain map says.
func states(t *testing.T, open Open) {
	w := newWorld(t, open)
	device := 0
	rapid.Check(t, func(rt *rapid.T) {
		device++
		id := w.id(fmt.Sprintf("dev-%d", device))
		var model *provisioning.Registration
		for step := range rapid.IntRange(1, 6).Draw(rt, "steps") {
			next := w.registration(id.String(), provisioning.Owner{})
			if model != nil {
				next = *model
				next.Version++
			}
			next.Updated = w.now.Add(time.Duration(step) * time.Minute)
			ref := rotation.Ref(sha256.Sum256([]byte{byte(rapid.IntRange(0, 3).Draw(rt, "credential"))}))
			move := rapid.SampledFrom([]string{"stage", "seen", "drop", "late", "early", "delete"}).Draw(rt, "move")
			want := fault.Internal
			switch move {
			case "stage":
				if pair, err := next.Pair.Stage(ref, w.now, w.now.Add(time.Duration(step+1)*time.Hour)); err == nil {
					next.Pair = pair
				}
			case "seen":
				next.Pair = next.Pair.Seen(ref, next.Updated, time.Hour)
			case "drop":
				next.Pair = next.Pair.Drop(ref)
			case "late":
				next.Version--
				want = fault.Conflict
			case "early":
				next.Version++
				want = fault.Conflict
			}
			err := w.store.Update(bg, func(tx provisioning.Tx) error {
				if move == "delete" {
					return tx.DeleteRegistration(id, next.Version-1)
				}
				return tx.PutRegistration(next)
			})
			switch {
			case move == "delete" && model == nil:
				want = fault.PreconditionFailed
			case move == "late" && model == nil: // version 0 names a row that cannot be
				want = fault.Conflict
			}
			if got := err; (want == fault.Internal) != (got == nil) || got != nil && fault.KindOf(got) != want {
				rt.Fatalf("%s: %v, want %v", move, got, want)
			}
			if err == nil {
				model = &next
				if move == "delete" {
					model = nil
				}
			}
			w.agrees(rt, id.String(), model)
		}
	})
}

// agrees compares the row of a device with the model's.
func (w *world) agrees(rt *rapid.T, device string, model *provisioning.Registration) {
	var got provisioning.Registration
	err := w.store.View(bg, func(tx provisioning.Tx) (err error) {
		got, err = tx.Registration(w.id(device))
		return err
	})
	switch {
	case model == nil && fault.Is(err, fault.NotFound):
	case err != nil || model == nil:
		rt.Fatalf("reading %s: %v, model %v", device, err, model)
	case got.Pair != model.Pair || got.Version != model.Version || !got.Updated.Equal(model.Updated):
		rt.Fatal(errors.New("the row is not what was written last"))
	}
}
