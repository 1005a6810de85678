package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func keys(t *testing.T, open Open) {
	t.Run("entries with symmetric keys come due, the longest due first", dueKeys(open))
	t.Run("an entry that is woken has another due date, and whoever decided before notices", func(t *testing.T) {
		w := newWorld(t, open)
		o := w.individual("dev")
		w.enroll(w.entry(o, key("a", rotation.Primary)))
		hour := w.now.Add(time.Hour)
		for _, tt := range []struct{ at, want time.Time }{{hour, hour}, {w.now, w.now}, {w.now, w.now.Add(-time.Microsecond)}} {
			w.update(func(tx provisioning.Tx) error { return tx.WakeEntry(o, tt.at) })
			en := view(w, func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(o) })
			if !en.DueAt.Equal(tt.want) || en.Version != 1 {
				w.Errorf("due at %s in version %d, want %s in the same one", en.DueAt, en.Version, tt.want)
			}
		}
		w.refused(fault.Conflict, "entry-moved", func(tx provisioning.Tx) error { return tx.NextLook(o, w.now, time.Time{}) })
		w.update(func(tx provisioning.Tx) error { return tx.NextLook(o, w.now.Add(-time.Microsecond), time.Time{}) })
	})
	t.Run("the devices of an entry are counted by the key that they came with", keyDevices(open))
	t.Run("a notice is given once", func(t *testing.T) {
		w := newWorld(t, open)
		give := func(tx provisioning.Tx) error { return tx.Notice("the end is near", w.now) }
		noticed := func(tx provisioning.Tx) (bool, error) { return tx.Noticed("the end is near") }
		if view(w, noticed) {
			w.Error("it was given before")
		}
		w.update(give)
		if !view(w, noticed) {
			w.Error("it was not noted")
		}
		w.refused(fault.Conflict, "notice-exists", give)
	})
	t.Run("the keys of a policy keep since when they are there and when they were used", accessUses(open))
}

func dueKeys(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		for i, o := range []provisioning.Owner{w.individual("b"), w.individual("a"), w.group("b"), w.individual("never"), w.individual("later")} {
			en := w.entry(o, key("1", rotation.Primary), key("2", rotation.Secondary))
			switch o.ID.String() {
			case "never":
			case "later":
				en.DueAt = w.now.Add(time.Hour)
			default:
				en.DueAt = w.now.Add(-time.Duration(i+1) * time.Minute)
			}
			w.enroll(en)
		}
		pinned := w.entry(w.group("refs"), reference(w.anchorOf(t), rotation.Primary))
		pinned.DueAt = w.now
		w.enroll(pinned)
		due := func(limit int) (names []string) {
			list := view(w, func(tx provisioning.Tx) ([]provisioning.Enrollment, error) { return tx.DueKeyEntries(w.now, limit) })
			for _, en := range list {
				if len(en.Credentials) != 2 {
					w.Errorf("%s came with %d credentials", en.Owner, len(en.Credentials))
				}
				names = append(names, en.Owner.String())
			}
			return names
		}
		if got, want := strings.Join(due(10), ", "), "enrollment a, enrollment b, group b"; got != want {
			w.Errorf("due: %s, want %s", got, want)
		}
		if got := strings.Join(due(1), ", "); got != "group b" {
			w.Errorf("the longest due is %s", got)
		}
		w.update(func(tx provisioning.Tx) error { return tx.KeyEntriesDue(w.now) })
		if got := due(10); len(got) != 5 {
			w.Errorf("after a plan was written %v are due", got)
		}
	}
}

// anchorOf is a verified anchor's name.
func (w *world) anchorOf(t *testing.T) string {
	root := family(t).Get("root")
	w.anchor(root, true)
	return root.Name
}

func keyDevices(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		o, other := w.group("line"), w.group("other")
		w.enroll(w.entry(o, key("1", rotation.Primary)))
		w.enroll(w.entry(other, key("1", rotation.Primary)))
		one, two := verify.NewSecret([]byte("one")).Hash(), verify.NewSecret([]byte("two")).Hash()
		for i, d := range []struct {
			owner provisioning.Owner
			key   verify.KeyHash
			leaf  verify.Thumbprint
		}{{o, one, verify.Thumbprint{}}, {o, one, verify.Thumbprint{}}, {o, two, verify.Thumbprint{}}, {o, verify.KeyHash{}, verify.Thumbprint{}}, {other, one, verify.Thumbprint{}}, {o, one, verify.Thumbprint{1}}} {
			reg := w.registration(fmt.Sprintf("dev-%d", i), d.owner)
			reg.LeafKey, reg.Leaf = d.key, d.leaf
			w.put(reg)
		}
		for _, tt := range []struct {
			key     verify.KeyHash
			unknown bool
			limit   int
			want    int64
		}{{one, false, 10, 2}, {one, true, 10, 3}, {one, true, 1, 1}, {two, false, 10, 1}, {verify.KeyHash{}, false, 10, 1}, {verify.KeyHash{9}, false, 10, 0}} {
			got := view(w, func(tx provisioning.Tx) (int64, error) { return tx.KeyDevices(o, tt.key, tt.unknown, tt.limit) })
			if got != tt.want {
				w.Errorf("key %x, unknown %v, limit %d: %d devices, want %d", tt.key[:2], tt.unknown, tt.limit, got, tt.want)
			}
		}
	}
}

func accessUses(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		p := provisioning.AccessPolicy{
			Plane: provisioning.HubPlane, Name: "rolled", Rights: policies.RegistryRead, SealedKeys: [2][]byte{{1}, {2}}, Created: w.now, Updated: w.now, Version: 1,
			Keys: [2]provisioning.AccessKey{{Since: w.now, Used: w.now.Add(time.Minute)}, {Since: w.now.Add(time.Hour)}},
		}
		w.update(func(tx provisioning.Tx) error { return tx.InsertAccessPolicy(p) })
		read := func() provisioning.AccessPolicy {
			return view(w, func(tx provisioning.Tx) (provisioning.AccessPolicy, error) { return tx.AccessPolicy(p.Plane, p.Name) })
		}
		same(w, read(), p)
		later := w.now.Add(2 * time.Hour)
		for _, use := range []struct {
			slot        rotation.Slot
			since, used time.Time
		}{
			{rotation.Primary, w.now, w.now},                  // earlier than known
			{rotation.Primary, w.now.Add(time.Second), later}, // of a key that is not there any more
			{rotation.Secondary, w.now.Add(time.Hour), later},
		} {
			w.update(func(tx provisioning.Tx) error {
				return tx.AccessKeyUsed(p.Plane, p.Name, use.slot, use.since, use.used)
			})
		}
		p.Keys[rotation.Secondary].Used = later
		same(w, read(), p)
	}
}
