package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/hubtest"
	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

const elsewhere = "hub-9.example.net"

// linked links a receiver as a hub.
func (w *world) linked(name string) *hubtest.Receiver {
	w.t.Helper()
	r := hubtest.NewReceiver(w.t)
	_, key, err := w.engine.LinkHub(w.ctx, "operator:test", provisioning.Hub{Name: name, Driver: hubwebhook.Name, Weight: 1}, r.URL, provisioning.Precondition{})
	w.must(err)
	r.SignedWith(key)
	return r
}

// sweepHubs tells hubs until there is nothing more to tell now.
func (w *world) sweepHubs() {
	w.t.Helper()
	for more := true; more; {
		more = w.sweepOnce()
	}
	w.check()
}

func livingOn(hub string) edit { return func(d *provisioning.Draft) { d.Hubs = []string{hub} } }

func down(w http.ResponseWriter) bool { w.WriteHeader(http.StatusServiceUnavailable); return true }

func (w *world) isIn(name string, want provisioning.State) {
	w.t.Helper()
	if got := w.registration(name).State; got != want {
		w.t.Fatalf("%s is %s, want %s", name, got, want)
	}
}

func hexOf(certs ...[]byte) (out [2]string) {
	for i, der := range certs {
		out[i] = fmt.Sprintf("%X", [32]byte(verify.ThumbprintOf(der)))
	}
	return out
}

// holds wants a hub to hold certificates of a device, in any order; none: no device.
func (w *world) holds(r *hubtest.Receiver, name string, certs ...[]byte) {
	w.t.Helper()
	got, there := r.Device(name)
	want := hexOf(certs...)
	slices.Sort(want[:])
	slices.Sort(got.Thumbprints[:])
	if there != (len(certs) > 0) || got.Thumbprints != want {
		w.t.Fatalf("there %v with %s, want %s", there, got.Thumbprints, want)
	}
}

// elsewhereFactory is a factory whose devices go to a hub that lives elsewhere.
func elsewhereFactory(t *testing.T) (*world, *hubtest.Receiver, provisioning.Attempt) {
	w := newWorld(t)
	hub := w.linked(elsewhere)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"), livingOn(elsewhere))
	return w, hub, w.presenting("d1", f.Get("d1").Chain()...)
}

func TestADeviceIsAssignedWhenItsHubHasConfirmed(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	hub.Answers(down)
	leaf, err := w.enroll(device)
	w.must(err)
	w.isIn("d1", provisioning.Assigning)
	poll := func(want provisioning.State, chain int) {
		t.Helper()
		op, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device, OperationID: w.registration("d1").Operation.ID})
		w.must(err)
		if op.State != want || len(op.Chain) != chain {
			t.Fatalf("a poll is answered %s with %d certificates", op.State, len(op.Chain))
		}
	}
	w.sweepHubs()
	poll(provisioning.Assigning, 3)
	w.holds(hub, "d1")
	if linked, err := w.engine.LinkedHub(w.ctx, elsewhere); err != nil || linked.Ahead != 1 || linked.Link.Tries != 1 || linked.Link.Problem != "the hub answered 503" {
		t.Fatalf("%+v, %v", linked, err)
	}
	hub.Answers(nil)
	w.sweepHubs()
	if hub.Posts() != 1 {
		t.Fatalf("a hub that failed was asked %d times", hub.Posts())
	}
	w.pass(2 * time.Second)
	w.sweepHubs()
	poll(provisioning.Assigned, 3)
	w.holds(hub, "d1", leaf.Raw)
	entries, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 2})
	w.must(err)
	if e := entries[1]; e.Action != audit.Registered || e.Actor != "job:hubs" || e.Subject != "registration:d1" {
		t.Errorf("the ledger ends with %+v", e)
	}
	w.assigned(device) // nothing has changed: the hub need not be told
	w.sweepHubs()
	if hub.Posts() != 2 {
		t.Errorf("the hub was told %d times", hub.Posts())
	}
}

