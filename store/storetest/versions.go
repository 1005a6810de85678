package storetest

import (
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// kind is a sort of row with a version, written in full so that every column is seen.
type kind[T any] struct {
	first, second T        // second is the next version of first
	versions      [2]int64 // theirs
	insert        func(provisioning.Tx, T) error
	update        func(provisioning.Tx, T, int64) error
	read          func(provisioning.Tx) (T, error)
	remove        func(provisioning.Tx, int64) error
}

// obey tries the version rules of provisioning.Tx.
func obey[T any](t *testing.T, open Open, make func(*world) kind[T]) {
	w := newWorld(t, open)
	k := make(w)
	absent(w, k.read)
	w.update(func(tx provisioning.Tx) error { return k.insert(tx, k.first) })
	same(w, view(w, k.read), k.first)
	w.refused(fault.Conflict, "", func(tx provisioning.Tx) error { return k.insert(tx, k.second) })
	same(w, view(w, k.read), k.first)
	w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return k.update(tx, k.second, 7) })
	same(w, view(w, k.read), k.first)
	w.update(func(tx provisioning.Tx) error { return k.update(tx, k.second, k.versions[0]) })
	same(w, view(w, k.read), k.second)
	w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return k.update(tx, k.second, k.versions[0]) })
	w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return k.remove(tx, k.versions[0]) })
	same(w, view(w, k.read), k.second)
	w.update(func(tx provisioning.Tx) error { return k.remove(tx, k.versions[1]) })
	absent(w, k.read)
	w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return k.remove(tx, k.versions[1]) })
}

func versions(t *testing.T, open Open) {
	f := testkit.Chain(t, "root > mid > dev-1; root > dev-2")
	t.Run("an individual enrollment keeps every setting and obeys its version", func(t *testing.T) {
		obey(t, open, func(w *world) kind[provisioning.Enrollment] {
			first := w.entry(w.individual("dev-1"), pin(f.Get("dev-1"), rotation.Primary))
			second := provisioning.Enrollment{
				Owner: first.Owner, Spelled: "Dev-1", Enabled: false,
				Credentials: []provisioning.Credential{key("sealed 1", rotation.Primary), key("sealed 2", rotation.Secondary)},
				DeviceID:    "Other", Allocation: "static", Hubs: []string{"a.example", "b.example"},
				Reprovision: policies.ReprovisionPolicy{UpdateHubAssignment: true}, InitialTwin: []byte(`{"tags":{}}`),
				Profile: "default", IoTEdge: true, OptionalInfo: []byte(`{"a":1}`),
				SealedWebhook: []byte("sealed webhook"),
				Created:       w.now, Updated: w.now.Add(time.Second), Version: 2,
			}
			return entryKind(first, second)
		})
	})
	t.Run("an enrollment group does too", func(t *testing.T) {
		obey(t, open, func(w *world) kind[provisioning.Enrollment] {
			w.anchor(f.Get("root"), true)
			first := w.entry(w.group("line-3"), signing(f.Get("mid"), rotation.Primary), signing(f.Get("root"), rotation.Secondary))
			second := first
			second.Credentials = []provisioning.Credential{reference("root", rotation.Secondary)}
			second.Version = 2
			return entryKind(first, second)
		})
	})
	t.Run("a trust anchor keeps its code, its proof and its version", func(t *testing.T) {
		obey(t, open, func(w *world) kind[verify.AnchorRecord] {
			a, err := verify.NewTrustAnchor("root", f.Get("root").Cert, w.now)
			if err != nil {
				w.Fatal(err)
			}
			b := a.VouchedBy("ann", w.now.Add(time.Second))
			return kind[verify.AnchorRecord]{
				first: a.Record(), second: b.Record(), versions: [2]int64{a.Version(), b.Version()},
				insert: func(tx provisioning.Tx, r verify.AnchorRecord) error { return tx.InsertAnchor(restore(w, r)) },
				update: func(tx provisioning.Tx, r verify.AnchorRecord, was int64) error {
					return tx.UpdateAnchor(restore(w, r), was)
				},
				read: func(tx provisioning.Tx) (verify.AnchorRecord, error) {
					a, err := tx.Anchor("root")
					return a.Record(), err
				},
				remove: func(tx provisioning.Tx, v int64) error { return tx.DeleteAnchor("root", v) },
			}
		})
	})
	t.Run("a hub keeps its settings and obeys its version", func(t *testing.T) {
		obey(t, open, func(w *world) kind[provisioning.Hub] {
			first := provisioning.Hub{Name: "a.example", Driver: "registry", Weight: 1, Created: w.now, Updated: w.now, Version: 1}
			second := provisioning.Hub{Name: "a.example", Driver: "webhook", Location: "north", Weight: 3, Draining: true, Created: w.now, Updated: w.now.Add(time.Hour), Version: 2}
			return kind[provisioning.Hub]{first, second, [2]int64{1, 2}, provisioning.Tx.InsertHub, provisioning.Tx.UpdateHub,
				func(tx provisioning.Tx) (provisioning.Hub, error) { return tx.Hub("a.example") },
				func(tx provisioning.Tx, v int64) error { return tx.DeleteHub("a.example", v) }}
		})
	})
	t.Run("an issuing profile keeps its settings and obeys its version", func(t *testing.T) {
		obey(t, open, func(w *world) kind[provisioning.Profile] {
			first := provisioning.Profile{Profile: policies.DefaultProfile(), Created: w.now, Updated: w.now, Version: 1}
			second := first
			second.Lifetime, second.Keys = time.Hour, []policies.KeyType{policies.KeyECP256}
			second.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
			second.Renewal, second.Version = policies.RotationPolicy{PrepareAt: 0.5, Overlap: time.Minute, Grace: time.Hour}, 2
			second.ServerKeygen = true
			return kind[provisioning.Profile]{first, second, [2]int64{1, 2}, provisioning.Tx.InsertProfile, provisioning.Tx.UpdateProfile,
				func(tx provisioning.Tx) (provisioning.Profile, error) { return tx.Profile("default") },
				func(tx provisioning.Tx, v int64) error { return tx.DeleteProfile("default", v) }}
		})
	})
	t.Run("a shared access policy keeps its rights and keys and obeys its version", func(t *testing.T) {
		obey(t, open, func(w *world) kind[provisioning.AccessPolicy] {
			first := provisioning.AccessPolicy{
				Plane: provisioning.HubPlane, Name: "registryread", Rights: policies.RegistryRead,
				SealedKeys: [2][]byte{[]byte("sealed 1"), []byte("sealed 2")}, Created: w.now, Updated: w.now, Version: 1,
			}
			second := first
			second.Rights, second.SealedKeys[1], second.Updated, second.Version = policies.AllHubRights, []byte("sealed 3"), w.now.Add(time.Hour), 2
			return kind[provisioning.AccessPolicy]{first, second, [2]int64{1, 2}, provisioning.Tx.InsertAccessPolicy, provisioning.Tx.UpdateAccessPolicy,
				func(tx provisioning.Tx) (provisioning.AccessPolicy, error) {
					return tx.AccessPolicy(provisioning.HubPlane, "registryread")
				},
				func(tx provisioning.Tx, v int64) error {
					return tx.DeleteAccessPolicy(provisioning.HubPlane, "registryread", v)
				}}
		})
	})
	t.Run("a token is found by its hash and its revocation is final", tokens(open))
	t.Run("a twin is replaced as a whole", twins(open))
	t.Run("use of hubs and profiles is counted", use(open))
	t.Run("deleting an anchor empties the slots that refer to it", func(t *testing.T) { emptiedSlots(t, open, f) })
	t.Run("an entry that refers to a missing anchor is refused", func(t *testing.T) {
		w := newWorld(t, open)
		w.refused(fault.Conflict, "anchor-missing", func(tx provisioning.Tx) error {
			return tx.InsertEnrollment(w.entry(w.group("g"), reference("nobody", rotation.Primary)))
		})
		absent(w, func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(w.group("g")) })
	})
	t.Run("holders of a certificate are listed, entries and anchors", func(t *testing.T) { holders(t, open, f) })
}

