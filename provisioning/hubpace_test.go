package provisioning_test

import (
	"context"
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
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// crowd registers devices of one group on a hub.
func (w *world) crowd(group, hub string, devices int) {
	w.t.Helper()
	key := w.keyed(provisioning.Group, group, livingOn(hub))
	for n := range devices {
		name := fmt.Sprintf("%s-%d", group, n)
		_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing(name, derive(key, name))})
		w.must(err)
	}
}

// linkedAt links a hub of a driver with a rate.
func (w *world) linkedAt(name, driver string, rate int) {
	w.t.Helper()
	_, _, err := w.engine.LinkHub(w.ctx, "operator:test", provisioning.Hub{Name: name, Driver: driver, Weight: 1, Rate: rate}, "https://hub.example.net", provisioning.Precondition{})
	w.must(err)
}

func (w *world) linkedHub(name string) provisioning.LinkedHub {
	w.t.Helper()
	h, err := w.engine.LinkedHub(w.ctx, name)
	w.must(err)
	return h
}

// events counts what the ledger has of a subject, by action.
func (w *world) events(subject string) map[audit.Action]int {
	w.t.Helper()
	list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Subject: subject, Limit: 1000})
	w.must(err)
	n := map[audit.Action]int{}
	for _, e := range list {
		n[e.Action]++
	}
	return n
}

// registries is a driver of hubs that are in memory, by name.
type registries struct {
	provisioning.HubDriver
	traits provisioning.HubTraits
	hubs   map[string]*hubtest.Registry
}

func (r *registries) Traits() provisioning.HubTraits { return r.traits }

func (r *registries) Endpoint(address string) (string, error) { return address, nil }

func (r *registries) Test(context.Context, provisioning.HubAccess) error { return nil }

func (r *registries) Apply(ctx context.Context, to provisioning.HubAccess, want []provisioning.HubIdentity) []error {
	return r.hubs[to.Hub].Apply(ctx, to, want)
}

func (r *registries) Devices(ctx context.Context, to provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	return r.hubs[to.Hub].Devices(ctx, to, each)
}

const inMemory = "memory"

// inMemory gives the world hubs of a driver that can be read.
func (w *world) inMemory(traits provisioning.HubTraits, names ...string) []*hubtest.Registry {
	w.t.Helper()
	driver := &registries{traits: traits, hubs: map[string]*hubtest.Registry{}}
	w.drivers = map[string]provisioning.HubDriver{inMemory: driver}
	w.restart()
	var list []*hubtest.Registry
	for _, name := range names {
		driver.hubs[name] = hubtest.NewRegistry()
		w.linkedAt(name, inMemory, 0)
		list = append(list, driver.hubs[name])
	}
	return list
}

// Two processes at once stay below the rate together, and devices of one call count once.
func TestAHubIsToldNoFasterThanItsRate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		const rate, batch, devices = 1200, 5, 200 // a call each 50 ms
		hub := w.inMemory(provisioning.HubTraits{Batch: batch, PerMinute: rate}, elsewhere)[0]
		w.crowd("line", elsewhere, devices)
		w.real()
		began := time.Now()
		for hub.Count() < devices {
			w.twice(func(e *provisioning.Engine) {
				if _, err := e.SweepHubs(w.ctx, w.db.ProvisioningJobs()); err != nil {
					t.Error(err)
				}
			})
			if time.Since(began) > time.Minute {
				t.Fatalf("%d devices after a minute", hub.Count())
			}
		}
		calls := hub.Calls()
		if len(calls) < devices/batch {
			t.Fatalf("%d calls", len(calls))
		}
		const pause = time.Minute / rate
		for i, at := range calls { // however slow this machine is, none goes out before its time
			if early := began.Add(time.Duration(i) * pause).Sub(at); early > time.Millisecond {
				t.Errorf("call %d went out %s early", i, early)
			}
		}
	})
}

func TestAHubThatIsToldSlowlyIsToldAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.inMemory(provisioning.HubTraits{Batch: 1, PerMinute: 6000}, elsewhere)[0]
	w.linkedSettings(elsewhere, func(h *provisioning.Hub) { h.Rate = 2 }) // the operator knows better
	if h := w.linkedHub(elsewhere); h.PerMinute != 2 {
		t.Fatalf("%+v", h)
	}
	w.crowd("line", elsewhere, 5)
	for range 24 {
		w.sweepOnce()
		w.pass(5 * time.Second)
	}
	if n := hub.Count(); n != 4 {
		t.Errorf("%d devices in two minutes", n)
	}
	w.clock = w.clock.Add(-time.Hour) // the clock went back: nobody waits until then
	w.sweepOnce()
	if n := hub.Count(); n != 5 {
		t.Errorf("%d devices after the clock went back", n)
	}
}