func TestAHubHasBothCertificatesThroughARoll(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.pass(60 * 24 * time.Hour)
	second, err := w.enroll(w.presenting("d1", first))
	w.must(err)
	w.isIn("d1", provisioning.Assigning)
	w.holds(hub, "d1", first.Raw) // what is not known there yet is not told to be
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	w.holds(hub, "d1", first.Raw, second.Raw)
	w.assigned(w.presenting("d1", second)) // the cut-over
	w.holds(hub, "d1", first.Raw, second.Raw)
	w.assigned(w.presenting("d1", first)) // unauthorized at the hub → register again, in the overlap too
}

// With the same roll on both the built-in hub says what the other one is told.
func TestBothKindsOfHubAreInStep(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	f := testkit.Chain(t, "root2 > mid2 > d2")
	w.anchor(f.Get("root2"), true)
	w.group("g2", f.Get("mid2"), livingOn(builtIn))
	shapes := func() (elsewhere, own int) {
		t.Helper()
		w.sweepHubs()
		count := func(list [2]string) (n int) {
			for _, x := range list {
				if x != "" {
					n++
				}
			}
			return n
		}
		d, _ := hub.Device("d1")
		h, err := w.engine.HubDevice(w.ctx, builtIn, id(w, "d2"), "")
		w.must(err)
		return count(d.Thumbprints), count(h.Auth.Thumbprints)
	}
	for _, step := range []func(a provisioning.Attempt){
		func(a provisioning.Attempt) { _, err := w.register(a); w.must(err) },
		func(a provisioning.Attempt) { _, err := w.enroll(a); w.must(err) },
		func(a provisioning.Attempt) { _, err := w.enroll(a); w.must(err) },
	} {
		step(device)
		step(w.presenting("d2", f.Get("d2").Chain()...))
		if a, b := shapes(); a != b || a == 0 {
			t.Fatalf("%d thumbprints elsewhere, %d here", a, b)
		}
		w.pass(time.Hour)
	}
}

func TestARevokedCertificateLeavesItsHub(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	first, err := w.enroll(device)
	w.must(err)
	second, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.holds(hub, "d1", first.Raw, second.Raw)
	_, err = w.engine.Revoke(w.ctx, "operator:test", "", serial(first), "superseded")
	w.must(err)
	w.sweepHubs()
	w.holds(hub, "d1", second.Raw)
	w.isIn("d1", provisioning.Assigned)
}

func TestAHubKnowsTheKeysOfItsDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	key := w.keyed(provisioning.Group, "line", livingOn(elsewhere))
	for _, name := range []string{"d1", "d2", "d3"} {
		_, err := w.register(w.signing(name, derive(key, name)))
		w.must(err)
	}
	w.sweepHubs()
	was, _ := hub.Device("d1")
	if was.Type != provisioning.HubSAS || was.Keys[0] == "" || was.Keys[1] == "" {
		t.Fatalf("%+v", was)
	}
	w.pass(time.Hour)
	w.put(provisioning.Group, "line", provisioning.Attestation{Role: provisioning.RoleKey, Slots: [2]provisioning.SlotDraft{
		{Key: []byte("another key of thirty-two octets")}, {Key: []byte("still another of thirty-two byte")},
	}}, livingOn(elsewhere), func(d *provisioning.Draft) { d.IoTEdge = true })
	w.sweepHubs()
	is, _ := hub.Device("d1")
	if is.Keys[0] == was.Keys[0] || is.Keys[1] == was.Keys[1] || !is.IoTEdge {
		t.Errorf("the hub has %+v, had %+v", is, was)
	}
	w.isIn("d1", provisioning.Assigned)

	posts := hub.Posts()
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")}, false) // J1: hubs are left alone
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")}, provisioning.Precondition{Any: true}))
	w.sweepHubs()
	if kept, there := hub.Device("d1"); !there || kept != is || hub.Posts() != posts {
		t.Errorf("the hub has %+v", kept)
	}
}

