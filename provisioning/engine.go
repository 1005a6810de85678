package provisioning

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// Config is what an Engine needs to be a usable value.
type Config struct {
	IDScope   string // the tenant's name on the wire, "0ne…"
	Store     Store
	Authority *ca.Authority
	Box       *seal.Box // opens symmetric keys at rest
	Now       func() time.Time
	// Even is a clock that never jumps: the time since some moment. nil: the process's own.
	Even func() time.Duration
	// Clock says when sweeps disbelieve Now; zero: rotation.DefaultClockRule.
	Clock rotation.ClockRule
	Log   *slog.Logger
	// Observe is told of every attempt's end, for metrics; it must be quick.
	Observe func(Outcome)
	// Allocator asks webhooks for hubs; without one custom allocation fails.
	Allocator Allocator
	// LocalWebhooks lets entries name webhooks on this host, over plain HTTP: development.
	LocalWebhooks bool
	// Ledger and Notifier serve subscriptions.
	Ledger   Ledger
	Notifier Notifier
	// HubDrivers tell hubs that live elsewhere, by the name of the driver.
	HubDrivers map[string]HubDriver
	// ObserveHub is told how each device that a hub is told of went: "applied", "refused" by
	// the hub, "failed", or "held" back. It must be quick.
	ObserveHub func(hub, outcome string)
	// CheckHubsEvery is how often hubs that can be read are checked; 0: when somebody asks.
	CheckHubsEvery time.Duration
	Tripwires      TripwireRule // zero: DefaultTripwireRule
	// QuarantineTwin is the initial twin of devices in quarantine unless one is given; nil: an empty one.
	QuarantineTwin []byte
	// ObserveTrip is told of every tripwire that is put on record; it must be quick.
	ObserveTrip func(TripwireKind)
}

// Outcome is how one attempt of a device ended. Reason is a rule word, "" on success.
type Outcome struct {
	Door, Mechanism, Result, Reason string
	Issued                          bool
}

// Engine is the provisioning engine of one ID scope.
type Engine struct {
	idScope   string
	store     Store
	authority *ca.Authority
	box       *seal.Box
	now       func() time.Time
	log       *slog.Logger
	observe   func(Outcome)
	allocator Allocator

	localWebhooks bool
	ledger        Ledger
	notifier      Notifier
	hubDrivers    map[string]HubDriver
	observeHub    func(hub, outcome string)
	tripwires     TripwireRule
	observeTrip   func(TripwireKind)

	checkHubsEvery time.Duration
	quarantineTwin []byte

	held     heldCertificates // parsed CA certificates, by thumbprint: facts that cannot change
	chains   knownChains      // chains known to be on record: rows that are never deleted
	refusals refusals         // the last refusals, for explain; bounded memory, never a decision
	pace     *pace            // who asks too often; bounded memory, never a decision

	sightings sightings // of devices that look like two, until they are written

	uses    keyUses // of shared access policies' keys, until a sweep writes them
	recent  recent  // the last certificate requests, to try changes of profiles on
	blocked atomic.Pointer[policies.BlockList]

	clock clockGuard

	complaints complaints // when a webhook was last complained of in the log
}

// New makes an Engine.
func New(c Config) *Engine {
	if c.Observe == nil {
		c.Observe = func(Outcome) {}
	}
	if c.ObserveHub == nil {
		c.ObserveHub = func(string, string) {}
	}
	if c.ObserveTrip == nil {
		c.ObserveTrip = func(TripwireKind) {}
	}
	if c.Tripwires.Window == 0 {
		c.Tripwires.Window = DefaultTripwireRule().Window
	}
	if c.Even == nil {
		began := time.Now()
		c.Even = func() time.Duration { return time.Since(began) }
	}
	if c.Clock == (rotation.ClockRule{}) {
		c.Clock = rotation.DefaultClockRule()
	}
	return &Engine{
		idScope: c.IDScope, store: c.Store, authority: c.Authority, box: c.Box,
		now: func() time.Time { return c.Now().UTC().Truncate(time.Microsecond) }, log: c.Log, observe: c.Observe, pace: newPace(),
		allocator: c.Allocator, localWebhooks: c.LocalWebhooks, ledger: c.Ledger, notifier: c.Notifier,
		clock:      clockGuard{rule: c.Clock, even: c.Even},
		hubDrivers: c.HubDrivers, observeHub: c.ObserveHub, checkHubsEvery: c.CheckHubsEvery, quarantineTwin: c.QuarantineTwin,
		tripwires: c.Tripwires, observeTrip: c.ObserveTrip,
	}
}

// IDScope is the tenant this engine serves.
func (e *Engine) IDScope() string { return e.idScope }

// timedID is a new id that sorts by a time.
func timedID(at time.Time) string { return fmt.Sprintf("%014x%s", at.UnixMicro(), newID()[:10]) }

// newID makes an unguessable id of letters and digits, fit for URLs and MQTT topics.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
