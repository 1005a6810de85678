package provisioning

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Bounds of reading a hub.
const (
	hubCheckPage = 200              // devices compared in one View
	hubCheckIdle = 2 * time.Minute  // for how long a hub may hand over nothing
	hubReadLimit = 25 * time.Minute // one hub
	maxHubDrifts = 100_000          // devices listed of a kind; the others are counted
)

// hubChecking is one check being made. Of the devices that the hub holds it keeps eight octets
// each; nothing else grows with them.
type hubChecking struct {
	*Engine
	jobs Store
	was  HubCheck // as it is on record
	is   HubCheck
	seed maphash.Seed
	seen []uint64 // devices of ours that the hub holds, if they are to be judged
}

// carryOutHubCheck takes a check, reads the hub and writes what was found. A process that is
// cut off leaves it to the next, which begins anew.
func (e *Engine) carryOutHubCheck(ctx context.Context, jobs Store, was HubCheck) error {
	c := &hubChecking{Engine: e, jobs: jobs, was: was, is: was, seed: maphash.MakeSeed()}
	c.is.Began, c.is.Drift = e.now(), map[HubDriftKind]int64{}
	c.is.Held, c.is.Untold, c.is.Unnamed = 0, 0, 0
	if err := c.write(ctx, func(tx Tx) error { return tx.ForgetHubDrifts(was.ID) }); err != nil {
		return err
	}
	err := c.compare(ctx)
	over := context.WithoutCancel(ctx)
	switch {
	case ctx.Err() != nil: // the server stops: nobody's fault
		c.is.Taken = time.Time{}
		return errors.Join(err, jobs.Update(over, func(tx Tx) error { return tx.MoveHubCheck(c.was, c.is) }))
	case fault.RuleOf(err) == "hub-check-moved":
		return err
	case err != nil:
		e.log.Warn("checking a hub", "hub", was.Hub, "problem", err)
		c.is.Problem = "the hub could not be read"
		if f := fault.As(err); f != nil {
			c.is.Problem = f.Detail
		}
	}
	return c.end(over)
}

// compare goes through what the hub holds, and then through what it does not.
func (c *hubChecking) compare(ctx context.Context) error {
	var h Hub
	var link HubLink
	err := c.jobs.View(ctx, func(tx Tx) (err error) {
		if h, err = tx.Hub(c.is.Hub); err == nil && h.Driver != BuiltIn {
			link, err = tx.HubLink(c.is.Hub)
		}
		return err
	})
	if err != nil {
		return err
	}
	if h.Driver == BuiltIn {
		return c.builtIn(ctx)
	}
	by := c.reader(h)
	if by == nil {
		return noDriver(h.Name, h.Driver)
	}
	to, err := c.hubAccess(link)
	if err != nil {
		return err
	}
	if err := c.read(ctx, by, to); err != nil {
		return err
	}
	return c.missing(ctx)
}

var errHubIdle = fault.New(fault.Unavailable, "hub-unreachable", "the hub did not go on handing over what it holds")

