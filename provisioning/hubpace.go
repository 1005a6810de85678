package provisioning

import "time"

// Bounds of the calls of one step.
const (
	hubPage  = 32              // calls
	hubMost  = 512             // devices
	hubAhead = 2 * time.Second // calls of a hub that has a rate are given out so far ahead
)

// hubRate is how fast a hub takes devices.
type hubRate struct {
	calls int // a minute; 0: as many as it takes
	batch int // devices of a call
}

// rateOf is the operator's rate, or the driver's.
func (e *Engine) rateOf(h Hub) hubRate {
	r := hubRate{calls: h.Rate, batch: 1}
	if by := e.hubDrivers[h.Driver]; by != nil {
		traits := by.Traits()
		if r.batch = traits.Batch; r.calls == 0 {
			r.calls = traits.PerMinute
		}
	}
	return r
}

// every is the time from one call to the next.
func (r hubRate) every() time.Duration {
	if r.calls == 0 {
		return 0
	}
	return time.Minute / time.Duration(r.calls)
}

// callsFor is how many calls so many devices are.
func (r hubRate) callsFor(devices int64) int64 {
	return (devices + int64(r.batch) - 1) / int64(r.batch)
}

// takes is for how long so many devices keep a hub busy; 0 when it has no rate.
func (r hubRate) takes(devices int64) time.Duration {
	return time.Duration(r.callsFor(devices)) * r.every()
}

// hubSlice is the time that one step has of a hub: its calls go out one by one, from its
// beginning on. Slices of all processes follow each other, as the hub's row has it.
type hubSlice struct {
	from  time.Time
	every time.Duration
	calls int
}

// slice is the next free time of a hub whose calls are given out up to paced; of no calls when
// it is too far ahead.
func (r hubRate) slice(paced, now time.Time) hubSlice {
	s := hubSlice{from: now, every: r.every(), calls: hubPage}
	if s.every == 0 {
		return s
	}
	// Beyond that nothing is given out: the clock went back.
	if wait := paced.Sub(now); wait > 0 && wait <= hubAhead+s.every {
		s.from = paced
	}
	free := hubAhead - s.from.Sub(now)
	if free < 0 {
		s.calls = 0
		return s
	}
	s.calls = max(1, min(hubPage, int(free/s.every)))
	return s
}

// devices is how many a step with this slice takes.
func (s hubSlice) devices(batch int) int {
	return min(s.calls*batch, max(hubMost, batch))
}

// after is where the next slice begins when so many calls of this one are used.
func (s hubSlice) after(calls int64) time.Time {
	return s.from.Add(time.Duration(calls) * s.every)
}