func TestADeviceThatWaitsForItsHubIsHeldBackWhenItMayNotBeAssigned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bar  func(w *world)
		says string
	}{
		"its group is disabled": {func(w *world) {
			w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
		}, "enrollment-disabled"},
		"its group is deleted": {func(w *world) {
			w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, provisioning.Precondition{Any: true}))
		}, "registration-orphaned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, hub, device := elsewhereFactory(t)
			_, err := w.enroll(device)
			w.must(err)
			c.bar(w)
			w.sweepHubs()
			w.isIn("d1", provisioning.Assigning)
			w.holds(hub, "d1")
			if rec := w.identity(elsewhere, "d1"); rec.Problem != c.says {
				t.Errorf("held back by %q", rec.Problem)
			}
		})
	}
	t.Run("what attested it is disallowed: its hub may have heard of it, and is told to shut it out", func(t *testing.T) {
		t.Parallel()
		w, hub, device := elsewhereFactory(t)
		_, err := w.enroll(device)
		w.must(err)
		reg := w.registration("d1")
		w.must(w.db.Provisioning().UpdateTrust(w.ctx, func(tx provisioning.Tx) error {
			return errors.Join(tx.InsertDisallowance(provisioning.Disallowance{ID: "x", Digest: reg.LeafKey, Key: true, Reason: "keyCompromise", Created: w.now()}),
				tx.Append(audit.Event{At: w.now(), Actor: "operator:test", Action: audit.KeyDisallowed, Subject: "key:x", Body: []byte("{}")}))
		}))
		w.sweepHubs()
		w.isIn("d1", provisioning.Unassigned)
		w.barredAt(hub, "d1")
	})
	t.Run("and goes on when it may", func(t *testing.T) {
		t.Parallel()
		w, hub, device := elsewhereFactory(t)
		_, err := w.enroll(device)
		w.must(err)
		g := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}
		w.enable(g, false)
		for range 20 {
			w.sweepHubs()
			w.pass(2 * time.Hour)
		}
		w.enable(g, true)
		_, err = w.register(device)
		w.must(err)
		w.sweepHubs()
		w.isIn("d1", provisioning.Assigned)
		if hub.Posts() != 1 {
			t.Errorf("the hub was told %d times", hub.Posts())
		}
	})
}

func (w *world) identity(hub, device string) (rec provisioning.HubIdentityRecord) {
	w.t.Helper()
	w.must(w.db.Provisioning().View(w.ctx, func(tx provisioning.Tx) (err error) {
		rec, err = tx.HubIdentity(provisioning.HubPlace{Hub: hub, Device: id(w, device)})
		return err
	}))
	return rec
}

func TestADeviceThatMovesIsPresentOnTheNewHubBeforeItLeavesTheOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.linked("one.example.net"), w.linked("two.example.net")
	key := w.keyed(provisioning.Individual, "d1", livingOn("one.example.net"))
	_, err := w.register(w.signing("d1", key))
	w.must(err)
	w.sweepHubs()
	there := func(r *hubtest.Receiver) bool { _, is := r.Device("d1"); return is }
	two.Answers(down)
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn("two.example.net"))
	w.pass(time.Minute)
	_, err = w.register(w.signing("d1", key))
	w.must(err)
	w.isIn("d1", provisioning.Assigning)
	w.sweepHubs()
	if !there(one) || there(two) {
		t.Fatal("the device left its hub before the other one had it")
	}
	if err := w.engine.DeleteHub(w.ctx, "operator:test", "one.example.net", provisioning.Precondition{Any: true}); fault.RuleOf(err) != "hub-in-use" {
		t.Fatalf("a hub that a device is to leave was unlinked: %v", err)
	}
	two.Answers(nil)
	w.pass(time.Hour)
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	w.sweepHubs()
	if there(one) || !there(two) {
		t.Fatal("the device has not moved")
	}
	w.must(w.engine.DeleteHub(w.ctx, "operator:test", "one.example.net", provisioning.Precondition{Any: true}))

	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn(builtIn))
	w.pass(time.Minute)
	w.assigned(w.signing("d1", key)) // the built-in hub has it in the same commit
	w.sweepHubs()
	if there(two) {
		t.Error("the device is left on a hub")
	}
}

func TestADeviceGetsAnotherNameOnItsHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	key := w.keyed(provisioning.Individual, "d1", livingOn(elsewhere))
	_, err := w.register(w.signing("d1", key))
	w.must(err)
	w.sweepHubs()
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn(elsewhere), func(d *provisioning.Draft) { d.DeviceID = "Pump" })
	w.pass(time.Minute)
	_, err = w.register(w.signing("d1", key))
	w.must(err)
	w.sweepHubs()
	w.sweepHubs()
	_, old := hub.Device("d1")
	_, is := hub.Device("pump")
	if old || !is {
		t.Errorf("under its old name %v, under its new %v", old, is)
	}
}

func TestADeviceThatItsHubRefusesDoesNotKeepOthersWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	key := w.keyed(provisioning.Group, "line", livingOn(elsewhere))
	refuses := true
	hub.Answers(func(rw http.ResponseWriter) bool {
		if refuses {
			refuses = false
			rw.WriteHeader(http.StatusUnprocessableEntity)
			return true
		}
		return false
	})
	var states []provisioning.State
	for _, name := range []string{"d1", "d2", "d3"} {
		_, err := w.register(w.signing(name, derive(key, name)))
		w.must(err)
	}
	w.sweepHubs()
	for _, name := range []string{"d1", "d2", "d3"} {
		states = append(states, w.registration(name).State)
	}
	slices.Sort(states)
	if !slices.Equal(states, []provisioning.State{provisioning.Assigned, provisioning.Assigned, provisioning.Assigning}) {
		t.Fatalf("%v", states)
	}
	if h, err := w.engine.LinkedHub(w.ctx, elsewhere); err != nil || h.Link.Tries != 0 || h.Ahead != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	w.pass(time.Minute)
	w.sweepHubs()
	if h, err := w.engine.LinkedHub(w.ctx, elsewhere); err != nil || h.Ahead != 0 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestAHubThatIsDownCostsOneProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	hub.Answers(down)
	key := w.keyed(provisioning.Group, "line", livingOn(elsewhere))
	for n := range 40 {
		name := fmt.Sprintf("d%d", n)
		_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing(name, derive(key, name))})
		w.must(err)
	}
	w.sweepHubs()
	began := hub.Posts() // those that were on their way when it was found out
	for range 600 {
		w.sweepOnce()
		w.pass(time.Second)
	}
	if probes := hub.Posts() - began; probes < 5 || probes > 10 {
		t.Errorf("%d probes in ten minutes", probes)
	}
	hub.Answers(nil)
	w.pass(time.Hour)
	w.sweepHubs()
	w.pass(time.Hour)
	w.sweepHubs()
	if h, err := w.engine.LinkedHub(w.ctx, elsewhere); err != nil || h.Ahead != 0 || h.Link.Problem != "" {
		t.Errorf("%+v, %v", h, err)
	}
}

func (w *world) sweepOnce() (more bool) {
	w.t.Helper()
	more, err := w.engine.SweepHubs(w.ctx, w.db.ProvisioningJobs())
	w.must(err)
	_, err = w.engine.SweepFailedHubs(w.ctx, w.db.ProvisioningJobs())
	w.must(err)
	return more
}

