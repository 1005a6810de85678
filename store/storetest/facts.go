package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// family is the chain most questions are about: a device below two factories' CAs.
func family(t testing.TB) *testkit.Family {
	return testkit.Chain(t, "root > mid > sub > dev-1; mid > dev-2; outside > dev-3")
}

// asks is the query of a device that sends these certificates, leaf first.
func (w *world) asks(device string, sent ...*testkit.Entity) provisioning.FactsQuery {
	q := provisioning.FactsQuery{ID: w.id(device)}
	for _, e := range sent {
		l := verify.NewLink(e.Cert)
		q.Thumbs, q.Keys = append(q.Thumbs, l.Thumbprint), append(q.Keys, l.KeyHash)
		q.Issuers = append(q.Issuers, verify.NameHash(e.Cert.RawIssuer))
	}
	return q
}

func (w *world) facts(q provisioning.FactsQuery) provisioning.Facts {
	w.Helper()
	return view(w, func(tx provisioning.Tx) (provisioning.Facts, error) { return tx.Facts(q) })
}

// met is what a test says about Facts, in words.
type met struct {
	entries, holders, cas []string
}

func words(f provisioning.Facts) (m met) {
	for _, e := range f.Enrollments {
		m.entries = append(m.entries, fmt.Sprintf("%s (%d)", e.Owner, len(e.Credentials)))
	}
	for _, h := range f.Holders {
		s := "anchor " + h.Anchor
		if !h.Owner.IsZero() {
			s = h.Owner.String()
		}
		if !h.Enabled {
			s += " disabled"
		}
		m.holders = append(m.holders, s)
	}
	for _, h := range f.HeldCAs {
		s := "group's"
		if h.Anchor != "" {
			s = "anchor " + h.Anchor
		}
		if h.Verified {
			s += " verified"
		}
		m.cas = append(m.cas, s)
	}
	return m
}

