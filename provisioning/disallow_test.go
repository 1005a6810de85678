package provisioning_test

import (
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

func (w *world) foresees(r provisioning.DisallowRequest) provisioning.DisallowPreview {
	w.t.Helper()
	p, err := w.engine.PreviewDisallow(w.ctx, r)
	w.must(err)
	return p
}

// disallow previews and acts.
func (w *world) disallow(r provisioning.DisallowRequest) provisioning.Incident {
	w.t.Helper()
	i, err := w.engine.Disallow(w.ctx, ann, r, w.foresees(r).ID)
	w.must(err)
	w.check()
	return i
}

// follow carries disallowances and hubs on until nothing is left to do now.
func (w *world) follow() {
	w.t.Helper()
	for range 1000 {
		more, err := w.engine.SweepIncidents(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
		if !more {
			w.check()
			return
		}
	}
	w.t.Fatal("the sweep does not end")
}

func (w *world) incident(id string) provisioning.IncidentReport {
	w.t.Helper()
	r, err := w.engine.Disallowance(w.ctx, id)
	w.must(err)
	return r
}

func (w *world) at(hub, device string) provisioning.HubDevice {
	w.t.Helper()
	d, err := w.engine.HubDevice(w.ctx, hub, id(w, device), "")
	w.must(err)
	return d
}

// A7, I6, I10, I11: an intermediate is stolen. Its group is shut, the group on the root lets
// nobody below it slip back in, devices below the other intermediate do not notice.
func TestAStolenIntermediateIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		f := testkit.Chain(t, "root > mid > d1")
		root, mid := f.Get("root"), f.Get("mid")
		other := root.Issue(t, "mid-2", testkit.AsCA())
		d2, d3 := mid.Issue(t, "d2"), other.Issue(t, "d3")
		w.anchor(root, true)
		line := w.group("line", mid, livingOn(builtIn))
		plant := w.group("plant", root, livingOn(builtIn))
		leaf, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
		w.must(err)
		w.assigned(w.presenting("d2", d2.Chain()...))
		w.assigned(w.presenting("d3", d3.Chain()...))

		r := provisioning.DisallowRequest{Certificate: mid.Cert.Raw}
		p := w.foresees(r)
		if p.Scope != provisioning.DisallowBelow || p.Devices != 2 || len(p.Entries) != 1 || p.Entries[0] != (provisioning.EntryEffect{Owner: line.Owner, Act: provisioning.EntryShut}) ||
			len(p.WouldEnter) != 1 || p.WouldEnter[0] != plant.Owner || p.Reason != ca.CACompromise || !p.Known || p.Ours {
			t.Fatalf("foresees %+v", p)
		}
		w.assigned(w.presenting("d2", d2.Chain()...)) // a preview does nothing
		i := w.disallow(r)
		for name, a := range map[string]provisioning.Attempt{
			"the leaf of the factory":        w.presenting("d1", f.Get("d1").Chain()...),
			"a certificate of ours":          w.presenting("d1", leaf),
			"another device":                 w.presenting("d2", d2.Chain()...),
			"one that was never seen":        w.presenting("d4", mid.Issue(t, "d4").Chain()...),
			"the intermediate is left out":   w.presenting("d2", d2.Cert),
			"below an intermediate below it": w.presenting("d5", mid.Issue(t, "deep", testkit.AsCA()).Issue(t, "d5").Chain()...),
		} {
			if _, err := w.register(a); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.assigned(w.presenting("d3", d3.Chain()...))
		for device, enabled := range map[string]bool{"d1": false, "d2": false, "d3": true} {
			if got := w.at(builtIn, device).Enabled; got != enabled { // from the commit on, no sweep has run
				t.Errorf("%s is enabled at its hub: %v", device, got)
			}
		}
		if got := w.incident(i.ID); !got.Done.IsZero() || !got.Passed.IsZero() {
			t.Errorf("done before anything was followed up: %+v", got)
		}
		w.follow()
		w.follow()
		got := w.incident(i.ID)
		if got.Done.IsZero() || got.Devices != 2 || len(got.Hubs) != 1 || got.Hubs[0] != (provisioning.IncidentHub{Hub: builtIn, Devices: 2}) {
			t.Errorf("the report says %+v", got)
		}
		if again := w.disallow(r); again.ID != i.ID {
			t.Errorf("twice is two: %s and %s", i.ID, again.ID)
		}

		// A replacement below the same root.
		next := root.Issue(t, "mid-3", testkit.AsCA())
		w.put(provisioning.Group, "line-2", provisioning.Attestation{Role: provisioning.RoleSigning, Slots: [2]provisioning.SlotDraft{{Certificate: next.PEM()}}}, livingOn(builtIn))
		w.assigned(w.presenting("d1", next.Issue(t, "d1").Chain()...))
		if !w.at(builtIn, "d1").Enabled {
			t.Error("a device that came back with something clean is kept out of its hub")
		}

		lifted, err := w.engine.LiftDisallowance(w.ctx, ann, i.ID)
		w.must(err)
		if lifted.LiftedAt.IsZero() {
			t.Error("it is not lifted")
		}
		w.enable(line.Owner, true)
		w.assigned(w.presenting("d2", d2.Chain()...))
		w.follow()
		w.follow()
		if got := w.incident(i.ID); got.Done.IsZero() {
			t.Errorf("lifting does not end: %+v", got)
		}
		if w.foresees(r).AlreadyBy != "" {
			t.Error("it is in force still")
		}
	})
}

