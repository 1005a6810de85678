package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

const (
	atOnce = 8 // devices told one by one
	tries  = 4 // of one device that others write at the same time
)

// Apply tells the hub in one bulk, and of what that leaves open one by one until the hub fails.
//
// Errors: [provisioning.RuleHubRefused]; Unavailable "hub-unreachable" and "hub-unavailable".
func (d *Driver) Apply(ctx context.Context, to provisioning.HubAccess, list []provisioning.HubIdentity) []error {
	answers, done := make([]error, len(list)), make([]bool, len(list))
	var failed atomic.Pointer[error]
	h, err := d.open(to)
	if err == nil && len(list) > 1 {
		err = h.bulk(ctx, list, done)
	}
	if err != nil {
		failed.Store(&err)
	}
	var telling sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for i, want := range list {
		if done[i] {
			continue
		}
		turn <- struct{}{}
		telling.Go(func() {
			defer func() { <-turn }()
			if before := failed.Load(); before != nil {
				answers[i] = *before
				return
			}
			answers[i] = h.one(ctx, want)
			if err := answers[i]; err != nil && fault.RuleOf(err) != provisioning.RuleHubRefused {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	telling.Wait()
	return answers
}

// one tells the hub of a device over what it has of it; who is overtaken reads again.
func (h hub) one(ctx context.Context, want provisioning.HubIdentity) error {
	for range tries {
		if again, err := h.tell(ctx, want); !again {
			return err
		}
	}
	return refused("others change the device on the hub all the time")
}

func (h hub) tell(ctx context.Context, want provisioning.HubIdentity) (again bool, err error) {
	was, err := h.device(ctx, want.DeviceID)
	switch {
	case err != nil:
		return false, err
	case was != nil && was.generation() > want.Generation: // want is out of date
		return false, nil
	case was == nil && !want.Present:
		return false, nil
	case !want.Present:
		return h.remove(ctx, was)
	}
	return h.put(ctx, want, was)
}

// device reads what the hub has of a device; nil: nothing.
func (h hub) device(ctx context.Context, id string) (*held, error) {
	got, err := h.ask(ctx, http.MethodGet, devicePath(id), nil)
	switch {
	case err != nil:
		return nil, err
	case got.noDevice():
		return nil, nil
	case got.status == http.StatusBadRequest:
		return nil, got.verdict()
	}
	d := &held{}
	if err := got.read(d); err != nil {
		return nil, err
	}
	if d.DeviceID == "" || d.ETag == "" {
		return nil, strange()
	}
	return d, json.Unmarshal(got.body, &d.whole)
}

func (h hub) remove(ctx context.Context, was *held) (again bool, err error) {
	got, err := h.ask(ctx, http.MethodDelete, devicePath(was.DeviceID), nil, "If-Match", strconv.Quote(was.ETag))
	switch {
	case err != nil:
		return false, err
	case got.overtaken():
		return true, nil
	case got.status != http.StatusNoContent:
		return false, got.verdict()
	}
	return false, nil
}

// put creates the device, or writes it over what it was.
func (h hub) put(ctx context.Context, want provisioning.HubIdentity, was *held) (again bool, err error) {
	id, header, before := want.DeviceID, []string(nil), (*device)(nil)
	if was != nil {
		id, header, before = was.DeviceID, []string{"If-Match", strconv.Quote(was.ETag)}, &was.device
	}
	next, err := deviceOf(want, before)
	if err != nil || before != nil && before.is(next) {
		return false, err
	}
	body, err := next.over(was)
	if err != nil {
		return false, err
	}
	if body["deviceId"], err = json.Marshal(id); err != nil {
		return false, err
	}
	got, err := h.ask(ctx, http.MethodPut, devicePath(id), body, header...)
	switch {
	case err != nil:
		return false, err
	case got.overtaken():
		return true, nil
	case got.status != http.StatusOK:
		return false, got.verdict()
	}
	var is held
	if err := got.read(&is); err != nil {
		return false, err
	}
	if is.DeviceID != id || is.Status != next.Status {
		return false, strange()
	}
	return false, nil
}