func facts(t *testing.T, open Open) {
	f := family(t)
	dev1, dev2, sub, mid, root := f.Get("dev-1"), f.Get("dev-2"), f.Get("sub"), f.Get("mid"), f.Get("root")
	for _, c := range []struct {
		name  string
		given func(*world)
		query func(*world) provisioning.FactsQuery
		want  met
	}{
		{"nothing on record",
			func(*world) {},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1, sub) },
			met{}},
		{"an individual enrollment that pins the leaf, with both its slots",
			func(w *world) {
				w.enroll(w.entry(w.individual("dev-1"), pin(dev1, rotation.Primary), pin(dev2, rotation.Secondary)))
			},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1) },
			met{entries: []string{"enrollment dev-1 (2)"}, holders: []string{"enrollment dev-1"}}},
		{"an individual enrollment of another kind shadows: it is met, but holds nothing sent",
			func(w *world) { w.enroll(w.entry(w.individual("dev-1"), key("k", rotation.Primary))) },
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1) },
			met{entries: []string{"enrollment dev-1 (1)"}}},
		{"a group by its signing certificate",
			func(w *world) {
				w.enroll(w.entry(w.group("line"), signing(sub, rotation.Primary), signing(f.Get("outside"), rotation.Secondary)))
			},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1, sub) },
			met{entries: []string{"group line (2)"}, holders: []string{"group line"}, cas: []string{"group's"}}},
		{"a group whose CA the device left out is found by the issuer's name",
			func(w *world) { w.enroll(w.entry(w.group("line"), signing(sub, rotation.Primary))) },
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1) },
			met{entries: []string{"group line (1)"}, holders: []string{"group line"}, cas: []string{"group's"}}},
		{"a group by reference to an anchor, and the anchor",
			func(w *world) {
				w.anchor(root, true)
				w.anchor(f.Get("outside"), true)
				w.enroll(w.entry(w.group("line"), reference("root", rotation.Primary)))
				w.enroll(w.entry(w.group("elsewhere"), reference("outside", rotation.Primary)))
			},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1, sub, mid) },
			met{entries: []string{"group line (1)"}, holders: []string{"group line", "anchor root"}, cas: []string{"anchor root verified"}}},
		{"an anchor that proved nothing is met as such",
			func(w *world) { w.anchor(root, false) },
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1, sub, mid, root) },
			met{holders: []string{"anchor root"}, cas: []string{"anchor root"}}},
		{"every holder of a certificate sent, disabled ones and other devices' too",
			func(w *world) {
				w.anchor(mid, true)
				off := w.entry(w.group("off"), signing(mid, rotation.Secondary))
				off.Enabled = false
				w.enroll(off)
				w.enroll(w.entry(w.group("on"), signing(mid, rotation.Primary)))
				other := w.entry(w.individual("dev-9"), pin(dev1, rotation.Secondary))
				other.Enabled = false
				w.enroll(other)
			},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1, sub, mid) },
			met{
				entries: []string{"group off (1)", "group on (1)"},
				holders: []string{"enrollment dev-9 disabled", "group off disabled", "group on", "anchor mid"},
				cas:     []string{"group's", "anchor mid verified"},
			}},
		{"the owner of the registration, though nothing was sent",
			func(w *world) {
				w.enroll(w.entry(w.group("line"), signing(sub, rotation.Primary)))
				w.put(w.registration("dev-1", w.group("line")))
			},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1") },
			met{entries: []string{"group line (1)"}}},
		{"the outside chain that attested the device last counts as asked about",
			func(w *world) {
				w.anchor(root, true)
				w.enroll(w.entry(w.group("line"), signing(mid, rotation.Primary)))
				w.enroll(w.entry(w.individual("dev-9"), pin(dev1, rotation.Primary)))
				w.attested("dev-1", w.group("line"), dev1, sub, mid, root)
			},
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", f.Get("dev-3")) },
			met{
				entries: []string{"group line (1)"},
				holders: []string{"enrollment dev-9", "group line", "anchor root"},
				cas:     []string{"group's", "anchor root verified"},
			}},
		{"symmetric-key groups only when a key was used: not for a certificate",
			func(w *world) { w.enroll(w.entry(w.group("keys"), key("k", rotation.Primary))) },
			func(w *world) provisioning.FactsQuery { return w.asks("dev-1", dev1) },
			met{}},
		{"symmetric-key groups only when a key was used: all of them then",
			func(w *world) {
				w.enroll(w.entry(w.group("keys"), key("k", rotation.Primary), key("l", rotation.Secondary)))
				w.enroll(w.entry(w.group("more"), key("k", rotation.Secondary)))
				w.enroll(w.entry(w.group("line"), signing(sub, rotation.Primary)))
				w.enroll(w.entry(w.individual("dev-2"), key("k", rotation.Secondary)))
			},
			func(w *world) provisioning.FactsQuery {
				return provisioning.FactsQuery{ID: w.id("dev-1"), SharedKey: true}
			},
			met{entries: []string{"group keys (2)", "group more (1)"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			c.given(w)
			q := c.query(w)
			got := w.facts(q)
			same(w, words(got).join(), c.want.join())
			if again := w.facts(q); again.Digest != got.Digest {
				t.Error("the same facts have two digests")
			}
			Check(t, w.db)
		})
	}
	t.Run("disallowances that name a certificate or key asked about", func(t *testing.T) { disallowed(t, open, f) })
	t.Run("the certificate of ours that was presented", presented(open))
	t.Run("hubs, profiles when asked for, and aliases", surroundings(open))
	t.Run("every change of a fact changes the digest, other changes do not", digests(open, f))
	t.Run("a query of any size is answered", func(t *testing.T) {
		w := newWorld(t, open)
		for n := range 11 {
			q := provisioning.FactsQuery{ID: w.id("dev-1")}
			for i := range n {
				q.Thumbs = append(q.Thumbs, verify.Thumbprint{byte(i + 1)})
				q.Keys = append(q.Keys, verify.KeyHash{byte(i + 1)})
			}
			q.Keys = append(q.Keys, verify.KeyHash{99})
			w.facts(q)
		}
		d := w.disallow(verify.Thumbprint{10}, false)
		q := provisioning.FactsQuery{ID: w.id("dev-1")}
		for i := range 10 {
			q.Thumbs = append(q.Thumbs, verify.Thumbprint{byte(i + 1)})
		}
		same(w, w.facts(q).Disallowances, []provisioning.Disallowance{d})
	})
}

// join makes one list of a met, so that a difference is readable.
func (m met) join() []string {
	var out []string
	for _, s := range m.entries {
		out = append(out, "entry "+s)
	}
	for _, s := range m.holders {
		out = append(out, "held by "+s)
	}
	for _, s := range m.cas {
		out = append(out, "CA "+s)
	}
	return out
}

