package provisioning_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// Ways in that a disallowance once left open, or shut for the wrong ones.

func (w *world) shutOut(what string, a provisioning.Attempt) {
	w.t.Helper()
	if _, err := w.register(a); !fault.Is(err, fault.Unauthenticated) {
		w.t.Errorf("%s: %v", what, err)
	}
}

// settles lets hours pass in which everything is carried on.
func (w *world) settles() {
	w.t.Helper()
	for range 4 {
		w.follow()
		w.sweepHubs()
		w.pass(2 * time.Hour)
	}
	w.follow()
}

func (w *world) isDone(id string) provisioning.IncidentReport {
	w.t.Helper()
	r := w.incident(id)
	if r.Done.IsZero() || r.Pending() != 0 {
		w.t.Errorf("it is not done: %d pending, %+v", r.Pending(), r.Hubs)
	}
	return r
}

func TestARenewalInFlightIsShutOutAtItsHub(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.pass(oneDay)
	hub.Answers(down)
	_, err = w.enroll(w.presenting("d1", first))
	w.must(err)
	w.isIn("d1", provisioning.Assigning)
	i := w.disallow(provisioning.DisallowRequest{Certificate: device.Evidence.Chain[1].Cert.Raw})
	w.settles()
	if r := w.incident(i.ID); !r.Done.IsZero() {
		t.Error("it is done, and the hub is down")
	}
	hub.Answers(nil)
	w.settles()
	w.barredAt(hub, "d1")
	w.isDone(i.ID)
}

func TestAMoveInFlightIsShutOutAtBothHubs(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	second := w.linked("second.example.net")
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	second.Answers(down)
	mid := device.Evidence.Chain[1]
	w.put(provisioning.Group, "g", provisioning.Attestation{Role: provisioning.RoleSigning, Slots: [2]provisioning.SlotDraft{{Certificate: mid.Cert.Raw}}}, livingOn("second.example.net"))
	_, err = w.register(device)
	w.must(err)
	w.sweepHubs()
	i := w.disallow(provisioning.DisallowRequest{Certificate: mid.Cert.Raw})
	second.Answers(nil)
	w.settles()
	if d, there := hub.Device("d1"); there && d.Enabled {
		t.Error("the hub it was to leave lets it in")
	}
	w.barredAt(second, "d1")
	w.isDone(i.ID)
}

func TestACertificateOfOursRestsOnThePinnedLeafItWasGotBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	f := testkit.Chain(t, "root > mid > d1")
	clean := f.Get("root").Issue(t, "d1")
	w.individual("d1", f.Get("d1"), clean, livingOn(elsewhere))
	own, err := w.enroll(w.presenting("d1", f.Get("d1").Cert))
	w.must(err)
	w.sweepHubs()
	w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw})
	w.shutOut("the pinned leaf", w.presenting("d1", f.Get("d1").Cert))
	w.shutOut("what it got", w.presenting("d1", own))
	w.settles()
	w.barredAt(hub, "d1")
	_, err = w.register(w.presenting("d1", clean.Cert))
	w.must(err)
	w.settles()
	if d, _ := hub.Device("d1"); !d.Enabled || slices.Contains(d.Thumbprints[:], hexOf(own.Raw)[0]) {
		t.Errorf("it came with something clean, and its hub has %+v", d)
	}
	w.shutOut("what it got before", w.presenting("d1", own))
}

func TestACAAboveAnIntermediateAnchorIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("mid"), true)
	w.reference("line", f.Get("mid"), livingOn(builtIn))
	own, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	w.assigned(w.presenting("d2", f.Get("d2").Cert))
	padded := []*x509.Certificate{f.Get("d2").Cert}
	for n := range 9 {
		padded = append(padded, testkit.Root(t, fmt.Sprintf("stranger-%d", n)).Cert)
	}
	i := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("root").Cert.Raw})
	w.shutOut("with the intermediate", w.presenting("d2", f.Get("d2").Chain()...))
	w.shutOut("without it", w.presenting("d2", f.Get("d2").Cert))
	w.shutOut("behind strangers", w.presenting("d2", padded...))
	w.shutOut("a certificate of ours", w.presenting("d1", own))
	for _, name := range []string{"d1", "d2"} {
		if w.at(builtIn, name).Enabled {
			t.Errorf("%s is let in at its hub", name)
		}
	}
	w.settles()
	if r := w.isDone(i.ID); r.Devices != 2 {
		t.Errorf("%d devices", r.Devices)
	}
}