// A process ends between the hub's confirmation and the record of it: broken twice, the
// hub told and not told.
func TestAStepThatIsCutOffIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]bool{"the hub was told": true, "the hub was not told": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, hub, device := elsewhereFactory(t)
			leaf, err := w.enroll(device)
			w.must(err)
			hub.Answers(func(http.ResponseWriter) bool {
				if !told {
					panic(http.ErrAbortHandler)
				}
				return false
			})
			cut := &cutOff{Store: w.db.ProvisioningJobs(), after: 1}
			if _, err := w.engine.SweepHubs(w.ctx, cut); !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			w.check()
			w.isIn("d1", provisioning.Assigning)
			hub.Answers(nil)
			w.sweepHubs()
			w.isIn("d1", provisioning.Assigning) // it is left to whoever has it
			w.pass(2 * time.Minute)
			w.sweepHubs()
			w.isIn("d1", provisioning.Assigned)
			w.holds(hub, "d1", leaf.Raw)
		})
	}
}

var errCut = errors.New("the process has ended")

// cutOff is a store whose process ends after some updates.
type cutOff struct {
	provisioning.Store
	mu    sync.Mutex
	after int
}

func (c *cutOff) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.after--; c.after < 0 {
		return errCut
	}
	return c.Store.Update(ctx, f)
}

func TestTwoProcessesTellAHubOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, shelf(t, t.TempDir()).Box())
		hub := w.linked(elsewhere)
		key := w.keyed(provisioning.Group, "line", livingOn(elsewhere))
		const devices = 100
		for n := range devices {
			name := fmt.Sprintf("d%d", n)
			_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing(name, derive(key, name))})
			w.must(err)
		}
		w.twice(func(e *provisioning.Engine) {
			for more := true; more; {
				var err error
				if more, err = e.SweepHubs(w.ctx, w.db.ProvisioningJobs()); err != nil {
					t.Error(err)
				}
			}
		})
		w.sweepHubs()
		if hub.Posts() != devices {
			t.Errorf("the hub was told %d times of %d devices", hub.Posts(), devices)
		}
		for n := range devices {
			w.isIn(fmt.Sprintf("d%d", n), provisioning.Assigned)
		}
	})
}

// twice runs f in two processes at once.
func (w *world) twice(f func(*provisioning.Engine)) {
	one := w.engine
	w.restart()
	var both sync.WaitGroup
	for _, e := range []*provisioning.Engine{one, w.engine} {
		both.Go(func() { f(e) })
	}
	both.Wait()
}

// Devices register, and are issued certificates, while two processes tell their hub: whatever
// the order, none is assigned whose hub has not got its newest certificate.
func TestDevicesRegisterWhileTheirHubIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, shelf(t, t.TempDir()).Box())
		hub := w.linked(elsewhere)
		f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > d3; mid > d4")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"), livingOn(elsewhere))
		names := []string{"d1", "d2", "d3", "d4"}
		inStep := func(name string) bool {
			reg := w.registration(name)
			got, _ := hub.Device(name)
			for _, c := range reg.Pair.Live(w.now()) {
				if !slices.Contains(got.Thumbprints[:], fmt.Sprintf("%X", c.Ref[:])) {
					return reg.State != provisioning.Assigned || w.registration(name).Version != reg.Version
				}
			}
			return true
		}
		var registering sync.WaitGroup
		for _, name := range names {
			registering.Go(func() {
				for range 10 {
					_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{
						Attempt: w.presenting(name, f.Get(name).Chain()...), CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), name),
					})
					if err != nil {
						t.Error(err)
					}
					if !inStep(name) {
						t.Errorf("%s is assigned, and its hub does not know its certificate", name)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { registering.Wait(); close(done) }()
		telling := w.engine
		for over := false; !over; {
			select {
			case <-done:
				over = true
			default:
			}
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					if _, err := telling.SweepHubs(w.ctx, w.db.ProvisioningJobs()); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
		}
		w.sweepHubs()
		for _, name := range names {
			if w.isIn(name, provisioning.Assigned); !inStep(name) {
				t.Errorf("%s is not in step", name)
			}
		}
	})
}

