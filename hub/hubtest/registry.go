package hubtest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Registry is a hub in memory that can be read, and that others change behind Muster's back.
type Registry struct {
	mu      sync.Mutex
	devices map[string]registered
	calls   []time.Time // when each came
	lies    bool
	hangs   bool
	away    bool
}

// registered is a device; one that was removed is kept for its generation.
type registered struct {
	provisioning.HubFound
	present    bool
	generation int64
}

// registryPage is how many devices it is read by.
const registryPage = 100

// NewRegistry makes an empty one.
func NewRegistry() *Registry { return &Registry{devices: map[string]registered{}} }

// Apply does as it is told, unless it was told something later already.
func (r *Registry) Apply(ctx context.Context, _ provisioning.HubAccess, want []provisioning.HubIdentity) []error {
	r.mu.Lock()
	hangs := r.hangs
	r.calls = append(r.calls, time.Now())
	r.mu.Unlock()
	answers := make([]error, len(want))
	if hangs {
		<-ctx.Done()
		for i := range answers {
			answers[i] = ctx.Err()
		}
		return answers
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range want {
		r.take(w)
	}
	return answers
}

func (r *Registry) take(w provisioning.HubIdentity) {
	id := strings.ToLower(w.DeviceID)
	was := r.devices[id]
	if r.lies || w.Generation <= was.generation {
		return
	}
	is := registered{generation: w.Generation, present: w.Present}
	if w.Present {
		is.HubFound = provisioning.HubFound{DeviceID: w.DeviceID, Enabled: w.Enabled, Auth: w.Auth, IoTEdge: w.IoTEdge}
	}
	r.devices[id] = is
}

// Devices reads it in pages, by id.
func (r *Registry) Devices(ctx context.Context, _ provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	r.mu.Lock()
	if r.away {
		r.mu.Unlock()
		return fault.New(fault.Unavailable, "hub-unavailable", "the hub answered 503")
	}
	var list []provisioning.HubFound
	for _, id := range slices.Sorted(maps.Keys(r.devices)) {
		if d := r.devices[id]; d.present {
			list = append(list, d.HubFound)
		}
	}
	r.mu.Unlock()
	for page := range slices.Chunk(list, registryPage) {
		if err := each(page); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Change has somebody else change a device, or make one.
func (r *Registry) Change(device string, change func(*provisioning.HubFound)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := strings.ToLower(device)
	d := r.devices[id]
	if !d.present {
		d.HubFound = provisioning.HubFound{DeviceID: device, Enabled: true, Auth: provisioning.HubAuth{Type: provisioning.HubSelfSigned}}
	}
	change(&d.HubFound)
	d.present = true
	r.devices[id] = d
}

// Remove has somebody else remove a device.
func (r *Registry) Remove(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := strings.ToLower(device)
	d := r.devices[id]
	d.present = false
	r.devices[id] = d
}

// Lies has it confirm what it is told and do nothing.
func (r *Registry) Lies(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lies = yes
}

// Hangs has it answer no call to it.
func (r *Registry) Hangs() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangs = true
}

// Away has it refuse to be read.
func (r *Registry) Away(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = yes
}

// Device is what it holds of a device; false: nothing.
func (r *Registry) Device(device string) (provisioning.HubFound, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.devices[strings.ToLower(device)]
	return d.HubFound, d.present
}

// Count is how many devices it holds.
func (r *Registry) Count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		if d.present {
			n++
		}
	}
	return n
}

// Calls says when each call came.
func (r *Registry) Calls() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}