// I1, I17: with a clean other slot the entry stays enabled and the slot is emptied; with none it is
// disabled.
func TestAStolenLeafLeavesItsSlot(t *testing.T) {
	t.Parallel()
	f := testkit.Chain(t, "root > d1")
	stolen, clean := f.Get("d1"), f.Get("root").Issue(t, "d1")
	for name, c := range map[string]struct {
		slots []provisioning.SlotDraft
		want  provisioning.EntryEffect
	}{
		"alone":                 {[]provisioning.SlotDraft{{Certificate: stolen.Cert.Raw}}, provisioning.EntryEffect{Act: provisioning.EntryShut}},
		"in the primary slot":   {[]provisioning.SlotDraft{{Certificate: stolen.Cert.Raw}, {Certificate: clean.Cert.Raw}}, provisioning.EntryEffect{Act: provisioning.SlotEmptied}},
		"in the secondary slot": {[]provisioning.SlotDraft{{Certificate: clean.Cert.Raw}, {Certificate: stolen.Cert.Raw}}, provisioning.EntryEffect{Act: provisioning.SlotEmptied, Slot: rotation.Secondary}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			at := provisioning.Attestation{Role: provisioning.RoleClient}
			copy(at.Slots[:], c.slots)
			c.want.Owner = w.put(provisioning.Individual, "d1", at).Owner
			w.assigned(w.presenting("d1", stolen.Cert))
			r := provisioning.DisallowRequest{Thumbprint: verify.ThumbprintOf(stolen.Cert.Raw)}
			p := w.foresees(r)
			if len(p.Entries) != 1 || p.Entries[0] != c.want || p.Scope != provisioning.DisallowCertificate {
				t.Fatalf("foresees %+v", p)
			}
			w.disallow(r)
			if _, err := w.register(w.presenting("d1", stolen.Cert)); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("the stolen one: %v", err)
			}
			_, err := w.register(w.presenting("d1", clean.Cert))
			if admitted := err == nil; admitted != (c.want.Act == provisioning.SlotEmptied) {
				t.Errorf("the other one: %v", err)
			}
		})
	}
}