// A self-signed root that nobody sends has a key that is disallowed under another name.
func TestADisallowedKeyOfARootThatIsNotSent(t *testing.T) {
	t.Parallel()
	for _, scope := range []provisioning.DisallowScope{provisioning.DisallowKey, provisioning.DisallowBelow} {
		w := newWorld(t)
		f := testkit.Chain(t, "root > mid > d1")
		w.anchor(f.Get("root"), true)
		w.reference("line", f.Get("root"), livingOn(builtIn))
		w.assigned(w.presenting("d1", f.Get("d1").Cert, f.Get("mid").Cert))
		w.disallow(provisioning.DisallowRequest{Certificate: testkit.Root(t, "another name", testkit.WithKey(f.Get("root").Key)).Cert.Raw, Scope: scope})
		w.shutOut("the root left out", w.presenting("d1", f.Get("d1").Cert, f.Get("mid").Cert))
		w.shutOut("the root sent", w.presenting("d1", f.Get("d1").Chain()...))
		if w.at(builtIn, "d1").Enabled {
			t.Error("it is let in at its hub")
		}
	}
}

// Another issue of a root, for the same key and name, is disallowed alone: the good one stays good.
func TestAnotherIssueOfARootShutsNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.reference("line", f.Get("root"), livingOn(builtIn))
	again := testkit.Root(t, "root", testkit.WithKey(f.Get("root").Key), testkit.WithSerial(77))
	w.disallow(provisioning.DisallowRequest{Certificate: again.Cert.Raw, Scope: provisioning.DisallowCertificate})
	w.assigned(w.presenting("d1", f.Get("d1").Cert, f.Get("mid").Cert))
	w.assigned(w.presenting("d1", f.Get("d1").Cert, f.Get("mid").Cert, f.Get("root").Cert))
	if !w.at(builtIn, "d1").Enabled {
		t.Error("its hub shuts it out")
	}
}

func TestTheKeyOfOneOfTwoCertificatesTakesBoth(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	key := testkit.NewKey(t, "p256")
	first, err := w.enrollKey(device, key)
	w.must(err)
	w.sweepHubs()
	w.pass(oneDay)
	second, err := w.enrollKey(w.presenting("d1", first), key)
	w.must(err)
	w.sweepHubs()
	i := w.disallow(provisioning.DisallowRequest{Certificate: first.Raw, Scope: provisioning.DisallowKey})
	w.shutOut("the other one", w.presenting("d1", second))
	w.settles()
	if d, _ := hub.Device("d1"); slices.Contains(d.Thumbprints[:], hexOf(second.Raw)[0]) {
		t.Error("the hub takes the other one")
	}
	if r := w.isDone(i.ID); r.Revoked != 2 || r.Devices != 1 {
		t.Errorf("%d revoked, %d devices", r.Revoked, r.Devices)
	}
}

// The thief enrolled, and the owner came with the other leaf before anybody knew.
func TestWhatAThiefGotFallsThoughTheOwnerCameLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > d1")
	clean := f.Get("root").Issue(t, "d1")
	w.individual("d1", f.Get("d1"), clean, livingOn(builtIn))
	theft := w.now()
	w.pass(time.Minute)
	got, err := w.enroll(w.presenting("d1", f.Get("d1").Cert))
	w.must(err)
	w.pass(time.Minute)
	w.assigned(w.presenting("d1", clean.Cert))
	r := provisioning.DisallowRequest{Certificate: f.Get("d1").Cert.Raw, Since: theft}
	if p := w.foresees(r); p.Revoked != 1 {
		t.Errorf("foresees %d", p.Revoked)
	}
	w.disallow(r)
	w.shutOut("what the thief got", w.presenting("d1", got))
	w.assigned(w.presenting("d1", clean.Cert))

	// A stranger's leaf of that name led to nothing here.
	strange := testkit.Root(t, "stranger").Issue(t, "d1")
	if p := w.foresees(provisioning.DisallowRequest{Certificate: strange.Cert.Raw, Since: theft}); p.Revoked != 0 {
		t.Errorf("a stranger's leaf takes %d certificates with it", p.Revoked)
	}

	// The same of a device that still rests on the leaf.
	d2 := f.Get("root").Issue(t, "d2")
	w.individual("d2", d2, nil, livingOn(builtIn))
	w.pass(time.Minute)
	_, err = w.enroll(w.presenting("d2", d2.Cert))
	w.must(err)
	i := w.disallow(provisioning.DisallowRequest{Certificate: d2.Cert.Raw, Since: theft})
	w.settles()
	if r := w.isDone(i.ID); r.Revoked != 1 || r.Devices != 1 {
		t.Errorf("%d revoked, %d devices", r.Revoked, r.Devices)
	}
}