func entryKind(first, second provisioning.Enrollment) kind[provisioning.Enrollment] {
	return kind[provisioning.Enrollment]{first, second, [2]int64{1, 2}, provisioning.Tx.InsertEnrollment, provisioning.Tx.UpdateEnrollment,
		func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(first.Owner) },
		func(tx provisioning.Tx, v int64) error { return tx.DeleteEnrollment(first.Owner, v) }}
}

func restore(w *world, r verify.AnchorRecord) verify.TrustAnchor {
	w.Helper()
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		w.Fatal(err)
	}
	a, err := verify.NewTrustAnchor(r.Name, cert, r.Created)
	if err != nil {
		w.Fatal(err)
	}
	if !r.VerifiedAt.IsZero() {
		a = a.VouchedBy("ann", r.VerifiedAt)
	}
	return a
}

func tokens(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		k := provisioning.Token{Name: "ann", Hash: sha256.Sum256([]byte("t")), Scopes: policies.RoleOperator.Scopes(), Created: w.now, Expires: w.now.Add(time.Hour)}
		read := func(tx provisioning.Tx) (provisioning.Token, error) { return tx.Token(k.Hash) }
		absent(w, read)
		w.update(func(tx provisioning.Tx) error { return tx.InsertToken(k) })
		same(w, view(w, read), k)
		w.refused(fault.Conflict, "token-exists", func(tx provisioning.Tx) error { return tx.InsertToken(k) })
		w.refused(fault.NotFound, "", func(tx provisioning.Tx) error { return tx.RevokeToken("bob", w.now) })
		w.update(func(tx provisioning.Tx) error { return tx.RevokeToken("ann", w.now) })
		w.update(func(tx provisioning.Tx) error { return tx.RevokeToken("ann", w.now.Add(time.Hour)) })
		k.RevokedAt = w.now
		same(w, view(w, provisioning.Tx.Tokens), []provisioning.Token{k})
	}
}