// I10, I13, the bad input of it.
func TestWhatCannotBeDisallowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	leaf := f.Get("d1").Cert.Raw
	issuers, err := w.authority.Issuers(w.ctx)
	w.must(err)
	own, err := w.authority.IssuerCertificate(issuers[0].ID)
	w.must(err)
	for rule, r := range map[string]provisioning.DisallowRequest{
		"certificate-unknown":   {Thumbprint: verify.Thumbprint{1}},
		"certificate-missing":   {},
		"certificate-malformed": {Certificate: []byte("no certificate")},
		"scope-unknown":         {Certificate: leaf, Scope: "everything"},
		"scope-not-a-ca":        {Certificate: leaf, Scope: provisioning.DisallowBelow},
		"since-in-future":       {Certificate: leaf, Since: w.now().Add(time.Hour)},
		"own-issuer":            {Certificate: own.Raw, Scope: provisioning.DisallowCertificate},
		"reason-unknown":        {Certificate: leaf, Reason: "boredom"},
	} {
		if _, err := w.engine.PreviewDisallow(w.ctx, r); fault.RuleOf(err) != rule {
			t.Errorf("%s: %v", rule, err)
		}
	}
	r := provisioning.DisallowRequest{Certificate: leaf}
	p := w.foresees(r)
	if p.Known || p.Devices != 0 {
		t.Errorf("one that was never seen: %+v", p)
	}
	act := func(r provisioning.DisallowRequest, preview, rule string) {
		t.Helper()
		if _, err := w.engine.Disallow(w.ctx, ann, r, preview); fault.RuleOf(err) != rule {
			t.Errorf("want %s: %v", rule, err)
		}
	}
	act(r, "", "preview-needed")
	act(r, "bm9uZQ", "preview-unknown")
	act(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw}, p.ID, "preview-of-another")
	w.pass(2 * time.Hour)
	act(r, p.ID, "preview-expired")
	if n := w.found(audit.Disallowed); n != 0 {
		t.Errorf("%d rows tell of acts that were refused", n)
	}

	// The effect grows between the look and the act.
	w.anchor(f.Get("root"), true)
	of := provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw}
	p = w.foresees(of)
	w.group("g", f.Get("mid"))
	act(of, p.ID, "effect-grew")
	p = w.foresees(of)
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...))
	act(of, p.ID, "effect-grew")

	// It is kept as a block for what may come (INV-D3).
	w.disallow(r)
	if _, err := w.register(w.presenting("d1", f.Get("d1").Chain()...)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a certificate that was disallowed before it was seen: %v", err)
	}
}

// Stolen at a time: what was issued on its word since is revoked, what was issued before is not.
func TestWhatWasIssuedOnAStolenCasWordSinceFalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	before, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	w.pass(time.Hour)
	stolen := w.now()
	w.pass(time.Hour)
	after, err := w.enroll(w.presenting("d2", f.Get("mid").Issue(t, "d2").Chain()...))
	w.must(err)
	r := provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw, Since: stolen}
	if p := w.foresees(r); p.IssuedSince != 1 {
		t.Errorf("%d certificates fall", p.IssuedSince)
	}
	i := w.disallow(r)
	w.follow()
	if got := w.revoked(before); got != "" {
		t.Errorf("what was issued before is revoked as %q", got)
	}
	if got := w.revoked(after); got != "keyCompromise" {
		t.Errorf("what was issued since is revoked as %q", got)
	}
	if got := w.incident(i.ID).Revoked; got != 1 {
		t.Errorf("the report counts %d", got)
	}
}

// INV-D4, I15: a hub that is down keeps an incident open; it is done when the hub has confirmed.
func TestAnIncidentIsDoneWhenEveryHubHasConfirmed(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	hub.Answers(down)
	chain := device.Evidence.Chain
	i := w.disallow(provisioning.DisallowRequest{Certificate: chain[1].Cert.Raw})
	w.settles()
	r := w.incident(i.ID)
	if !r.Done.IsZero() || r.Pending() != 1 || r.Hubs[0].Problem == "" {
		t.Fatalf("the hub is down, and the report says %+v", r)
	}
	hub.Answers(nil)
	w.settles()
	r = w.incident(i.ID)
	if r.Done.IsZero() || r.Pending() != 0 || w.found(audit.DisallowDone) != 1 {
		t.Errorf("the hub has confirmed, and the report says %+v", r)
	}
	w.barredAt(hub, "d1")
}