func TestALiftIsToldToHubsThatWereNotToldOfTheAct(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.pass(oneDay)
	at := provisioning.HubPlace{Hub: elsewhere, Device: id(w, "d1")}
	w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error { return tx.StepHubIdentity(at, w.now()) })) // its hub is to be told anyway
	i := w.disallow(provisioning.DisallowRequest{Certificate: device.Evidence.Chain[1].Cert.Raw})
	w.sweepHubs()
	w.barredAt(hub, "d1")
	_, err = w.engine.LiftDisallowance(w.ctx, ann, i.ID)
	w.must(err)
	w.settles()
	if d, _ := hub.Device("d1"); !d.Enabled {
		t.Error("it is lifted, and the hub shuts the device out")
	}
	w.isDone(i.ID)
}

// The same leaf below another certificate for its CA: clean, and the hub hears it.
func TestADeviceThatComesByAnotherCertificateOfItsCAIsLetIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	f := testkit.Chain(t, "root > mid > d1")
	mid, leaf := f.Get("mid"), f.Get("d1").Cert
	w.anchor(f.Get("root"), true)
	w.group("plant", f.Get("root"), livingOn(elsewhere))
	_, err := w.register(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	w.sweepHubs()
	w.disallow(provisioning.DisallowRequest{Certificate: mid.Cert.Raw, Scope: provisioning.DisallowCertificate})
	w.settles()
	w.barredAt(hub, "d1")
	_, err = w.register(w.presenting("d1", leaf, f.Get("root").Issue(t, "mid", testkit.AsCA(), testkit.WithKey(mid.Key)).Cert))
	w.must(err)
	w.settles()
	if d, _ := hub.Device("d1"); !d.Enabled {
		t.Error("its hub shuts it out")
	}
}

func TestTheOtherSlotMayBeRefusedAlready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > d1")
	second := f.Get("root").Issue(t, "d1")
	w.disallow(provisioning.DisallowRequest{Certificate: second.Cert.Raw, Scope: provisioning.DisallowKey})
	w.pass(time.Second)
	w.individual("d1", f.Get("d1"), second)
	if p := w.foresees(provisioning.DisallowRequest{Certificate: f.Get("d1").Cert.Raw}); len(p.Entries) != 1 || p.Entries[0].Act != provisioning.EntryShut {
		t.Errorf("foresees %+v", p.Entries)
	}
}

// A thief who enrolls while people look holds nobody up who says how many it may be.
func TestNewDevicesDoNotHoldUpAnActWithABound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("root"), true)
	w.group("line", f.Get("mid"))
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...))
	r := provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw}
	p := w.foresees(r)
	w.pass(time.Second)
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...)) // a known one is no growth
	w.assigned(w.presenting("d2", f.Get("d2").Chain()...))
	if _, err := w.engine.Disallow(w.ctx, ann, r, p.ID); fault.RuleOf(err) != "effect-grew" {
		t.Errorf("without a bound: %v", err)
	}
	one, five := int64(1), int64(5)
	r.AtMost = &one
	if _, err := w.engine.Disallow(w.ctx, ann, r, p.ID); fault.RuleOf(err) != "more-devices-than-expected" {
		t.Errorf("beyond the bound: %v", err)
	}
	r.AtMost = &five
	_, err := w.engine.Disallow(w.ctx, ann, r, p.ID)
	w.must(err)
}