// linkedSettings changes what an operator says of a hub.
func (w *world) linkedSettings(name string, change func(*provisioning.Hub)) {
	w.t.Helper()
	h := w.linkedHub(name).Hub
	change(&h)
	_, _, err := w.engine.LinkHub(w.ctx, "operator:test", h, "", provisioning.Precondition{Any: true})
	w.must(err)
}

func TestARateThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, h := range []provisioning.Hub{
		{Name: elsewhere, Driver: hubwebhook.Name, Rate: -1}, {Name: elsewhere, Driver: hubwebhook.Name, Rate: 1_000_001}, {Name: elsewhere, Driver: provisioning.BuiltIn, Rate: 1},
	} {
		if _, _, err := w.engine.LinkHub(w.ctx, "operator:test", h, "", provisioning.Precondition{}); fault.RuleOf(err) != "hub-rate" {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// A hub that is too busy says until when, and is left alone until then, all its devices at once;
// that is no failure.
func TestAHubThatAsksForAPauseGetsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	w.crowd("line", elsewhere, 60)
	taken := 0
	hub.Answers(func(rw http.ResponseWriter) bool {
		if taken++; taken <= 10 {
			return false
		}
		rw.Header().Set("Retry-After", "30")
		rw.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	w.sweepHubs()
	asked := hub.Posts()
	if asked > 10+8 {
		t.Errorf("asked %d times, of which 10 were answered", asked)
	}
	h := w.linkedHub(elsewhere)
	if h.Circuit != provisioning.CircuitClosed || h.Link.Problem != "the hub answered 429" || !h.Link.NextTry.Equal(w.now().Add(30*time.Second)) || h.Ahead != 50 {
		t.Fatalf("%+v", h)
	}
	for range 29 {
		w.pass(time.Second)
		w.sweepHubs()
	}
	if hub.Posts() != asked {
		t.Errorf("it was asked %d times in its pause", hub.Posts()-asked)
	}
	hub.Answers(nil)
	w.pass(30 * time.Second)
	w.sweepHubs()
	if h = w.linkedHub(elsewhere); h.Ahead != 0 || h.Link.Problem != "" {
		t.Errorf("%+v", h)
	}
	if n := w.events("hub:" + elsewhere); n[audit.HubCircuitOpened] != 0 {
		t.Errorf("the ledger has %v", n)
	}
}

// However often a hub that is away is tried, that it is away is told once, and once that it is back.
func TestACircuitOpensAndClosesOnRecordOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		hub := w.linked(elsewhere)
		w.crowd("line", elsewhere, 5)
		if h := w.linkedHub(elsewhere); h.Circuit != provisioning.CircuitClosed {
			t.Errorf("it began %s", h.Circuit)
		}
		hub.Answers(down)
		w.sweepHubs()
		if h := w.linkedHub(elsewhere); h.Circuit != provisioning.CircuitOpen {
			t.Errorf("a hub that failed is %s", h.Circuit)
		}
		w.pass(time.Second)
		if h := w.linkedHub(elsewhere); h.Circuit != provisioning.CircuitHalfOpen {
			t.Errorf("it is %s when its pause is over", h.Circuit)
		}
		for range 100 {
			w.sweepHubs()
			w.pass(10 * time.Second)
		}
		hub.Answers(nil)
		w.pass(time.Hour)
		w.sweepHubs()
		w.pass(time.Hour)
		w.sweepHubs()
		if h := w.linkedHub(elsewhere); h.Circuit != provisioning.CircuitClosed || h.Ahead != 0 {
			t.Errorf("%+v", h)
		}
		if n := w.events("hub:" + elsewhere); n[audit.HubCircuitOpened] != 1 || n[audit.HubCircuitClosed] != 1 {
			t.Errorf("the ledger has %v", n)
		}
	})
}