// A certificate of ours, which is revoked: the hub of its bearer is waited for, too.
func TestAStolenCertificateOfOursIsDoneWhenItsHubHasConfirmed(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	hub.Answers(down)
	r := provisioning.DisallowRequest{Serial: serial(first)}
	if p := w.foresees(r); p.Devices != 1 || !p.Ours || p.Revoked != 1 {
		t.Errorf("foresees %+v", p)
	}
	i := w.disallow(r)
	w.settles()
	if got := w.incident(i.ID); !got.Done.IsZero() || got.Devices != 1 || got.Pending() != 1 {
		t.Errorf("the hub is down, and the report says %+v", got)
	}
	hub.Answers(nil)
	w.settles()
	if got := w.incident(i.ID); got.Done.IsZero() || got.Devices != 1 || got.Revoked != 1 {
		t.Errorf("the hub has confirmed, and the report says %+v", got)
	}
	if got, _ := hub.Device("d1"); slices.Contains(got.Thumbprints[:], hexOf(first.Raw)[0]) {
		t.Error("the hub takes the stolen certificate")
	}
}

// Each of two acts refuses what it names until it is lifted itself, in whatever order they came.
func TestTwoDisallowancesOfOneCAStandAlone(t *testing.T) {
	t.Parallel()
	scopes := []provisioning.DisallowScope{provisioning.DisallowCertificate, provisioning.DisallowKey, provisioning.DisallowBelow}
	for _, one := range scopes {
		for _, two := range scopes {
			if one == two {
				continue
			}
			t.Run(string(one)+" and "+string(two), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				f := testkit.Chain(t, "root > mid > d1")
				w.anchor(f.Get("root"), true)
				w.group("plant", f.Get("root"))
				a := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw, Scope: one})
				w.pass(time.Second)
				b := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw, Scope: two})
				device := w.presenting("d1", f.Get("d1").Chain()...)
				for _, i := range []provisioning.Incident{a, b} {
					if _, err := w.register(device); !fault.Is(err, fault.Unauthenticated) {
						t.Fatalf("while %s is in force: %v", i.Scope, err)
					}
					_, err := w.engine.LiftDisallowance(w.ctx, ann, i.ID)
					w.must(err)
				}
				w.assigned(device)
			})
		}
	}
}

// A time of theft cannot be added to what is in force: nobody is told that more was revoked.
func TestADisallowanceIsNotWidenedByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := provisioning.DisallowRequest{Certificate: testkit.Chain(t, "root > mid").Get("mid").Cert.Raw}
	w.disallow(r)
	r.Since = w.now().Add(-time.Hour)
	if _, err := w.engine.Disallow(w.ctx, ann, r, w.foresees(r).ID); fault.RuleOf(err) != "disallowed-otherwise" {
		t.Error(err)
	}
}

func (w *world) barredAt(hub *hubtest.Receiver, device string) {
	w.t.Helper()
	if d, there := hub.Device(device); !there || d.Enabled {
		w.t.Errorf("there %v, enabled %v", there, d.Enabled)
	}
}

// I2, I6, I7: a deletion refuses nobody by itself, and says so first.
func TestADeletionSaysWhoWouldComeInThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("root"), true)
	line := w.group("line", f.Get("mid"), livingOn(builtIn))
	leaving := func(o provisioning.Owner, registrations int64, groups ...provisioning.Owner) {
		t.Helper()
		got, err := w.engine.Leaving(w.ctx, o)
		w.must(err)
		if got.Registrations() != registrations || !slices.Equal(got.WouldEnter, groups) {
			t.Errorf("%s leaves %+v", o, got)
		}
	}
	leaving(line.Owner, 0)
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...))
	leaving(line.Owner, 1)
	plant := w.group("plant", f.Get("root"))
	same := w.group("same", f.Get("mid"))
	leaving(line.Owner, 1, plant.Owner, same.Owner)
	w.enable(same.Owner, false)
	leaving(line.Owner, 1) // what a disabled entry holds is refused by all
	w.must(w.engine.Delete(w.ctx, ann, same.Owner, provisioning.Precondition{Any: true}))

	// One device of the group is shut out by an entry of its own, by its certificate or without it.
	blocked := w.individual("d2", f.Get("d2"), nil, disabled)
	leaving(blocked.Owner, 0, line.Owner, plant.Owner)
	shadow := w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, disabled)
	leaving(shadow.Owner, 0, line.Owner, plant.Owner)
	if _, err := w.engine.Leaving(w.ctx, provisioning.Owner{ID: id(w, "nobody")}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