func twins(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		read := func(tx provisioning.Tx) (provisioning.Twin, error) { return tx.Twin(w.id("dev-1")) }
		absent(w, read)
		for i, twin := range []provisioning.Twin{
			{Tags: []byte(`{"a":1}`), Desired: []byte(`{}`), Updated: w.now, Version: 1, DesiredVersion: 1},
			{Desired: []byte(`{"b":2}`), Updated: w.now.Add(time.Second), Version: 2, DesiredVersion: 2},
			{Tags: []byte(`{"a":2}`), Desired: []byte(`{"b":2}`), Updated: w.now.Add(time.Second), Version: 3, DesiredVersion: 2},
		} {
			w.update(func(tx provisioning.Tx) error { return tx.PutTwin(w.id("dev-1"), twin) })
			t.Logf("twin %d", i)
			same(w, view(w, read), twin)
		}
		w.update(func(tx provisioning.Tx) error { return tx.DeleteTwin(w.id("dev-1")) })
		absent(w, read)
	}
}

func use(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		for _, e := range []struct {
			id      string
			hubs    []string
			profile string
		}{
			{"dev-1", []string{"a.example", "b.example"}, "default"},
			{"dev-2", []string{"a.example"}, ""},
			{"dev-3", []string{"aa.example"}, "default"},
			{"dev-4", nil, "short"},
		} {
			en := w.entry(w.individual(e.id))
			en.Hubs, en.Profile = e.hubs, e.profile
			w.enroll(en)
		}
		w.put(w.assigned("dev-1", "a.example", "dev-1", w.individual("dev-1")))
		w.put(w.assigned("dev-3", "aa.example", "dev-3", w.individual("dev-3")))
		for hub, want := range map[string][2]int64{"a.example": {2, 1}, "aa.example": {1, 1}, "b.example": {1, 0}, "example": {0, 0}} {
			got := view(w, func(tx provisioning.Tx) (n [2]int64, err error) {
				n[0], n[1], err = tx.HubUse(hub)
				return n, err
			})
			if got != want {
				t.Errorf("use of hub %s: %v, want %v", hub, got, want)
			}
		}
		for profile, want := range map[string]int64{"default": 2, "short": 1, "none": 0, "": 0} {
			if got := view(w, func(tx provisioning.Tx) (int64, error) { return tx.ProfileUse(profile) }); got != want {
				t.Errorf("use of profile %q: %d, want %d", profile, got, want)
			}
		}
	}
}

func emptiedSlots(t *testing.T, open Open, f *testkit.Family) {
	w := newWorld(t, open)
	root := w.anchor(f.Get("root"), true)
	w.anchor(f.Get("mid"), true)
	w.enroll(w.entry(w.group("both"), reference("root", rotation.Primary), reference("mid", rotation.Secondary)))
	w.enroll(w.entry(w.group("other"), reference("mid", rotation.Primary)))
	w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.DeleteAnchor("root", 9) })
	read := func(name string) provisioning.Enrollment {
		return view(w, func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(w.group(name)) })
	}
	if e := read("both"); len(e.Credentials) != 2 || e.Version != 1 {
		t.Errorf("a refused delete changed the entry: %+v", e)
	}
	w.update(func(tx provisioning.Tx) error { return tx.DeleteAnchor("root", root.Version()) })
	if e := read("both"); len(e.Credentials) != 1 || e.Credentials[0].Anchor != "mid" || e.Version != 2 {
		t.Errorf("entry after the delete: %+v, want the other slot and a new etag", e)
	}
	if e := read("other"); len(e.Credentials) != 1 || e.Version != 1 {
		t.Errorf("an entry that did not refer to it: %+v", e)
	}
}

func holders(t *testing.T, open Open, f *testkit.Family) {
	w := newWorld(t, open)
	w.anchor(f.Get("mid"), false)
	w.enroll(w.entry(w.group("signed"), signing(f.Get("mid"), rotation.Secondary)))
	off := w.entry(w.group("referred"), reference("mid", rotation.Primary))
	off.Enabled = false
	w.enroll(off)
	mid := verify.ThumbprintOf(f.Get("mid").Cert.Raw)
	got := view(w, func(tx provisioning.Tx) ([]provisioning.Holder, error) { return tx.HoldersOf(mid) })
	same(w, sortedHolders(got), sortedHolders([]provisioning.Holder{
		{Owner: w.group("signed"), Enabled: true, Role: provisioning.RoleSigning, Thumbprint: mid},
		{Owner: w.group("referred"), Anchor: "mid", Role: provisioning.RoleCARef, Thumbprint: mid},
		{Anchor: "mid", Enabled: true, Thumbprint: mid},
	}))
}

// thumb is a member's thumbprint.
func thumb(e *testkit.Entity) verify.Thumbprint { return verify.ThumbprintOf(e.Cert.Raw) }