// attested registers a device by its leaf and the chain above it.
func (w *world) attested(device string, o provisioning.Owner, leaf *testkit.Entity, above ...*testkit.Entity) provisioning.Registration {
	w.Helper()
	var links []verify.Link
	for _, e := range above {
		links = append(links, verify.NewLink(e.Cert))
	}
	r := w.registration(device, o)
	r.Leaf, r.LeafKey, r.Chain = thumb(leaf), verify.NewLink(leaf.Cert).KeyHash, 77
	w.update(func(tx provisioning.Tx) error {
		if err := tx.PutChain(r.Chain, links); err != nil {
			return err
		}
		return tx.PutRegistration(r)
	})
	return r
}

func disallowed(t *testing.T, open Open, f *testkit.Family) {
	link := func(name string) verify.Link { return verify.NewLink(f.Get(name).Cert) }
	for _, c := range []struct {
		name   string
		digest [32]byte
		key    bool
		met    bool
	}{
		{"the leaf sent", link("dev-3").Thumbprint, false, true},
		{"a CA sent", link("outside").Thumbprint, false, true},
		{"the key of a certificate sent", link("dev-3").KeyHash, true, true},
		{"the key of the CSR", verify.KeyHash{5}, true, true},
		{"the leaf that attested last", link("dev-1").Thumbprint, false, true},
		{"the key of the leaf that attested last", link("dev-1").KeyHash, true, true},
		{"a link of the outside chain", link("mid").Thumbprint, false, true},
		{"the key of a link of the outside chain", link("mid").KeyHash, true, true},
		{"another device's leaf", link("dev-2").Thumbprint, false, false},
		{"another device's key", link("dev-2").KeyHash, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			w.attested("dev-1", provisioning.Owner{}, f.Get("dev-1"), f.Get("sub"), f.Get("mid"), f.Get("root"))
			q := w.asks("dev-1", f.Get("dev-3"), f.Get("outside"))
			q.Keys = append(q.Keys, verify.KeyHash{5})
			before := w.facts(q)
			d := w.disallow(c.digest, c.key)
			twice := d
			twice.ID = "another"
			w.update(func(tx provisioning.Tx) error { return tx.InsertDisallowance(twice) })
			after := w.facts(q)
			if c.met {
				same(w, after.Disallowances, []provisioning.Disallowance{d})
			} else {
				same(w, after.Disallowances, nil)
			}
			if (before.Digest != after.Digest) != c.met {
				t.Errorf("digest moved: %v", before.Digest != after.Digest)
			}
			same(w, after.ChainLinks, []verify.Thumbprint{link("sub").Thumbprint, link("mid").Thumbprint, link("root").Thumbprint})
		})
	}
}

func presented(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		c := w.certificate(i, "dev-1")
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, i); err != nil {
				return err
			}
			return w.record(tx, c)
		})
		q := provisioning.FactsQuery{ID: w.id("dev-1"), Thumbs: []verify.Thumbprint{c.Thumbprint, {1}}}
		got := w.facts(q).Issued
		if got == nil {
			t.Fatal("not found")
		}
		want := c
		want.DER, want.Position = nil, 1
		same(w, *got, want)
		alike := c.Thumbprint
		alike[31]++
		for name, thumbs := range map[string][]verify.Thumbprint{
			"as a link above the leaf":    {{1}, c.Thumbprint},
			"one that only begins alike":  {alike},
			"no certificate":              nil,
			"a leaf that is none of ours": {{9}},
		} {
			q.Thumbs = thumbs
			if got := w.facts(q).Issued; got != nil {
				t.Errorf("%s: found %s", name, got.Serial)
			}
		}
	}
}