func TestHubsThatCannotBeLinked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := func(h provisioning.Hub, address string, pre provisioning.Precondition) error {
		_, _, err := w.engine.LinkHub(w.ctx, "operator:test", h, address, pre)
		return err
	}
	hub := provisioning.Hub{Name: elsewhere, Driver: hubwebhook.Name, Weight: 1}
	for _, c := range []struct {
		hub     provisioning.Hub
		address string
		rule    string
	}{
		{hub, "", "webhook-missing"},
		{hub, "http://hub.example.net/", "webhook-url"},
		{provisioning.Hub{Name: elsewhere, Driver: "pigeon"}, "https://hub.example.net/", "hub-driver"},
		{provisioning.Hub{Name: elsewhere, Driver: provisioning.BuiltIn}, "https://hub.example.net/", "hub-address"},
	} {
		if err := link(c.hub, c.address, provisioning.Precondition{}); fault.RuleOf(err) != c.rule {
			t.Errorf("%+v %s: %v, want %s", c.hub, c.address, err, c.rule)
		}
	}
	w.must(link(hub, "https://hub.example.net/?code=1", provisioning.Precondition{}))
	w.must(link(hub, "", provisioning.Precondition{Any: true})) // keeps its address
	w.must(link(provisioning.Hub{Name: elsewhere, Driver: provisioning.BuiltIn, Weight: 1}, "", provisioning.Precondition{Any: true}))
	if err := link(hub, "", provisioning.Precondition{Any: true}); fault.RuleOf(err) != "webhook-missing" {
		t.Errorf("a hub that was unlinked still has an address: %v", err)
	}
	key := w.keyed(provisioning.Individual, "d1", livingOn(elsewhere))
	w.assigned(w.signing("d1", key))
	if err := link(hub, "https://hub.example.net/", provisioning.Precondition{Any: true}); fault.RuleOf(err) != "hub-in-use" {
		t.Errorf("a hub with devices got another driver: %v", err)
	}
	if _, _, err := w.engine.RollHubKey(w.ctx, "operator:test", elsewhere, provisioning.Precondition{Any: true}); fault.RuleOf(err) != "hub-address" {
		t.Error(err)
	}
}

func TestAHubSaysWhetherItIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	if got, err := w.engine.TestHub(w.ctx, elsewhere); err != nil || got.Detail != "the hub answers and takes new devices" {
		t.Errorf("%+v, %v", got, err)
	}
	h, key, err := w.engine.RollHubKey(w.ctx, "operator:test", elsewhere, provisioning.Precondition{Any: true})
	w.must(err)
	if h.Endpoint != hub.URL {
		t.Errorf("shown as %s", h.Endpoint)
	}
	hub.SignedWith(key)
	hub.Answers(down)
	if _, err := w.engine.TestHub(w.ctx, elsewhere); fault.RuleOf(err) != "hub-unavailable" {
		t.Error(err)
	}
	if hub.Posts() != 0 {
		t.Error("a test told of a device")
	}
}

