package provisioning

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// pace holds a herd back (INV-R4, R5). What is being refused is decided once a second for
// each pair of device and address; polls have a rate of their own; anything else that
// succeeds has none. It remembers how often a pair asked, never what was decided: the
// first attempt that its rate lets through is decided like any other.
//
// A pair has an address so that nobody shuts a device out by failing in its name.
type pace struct {
	seed    maphash.Seed
	working atomic.Int64 // attempts let in and not yet left

	mu      sync.Mutex
	refused pairs
	polling pairs
}

// rate allows one act every so often, and a few in a row after a rest.
type rate struct {
	every time.Duration
	inRow int
}

// The rates of a pair. A polling device of Azure's may ask 5 times in 10 s (contract §7).
var (
	refusedRate = rate{every: time.Second, inRow: 5}
	pollRate    = rate{every: time.Second / 10, inRow: 20}
)

const (
	// maxWorking bounds the attempts of one engine that are under way: what cannot start
	// in time is refused, not kept (INV-R6).
	maxWorking = 4096
	// maxAdvice is the longest wait advised. Doors may double it, and it is forgotten
	// after that only.
	maxAdvice = 5 * time.Minute
	forgotten = 15 * time.Minute
	// maxPairs bounds each of two generations of pairs.
	maxPairs = 32 << 10
)

// Rule words of what is refused for its rate, before anything is read.
const (
	rulePaced      = "paced"
	rulePolled     = "polled-too-often"
	ruleOverloaded = "overloaded"
)

func newPace() *pace { return &pace{seed: maphash.MakeSeed()} }

// pass is an attempt on its way to a decision.
type pass struct {
	pace  *pace
	pair  pair
	known bool // the pair has been refused, and pays for this decision already
}

// enter lets an attempt go to its decision; whoever is let in says the outcome and
// leaves. It is Throttled, with advice when to come back, if the pair asks too often or too
// much is under way.
func (p *pace) enter(a Attempt, poll bool, now time.Time) (pass, error) {
	if p.working.Load() >= maxWorking {
		return pass{}, throttled(ruleOverloaded, "the server has more to do than it can").Later(p.load())
	}
	in := pass{pace: p, pair: p.pairOf(a)}
	if in.pair != nobody {
		p.mu.Lock()
		err := in.pay(poll, now.UnixNano())
		p.mu.Unlock()
		if err != nil {
			return pass{}, err
		}
	}
	p.working.Add(1)
	return in, nil
}

// pay charges the pair for one act.
func (in *pass) pay(poll bool, now int64) error {
	p := in.pace
	m, known := p.refused.find(in.pair, now)
	if in.known = known; known {
		wait := m.take(refusedRate, now)
		p.refused.put(in.pair, m, now)
		if wait > 0 {
			return throttled(rulePaced, "the device is being refused and asks too often").Later(max(wait, advice(m.refusals)))
		}
	}
	if !poll {
		return nil
	}
	m, _ = p.polling.find(in.pair, now)
	wait := m.take(pollRate, now)
	p.polling.put(in.pair, m, now)
	if wait > 0 {
		return throttled(rulePolled, "the device polls too often").Later(wait)
	}
	return nil
}

func throttled(rule, detail string) *fault.Error {
	return fault.New(fault.Throttled, rule, "%s", detail)
}

// leave ends an attempt that was let in.
func (in pass) leave() { in.pace.working.Add(-1) }

// outcome takes what an attempt came to and returns it with advice when to ask again: to
// the repeatedly refused it grows, and when the store cannot keep up it is the longer the
// more are waiting.
func (in pass) outcome(err error, now time.Time) error {
	if err == nil {
		if in.known {
			in.forget()
		}
		return nil
	}
	f := fault.As(err)
	switch {
	case f == nil:
		return err
	case f.Kind == fault.Unavailable:
		return f.Later(in.pace.load())
	case f.Kind == fault.Unauthenticated || f.Kind == fault.Disallowed:
		return f.Later(in.refuse(now.UnixNano()))
	}
	return err
}

// refuse remembers that the pair was refused once more.
func (in pass) refuse(now int64) time.Duration {
	if in.pair == nobody {
		return 0
	}
	p := in.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	m, _ := p.refused.find(in.pair, now)
	if !in.known {
		m.take(refusedRate, now)
	}
	m.refusals++
	p.refused.put(in.pair, m, now)
	return advice(m.refusals)
}

func (in pass) forget() {
	p := in.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused.drop(in.pair)
}

// advice doubles with every refusal after the first few.
func advice(refusals int) time.Duration {
	const doublings = 9 // more than maxAdvice
	over := refusals - refusedRate.inRow
	if over <= 0 {
		return 0
	}
	return min(time.Second<<min(over, doublings), maxAdvice)
}

// load is when to come back to a server that is short of time: later, the more of its
// clients wait.
func (p *pace) load() time.Duration {
	const quick, slow = 5 * time.Second, time.Minute
	return min(quick+time.Duration(p.working.Load())*(10*time.Millisecond), slow)
}

// pair stands for a device at an address: a hash under a secret of this process, so that
// nobody can choose two that are the same.
type pair uint64

// nobody is the pair of an attempt that does not come from a network.
const nobody pair = 0

func (p *pace) pairOf(a Attempt) pair {
	if a.Address == "" {
		return nobody
	}
	var h maphash.Hash
	h.SetSeed(p.seed)
	_, _ = h.WriteString(a.ID.String()) // never fails (hash/maphash)
	_ = h.WriteByte(0)                  // in no id
	_, _ = h.WriteString(a.Address)
	return max(pair(h.Sum64()), nobody+1)
}

// mark is what is remembered of a pair.
type mark struct {
	rested   int64 // when the pair may again do as many in a row as its rate has; Unix ns
	refusals int   // since the last success
}

// take pays for one act at now, or says how long until the next can be paid (the virtual
// scheduling of ITU-T I.371, annex A).
func (m *mark) take(r rate, now int64) (wait time.Duration) {
	every, row := int64(r.every), int64(r.every)*int64(r.inRow)
	// A clock that was set back must not shut anybody out.
	m.rested = min(max(m.rested, now), now+row)
	if wait := m.rested + every - row - now; wait > 0 {
		return time.Duration(wait)
	}
	m.rested += every
	return 0
}

// pairs remembers marks in two generations of maxPairs. When the young one is full, or as
// old as what it holds is of use, it becomes the old one, and the old one is forgotten.
type pairs struct {
	young, old map[pair]mark
	born       int64 // the young one; Unix ns
}

func (ps *pairs) find(p pair, now int64) (mark, bool) {
	ps.turn(now)
	m, ok := ps.young[p]
	if !ok {
		m, ok = ps.old[p]
	}
	return m, ok
}

func (ps *pairs) put(p pair, m mark, now int64) {
	if ps.young == nil {
		ps.young, ps.born = make(map[pair]mark), now
	}
	ps.young[p] = m
}

func (ps *pairs) drop(p pair) {
	delete(ps.young, p)
	delete(ps.old, p)
}

func (ps *pairs) turn(now int64) {
	age := time.Duration(now - ps.born)
	if len(ps.young) < maxPairs && age >= 0 && age < forgotten || len(ps.young)+len(ps.old) == 0 {
		return
	}
	if age >= 2*forgotten {
		clear(ps.young)
	}
	ps.young, ps.old, ps.born = ps.old, ps.young, now
	clear(ps.young) // its memory is used again
}