// read compares the hub's devices page by page, as it hands them over.
func (c *hubChecking) read(ctx context.Context, by HubReader, to HubAccess) error {
	limited, cancel := context.WithTimeoutCause(ctx, hubReadLimit, errHubIdle)
	defer cancel()
	limited, stop := context.WithCancelCause(limited)
	defer stop(nil)
	idle := time.AfterFunc(hubCheckIdle, func() { stop(errHubIdle) })
	defer idle.Stop()
	err := by.Devices(limited, to, func(found []HubFound) error {
		idle.Stop() // comparing is ours to do
		defer idle.Reset(hubCheckIdle)
		for page := range slices.Chunk(found, hubCheckPage) {
			if err := c.page(ctx, page); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = context.Cause(limited)
	}
	return err
}

// page compares some devices that the hub holds.
func (c *hubChecking) page(ctx context.Context, page []HubFound) error {
	was := c.is
	var list []HubDrift
	var seen []uint64
	err := c.jobs.View(ctx, func(tx Tx) error {
		c.is, list, seen = was, nil, nil
		j, err := c.judging(tx, slices.ContainsFunc(page, HubFound.keyed))
		if err != nil {
			return err
		}
		for _, found := range page {
			c.is.Held++
			device, err := verify.ParseRegistrationID(found.DeviceID)
			if err != nil {
				c.is.Unnamed++
				continue
			}
			seen = append(seen, c.mark(device))
			d, untold, err := j.judge(HubPlace{c.is.Hub, device}, found)
			if err != nil {
				return err
			}
			if untold {
				c.is.Untold++
			} else if d.Kind != "" {
				list = append(list, d)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.seen = append(c.seen, seen...)
	return c.found(ctx, list)
}

// missing goes through the devices that the hub shall hold, and does not.
func (c *hubChecking) missing(ctx context.Context) error {
	slices.Sort(c.seen)
	for after := (verify.RegistrationID{}); ; {
		was := c.is
		var page []HubIdentityRecord
		var list []HubDrift
		err := c.jobs.View(ctx, func(tx Tx) (err error) {
			c.is, list = was, nil
			if page, err = tx.HubIdentities(c.is.Hub, after, hubCheckPage); err != nil {
				return err
			}
			j, err := c.judging(tx, false)
			if err != nil {
				return err
			}
			for _, rec := range page {
				if _, there := slices.BinarySearch(c.seen, c.mark(rec.Device)); there {
					continue
				}
				want, told, err := j.told(rec)
				if err != nil {
					return err
				}
				if !told {
					c.is.Untold++
				} else if want.Present {
					list = append(list, rec.drift(DriftMissing))
				}
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].Device
		if err := c.found(ctx, list); err != nil {
			return err
		}
	}
}

// builtIn lists what was changed at the door of the built-in hub, which is in step otherwise.
func (c *hubChecking) builtIn(ctx context.Context) error {
	for after := (verify.RegistrationID{}); ; {
		was := c.is
		var page []HubRecord
		var list []HubDrift
		err := c.jobs.View(ctx, func(tx Tx) (err error) {
			c.is, list = was, nil
			page, err = tx.HubRecords(c.is.Hub, after, hubCheckPage)
			reading := c.readingHub(tx, c.is.Hub, false)
			for _, rec := range page {
				c.is.Held++
				if rec.Change == nil {
					continue
				}
				kind, err := reading.changed(rec)
				if err != nil {
					return err
				}
				if kind != "" {
					list = append(list, HubDrift{Kind: kind, HubPlace: HubPlace{c.is.Hub, rec.Device}, Spelled: rec.spelled(), Registration: rec.Change.Registration})
				}
			}
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].Device
		if err := c.found(ctx, list); err != nil {
			return err
		}
	}
}

// spelled is the device id as first written.
func (rec HubRecord) spelled() string {
	if rec.Registration != nil && rec.Registration.DeviceID != "" {
		return rec.Registration.DeviceID
	}
	return rec.Change.Spelled
}

func (c *hubChecking) mark(device verify.RegistrationID) uint64 {
	return maphash.String(c.seed, device.String())
}

// found writes a page of what differs, and that this process is still at it.
func (c *hubChecking) found(ctx context.Context, list []HubDrift) error {
	var kept []HubDrift
	for _, d := range list {
		if c.is.Drift[d.Kind]++; c.is.Drift[d.Kind] <= maxHubDrifts {
			kept = append(kept, d)
		}
	}
	if len(kept) == 0 && c.now().Before(c.was.Taken.Add(-hubCheckLease/2)) {
		return nil
	}
	return c.write(ctx, func(tx Tx) error { return tx.PutHubDrifts(c.is.ID, kept) })
}

// write writes how far the check is, which is this process's own until its lease is over.
func (c *hubChecking) write(ctx context.Context, beside func(Tx) error) error {
	c.is.Taken = c.now().Add(hubCheckLease)
	err := c.jobs.Update(ctx, func(tx Tx) error { return first(tx.MoveHubCheck(c.was, c.is), beside(tx)) })
	if err == nil {
		c.was = c.is
	}
	return err
}

// end writes the result in place of the one before. A check that failed leaves that one.
func (c *hubChecking) end(ctx context.Context) error {
	now := c.now()
	c.is.Ended, c.is.Taken = now, time.Time{}
	facts := map[string]any{"check": c.is.ID}
	for kind, n := range c.is.Drift {
		facts[string(kind)] = n
	}
	return c.jobs.Update(ctx, func(tx Tx) error {
		err := first(tx.MoveHubCheck(c.was, c.is), tx.DeleteHubChecks(c.is.Hub, c.is.ID, !c.is.Good()))
		if err == nil && !c.is.Good() {
			err = tx.ForgetHubDrifts(c.is.ID)
		} else if err == nil && c.is.Drifted() > 0 {
			err = tx.Append(audit.Event{At: now, Actor: jobHubs, Action: audit.HubDrifted, Subject: "hub:" + c.is.Hub, Body: audit.Body(facts)})
		}
		return err
	})
}

// sameThumbprints compares without regard to order, slots and case: hubs have their own.
func sameThumbprints(a, b [2]string) bool {
	set := func(x [2]string) []string {
		list := []string{strings.ToUpper(x[0]), strings.ToUpper(x[1])}
		slices.Sort(list)
		return slices.DeleteFunc(slices.Compact(list), func(s string) bool { return s == "" })
	}
	return slices.Equal(set(a), set(b))
}