// A hub may tell ids apart by case: a device keeps the spelling that its hub knows while it is there.
func TestADeviceKeepsItsSpellingOnItsHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.inMemory(provisioning.HubTraits{Batch: 1}, elsewhere)[0]
	var told []string
	away := false
	w.gated().answers = func(_ context.Context, _ provisioning.HubAccess, want []provisioning.HubIdentity) []error {
		if away {
			return []error{fault.New(fault.Unavailable, "hub-unavailable", "the hub answered 503")}
		}
		told = append(told, want[0].DeviceID)
		return nil
	}
	as := func(spelled, on string) edit {
		return func(d *provisioning.Draft) { d.DeviceID, d.Hubs = spelled, []string{on} }
	}
	key := w.keyed(provisioning.Individual, "d1", as("Pump", elsewhere))
	comes := func(want string) {
		t.Helper()
		w.pass(time.Minute)
		_, err := w.register(w.signing("d1", key))
		w.must(err)
		w.sweepHubs()
		if reg := w.registration("d1"); reg.DeviceID != want {
			t.Errorf("it is told that it is %s on its hub, want %s", reg.DeviceID, want)
		}
	}
	comes("Pump")
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, as("PUMP", elsewhere))
	comes("Pump")
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, as("PUMP", elsewhere), func(d *provisioning.Draft) { d.IoTEdge = true })
	w.sweepHubs()

	t.Log("it leaves, and is back before its hub has heard of that")
	away = true
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, as("PUMP", builtIn))
	comes("PUMP")
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, as("PUMP", elsewhere))
	comes("PUMP") // it waits for its hub, and is told nothing yet
	away = false
	w.pass(time.Hour)
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	if reg := w.registration("d1"); reg.DeviceID != "Pump" {
		t.Errorf("it is told that it is %s on its hub", reg.DeviceID)
	}
	for _, name := range told {
		if name != "Pump" {
			t.Errorf("the hub was told of %s", told)
		}
	}
	if _, there := hub.Device("Pump"); !there {
		t.Error("it is not there")
	}

	t.Log("once its hub has removed it the next spelling counts")
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, as("PUMP", builtIn))
	comes("PUMP")
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, as("PUMP", elsewhere))
	comes("PUMP")
	if d, there := hub.Device("Pump"); !there || d.DeviceID != "PUMP" {
		t.Errorf("there %v as %s", there, d.DeviceID)
	}
}

// A driver that reads addresses more strictly than the one a hub was linked with takes nothing away.
func TestAHubWhoseAddressIsRefusedIsShownAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.inMemory(provisioning.HubTraits{Batch: 1, Signed: true}, elsewhere)
	w.gated().endpoint = func(string) (string, error) {
		return "", fault.New(fault.Malformed, "hub-address", "not like this").At("/url")
	}
	if h := w.linkedHub(elsewhere); h.Endpoint != "" || h.Circuit == "" {
		t.Errorf("%+v", h)
	}
	list, err := w.engine.LinkedHubs(w.ctx)
	w.must(err)
	if len(list) != 2 {
		t.Errorf("%d hubs", len(list))
	}
	w.linkedSettings(elsewhere, func(h *provisioning.Hub) { h.Draining = true })
	if _, _, err := w.engine.RollHubKey(w.ctx, ann, elsewhere, provisioning.Precondition{Any: true}); err != nil {
		t.Error(err)
	}
	w.must(w.engine.DeleteHub(w.ctx, ann, elsewhere, provisioning.Precondition{Any: true}))

	t.Log("another driver has to take the address that is kept")
	hook := w.linked("posted.example.net")
	link := func(address string) error {
		_, _, err := w.engine.LinkHub(w.ctx, ann, provisioning.Hub{Name: "posted.example.net", Driver: inMemory, Weight: 1}, address, provisioning.Precondition{Any: true})
		return err
	}
	for _, address := range []string{"", hook.URL} {
		if err := link(address); fault.RuleOf(err) != "hub-address" {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestAHubThatGetsAnotherDriverGetsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.linkedIoTHub(elsewhere, 1000)
	r := hubtest.NewReceiver(t)
	link := func(address string) []byte {
		t.Helper()
		_, key, err := w.engine.LinkHub(w.ctx, ann, provisioning.Hub{Name: elsewhere, Driver: hubwebhook.Name, Weight: 1}, address, provisioning.Precondition{Any: true})
		w.must(err)
		return key
	}
	key := link(r.URL)
	if len(key) == 0 {
		t.Fatal("nobody knows the key that signs")
	}
	r.SignedWith(key)
	for _, address := range []string{"", r.URL} {
		if link(address) != nil {
			t.Error("it got another")
		}
	}
	w.crowd("line", elsewhere, 1)
	w.sweepHubs()
	w.isIn("line-0", provisioning.Assigned)
}