func TestAHubThatFailsNowAndThenGetsItsDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	const devices = 300
	w.crowd("line", elsewhere, devices)
	calls := 0
	hub.Answers(func(rw http.ResponseWriter) bool {
		calls++
		return calls%3 == 0 && down(rw)
	})
	for seconds := 0; w.linkedHub(elsewhere).Ahead > 0; seconds += 2 {
		if seconds > 60 {
			t.Fatalf("after a minute %d are ahead", w.linkedHub(elsewhere).Ahead)
		}
		w.sweepHubs()
		w.pass(2 * time.Second)
	}
}

// Eight hubs hang. The ninth is told of all its devices while the first call to them is waited
// for, and without waiting once it is known that they hang.
func TestHubsThatHangHoldNobodyUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const hanging, devices = 8, 100
	var names []string
	for n := range hanging {
		names = append(names, fmt.Sprintf("hanging-%d.example.net", n))
	}
	hubs := w.inMemory(provisioning.HubTraits{Batch: 1}, append(names, elsewhere)...)
	for n, name := range names {
		hubs[n].Hangs()
		w.crowd(fmt.Sprintf("stuck-%d", n), name, 1)
	}
	good := hubs[hanging]
	w.crowd("line", elsewhere, devices)
	began := time.Now()
	var sweeping sync.WaitGroup
	sweeping.Go(func() { w.sweepOnce() })
	for good.Count() < devices {
		if time.Since(began) > 4*time.Second { // a call is given five
			t.Fatalf("%d devices after %s", good.Count(), time.Since(began))
		}
		time.Sleep(time.Millisecond)
	}
	sweeping.Wait()
	for _, name := range names {
		if h := w.linkedHub(name); h.Circuit != provisioning.CircuitOpen {
			t.Errorf("%s is %s", name, h.Circuit)
		}
	}
	w.pass(time.Minute) // they are to be tried: by another sweep than the one that tells good ones
	w.crowd("more", elsewhere, 1)
	began = time.Now()
	_, err := w.engine.SweepHubs(w.ctx, w.db.ProvisioningJobs())
	w.must(err)
	if took := time.Since(began); good.Count() != devices+1 || took > 4*time.Second {
		t.Errorf("%d devices after %s", good.Count(), took)
	}
}

// gate is a driver that answers of its own.
type gate struct {
	provisioning.HubDriver
	endpoint func(address string) (string, error)
	answers  func(ctx context.Context, to provisioning.HubAccess, want []provisioning.HubIdentity) []error // nil: the hub does
}

func (g *gate) Endpoint(address string) (string, error) {
	if g.endpoint != nil {
		return g.endpoint(address)
	}
	return g.HubDriver.Endpoint(address)
}

func (g *gate) Apply(ctx context.Context, to provisioning.HubAccess, want []provisioning.HubIdentity) []error {
	if g.answers != nil {
		if said := g.answers(ctx, to, want); said != nil {
			return said
		}
	}
	return g.HubDriver.Apply(ctx, to, want)
}

func (g *gate) Devices(ctx context.Context, to provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	return g.HubDriver.(provisioning.HubReader).Devices(ctx, to, each)
}

// gated puts a gate before the hubs in memory.
func (w *world) gated() *gate {
	w.t.Helper()
	g := &gate{HubDriver: w.drivers[inMemory]}
	w.drivers = map[string]provisioning.HubDriver{inMemory: g}
	w.restart()
	return g
}

// A call of one device has five seconds; one of many has as long as many take, and is over well
// before another process takes them.
func TestACallOfManyDevicesHasMoreTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.inMemory(provisioning.HubTraits{Batch: 100}, elsewhere)[0]
	var left []time.Duration
	w.gated().answers = func(ctx context.Context, _ provisioning.HubAccess, want []provisioning.HubIdentity) []error {
		end, bounded := ctx.Deadline()
		if !bounded || len(want) > 1 && time.Until(end) < 6*time.Second { // that is what this hub takes
			return slices.Repeat([]error{context.DeadlineExceeded}, len(want))
		}
		left = append(left, time.Until(end))
		return nil
	}
	w.crowd("line", elsewhere, 3)
	w.sweepHubs()
	if hub.Count() != 3 || len(left) != 1 || left[0] > 30*time.Second {
		t.Fatalf("%d devices; %v were left", hub.Count(), left)
	}
	w.crowd("alone", elsewhere, 1)
	w.sweepHubs()
	if hub.Count() != 4 || len(left) != 2 || left[1] > 5*time.Second {
		t.Errorf("%d devices; %v were left", hub.Count(), left)
	}
}