func surroundings(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		hubs := []provisioning.Hub{{Name: "a.example", Driver: "registry", Weight: 1, Version: 1}, {Name: "b.example", Driver: "registry", Weight: 2, Draining: true, Version: 1}}
		profile := provisioning.Profile{Profile: policies.DefaultProfile(), Created: w.now, Updated: w.now, Version: 1}
		w.update(func(tx provisioning.Tx) error {
			for _, h := range []provisioning.Hub{hubs[1], hubs[0]} {
				if err := tx.InsertHub(h); err != nil {
					return err
				}
				if err := tx.Append(w.note(audit.HubLinked, "hub:"+h.Name)); err != nil {
					return err
				}
			}
			if err := tx.InsertProfile(profile); err != nil {
				return err
			}
			return tx.Append(w.note(audit.ProfileWritten, "profile:"+profile.Name))
		})
		named := w.entry(w.individual("dev-1"), key("k", rotation.Primary))
		named.DeviceID = "Pump"
		w.enroll(named)
		w.enroll(w.entry(w.group("g"), key("k", rotation.Primary)))
		w.put(w.assigned("other", "a.example", "pump", provisioning.Owner{})) // holds the name as an alias
		w.put(w.assigned("pump", "b.example", "pump", provisioning.Owner{}))  // holds it as its own
		w.put(w.assigned("dev-2", "b.example", "Mixer", w.group("g")))
		w.put(w.assigned("mixer", "a.example", "mixer", provisioning.Owner{}))
		w.put(w.registration("dev-4", provisioning.Owner{}))

		f := w.facts(provisioning.FactsQuery{ID: w.id("dev-1"), Profiles: true})
		same(w, f.Hubs, hubs)
		same(w, f.Profiles, []provisioning.Profile{profile})
		same(w, f.Aliases, []provisioning.Alias{{Hub: "a.example", ID: w.id("other")}, {Hub: "b.example", ID: w.id("pump")}})
		for device, want := range map[string][]provisioning.Alias{
			"dev-2": {{Hub: "a.example", ID: w.id("mixer")}}, // keeps the name its group gave it
			"pump":  {{Hub: "a.example", ID: w.id("other")}},
			"mixer": {{Hub: "b.example", ID: w.id("dev-2")}},
			"dev-4": nil, "dev-5": nil,
		} {
			f := w.facts(provisioning.FactsQuery{ID: w.id(device)})
			same(w, f.Aliases, want)
			same(w, f.Profiles, nil)
		}
		Check(t, w.db)
	}
}

func digests(open Open, f *testkit.Family) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		w.anchor(f.Get("root"), false)
		group := w.entry(w.group("line"), signing(f.Get("mid"), rotation.Primary))
		w.enroll(group)
		w.enroll(w.entry(w.individual("stranger"), key("k", rotation.Primary)))
		q := w.asks("dev-2", f.Get("dev-2"), f.Get("mid"))
		last := w.facts(q).Digest
		moved := func(want bool, what string, f func(provisioning.Tx) error) {
			t.Helper()
			w.update(f)
			next := w.facts(q).Digest
			if (next != last) != want {
				t.Errorf("%s: digest moved %v, want %v", what, next != last, want)
			}
			last = next
		}
		moved(true, "the group is disabled", func(tx provisioning.Tx) error {
			group.Enabled, group.Version = false, 2
			return tx.UpdateEnrollment(group, 1)
		})
		moved(true, "the group has another slot", func(tx provisioning.Tx) error {
			group.Credentials = append(group.Credentials[:1:1], signing(f.Get("sub"), rotation.Secondary))
			group.Version = 3
			return tx.UpdateEnrollment(group, 2)
		})
		moved(true, "the anchor is verified", func(tx provisioning.Tx) error {
			a, err := tx.Anchor("root")
			if err != nil {
				return err
			}
			return tx.UpdateAnchor(a.VouchedBy("ann", w.now), a.Version())
		})
		moved(true, "a hub is linked", func(tx provisioning.Tx) error {
			return tx.InsertHub(provisioning.Hub{Name: "a.example", Driver: "registry", Version: 1})
		})
		moved(true, "the device is registered", func(tx provisioning.Tx) error {
			return tx.PutRegistration(w.registration("dev-2", w.group("line")))
		})
		moved(false, "another device is registered", func(tx provisioning.Tx) error {
			return tx.PutRegistration(w.registration("dev-1", w.group("line")))
		})
		moved(false, "a stranger's entry is changed", func(tx provisioning.Tx) error {
			e := w.entry(w.individual("stranger"), key("l", rotation.Primary))
			e.Version, e.Updated = 2, w.now.Add(time.Second)
			return tx.UpdateEnrollment(e, 1)
		})
		moved(false, "a ledger row is written", func(tx provisioning.Tx) error { return tx.Append(w.note("x", "y")) })
	}
}
