package provisioning

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

var (
	errRefused = fault.New(fault.Unauthenticated, "enrollment-disabled", "it is disabled")
	morning    = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
)

// herd is a pace and the clock of those that ask it.
type herd struct {
	*pace
	t   testing.TB
	now time.Time
}

func newHerd(t testing.TB) *herd { return &herd{pace: newPace(), t: t, now: morning} }

func (h *herd) attempt(id, address string) Attempt {
	h.t.Helper()
	parsed, err := verify.ParseRegistrationID(id)
	if err != nil {
		h.t.Fatal(err)
	}
	return Attempt{ID: parsed, Address: address}
}

// ask is one attempt that comes to outcome if it is let in.
func (h *herd) ask(id, address string, poll bool, outcome error) error {
	h.t.Helper()
	in, err := h.enter(h.attempt(id, address), poll, h.now)
	if err != nil {
		return err
	}
	defer in.leave()
	return in.outcome(outcome, h.now)
}

// decided counts how many of n attempts, so far apart, are let in, and returns the last
// answer.
func (h *herd) decided(n int, apart time.Duration, id, address string, outcome error) (let int, last error) {
	h.t.Helper()
	for range n {
		last = h.ask(id, address, false, outcome)
		if !fault.Is(last, fault.Throttled) {
			let++
		}
		h.now = h.now.Add(apart)
	}
	return let, last
}

func advised(err error) time.Duration {
	if f := fault.As(err); f != nil {
		return f.RetryAfter
	}
	return 0
}

func TestOnlyTheRefusedArePaced(t *testing.T) {
	bad := fault.New(fault.Malformed, "csr", "no")
	tests := map[string]struct {
		outcome error
		apart   time.Duration
		address string
		let     int // of 100
	}{
		"the refused, at once: a few in a row":           {errRefused, 0, "192.0.2.1", 5},
		"the refused, ten a second: one a second more":   {errRefused, 100 * time.Millisecond, "192.0.2.1", 14},
		"the refused, one a second":                      {errRefused, time.Second, "192.0.2.1", 100},
		"those whose certificate was withdrawn":          {fault.New(fault.Disallowed, "x", "x"), 0, "192.0.2.1", 5},
		"the admitted":                                   {nil, 0, "192.0.2.1", 100},
		"a bad request":                                  {bad, 0, "192.0.2.1", 100},
		"a fault of ours":                                {errors.New("disk"), 0, "192.0.2.1", 100},
		"a store that is down":                           {fault.New(fault.Unavailable, "x", "x"), 0, "192.0.2.1", 100},
		"the refused, who come from no network (a test)": {errRefused, 0, "", 100},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHerd(t)
			if let, last := h.decided(100, tt.apart, "dev-1", tt.address, tt.outcome); let != tt.let {
				t.Errorf("%d of 100 were decided, want %d; the last: %v", let, tt.let, last)
			}
			if n := h.working.Load(); n != 0 {
				t.Errorf("%d are still under way", n)
			}
		})
	}
}

func TestNobodyIsPacedForAnother(t *testing.T) {
	h := newHerd(t)
	h.decided(1000, 0, "dev-1", "192.0.2.1", errRefused)
	if err := h.ask("dev-1", "192.0.2.1", false, nil); !fault.Is(err, fault.Throttled) {
		t.Fatalf("the one that fails is not paced: %v", err)
	}
	for _, other := range [][2]string{{"dev-1", "192.0.2.2"}, {"dev-2", "192.0.2.1"}, {"dev-11", "92.0.2.1"}} {
		if err := h.ask(other[0], other[1], false, nil); err != nil {
			t.Errorf("%v: %v", other, err)
		}
	}
}

func TestNoDecisionIsRemembered(t *testing.T) {
	h := newHerd(t)
	h.decided(1000, 10*time.Millisecond, "dev-1", "192.0.2.1", errRefused)
	// It is enabled now, and goes on asking as it did.
	asked := h.now
	for fault.Is(h.ask("dev-1", "192.0.2.1", false, nil), fault.Throttled) {
		h.now = h.now.Add(10 * time.Millisecond)
	}
	if waited := h.now.Sub(asked); waited > time.Second {
		t.Errorf("it was let in after %s, want a second at most", waited)
	}
	if let, last := h.decided(100, 0, "dev-1", "192.0.2.1", nil); let != 100 {
		t.Errorf("after a success it is paced still: %v", last)
	}
	if _, last := h.decided(1, 0, "dev-1", "192.0.2.1", errRefused); advised(last) != 0 {
		t.Errorf("a first refusal after a success comes with advice: %s", advised(last))
	}
}

func TestAdviceGrowsAndIsHeeded(t *testing.T) {
	h := newHerd(t)
	var got []time.Duration
	for range 16 {
		err := h.ask("dev-1", "192.0.2.1", false, errRefused)
		if !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("one that heeds the advice got %v", err)
		}
		got = append(got, advised(err))
		h.now = h.now.Add(max(advised(err)*2, time.Second)) // as late as the doors' jitter makes it
	}
	want := "[0s 0s 0s 0s 0s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 5m0s 5m0s 5m0s]"
	if fmt.Sprint(got) != want {
		t.Errorf("advice %v, want %s", got, want)
	}
	h.now = h.now.Add(2 * forgotten)
	if err := h.ask("dev-1", "192.0.2.1", false, errRefused); advised(err) != 0 {
		t.Errorf("after a long silence the advice is %s", advised(err))
	}
}

func TestThoseWhoAskTooOftenAreAdvisedToo(t *testing.T) {
	h := newHerd(t)
	_, last := h.decided(6, 0, "dev-1", "192.0.2.1", errRefused)
	if f := fault.As(last); f.Kind != fault.Throttled || f.Rule != rulePaced || f.RetryAfter != time.Second {
		t.Errorf("the sixth got %v, %s", last, f.RetryAfter)
	}
	for range 10 {
		h.now = h.now.Add(time.Second)
		_, last = h.decided(2, 0, "dev-1", "192.0.2.1", errRefused)
	}
	if advised(last) != maxAdvice {
		t.Errorf("after 15 refusals the advice is %s", advised(last))
	}
}

func TestPollsHaveARateOfTheirOwn(t *testing.T) {
	h := newHerd(t)
	poll := func(n int, apart time.Duration) (let int, last error) {
		for range n {
			last = h.ask("dev-1", "192.0.2.1", true, nil)
			if last == nil {
				let++
			}
			h.now = h.now.Add(apart)
		}
		return let, last
	}
	// Azure's limit, 5 in 10 s, is far below.
	if let, last := poll(100, 100*time.Millisecond); let != 100 {
		t.Errorf("of ten a second %d were answered: %v", let, last)
	}
	h.now = h.now.Add(time.Minute)
	let, last := poll(100, 0)
	if f := fault.As(last); let != 20 || f == nil || f.Kind != fault.Throttled || f.Rule != rulePolled || f.RetryAfter != 100*time.Millisecond {
		t.Errorf("of a hundred at once %d were answered; then %v", let, last)
	}
	if err := h.ask("dev-1", "192.0.2.1", false, nil); err != nil {
		t.Errorf("who polls too often may register: %v", err)
	}
	if err := h.ask("dev-1", "192.0.2.2", true, nil); err != nil {
		t.Errorf("another address: %v", err)
	}
}

func TestManyAtOnceAreOneRate(t *testing.T) {
	h := newHerd(t)
	h.decided(1, 0, "dev-1", "192.0.2.1", errRefused)
	let := 0
	var under []pass
	for range 100 { // none of them is decided before the last has come
		if in, err := h.enter(h.attempt("dev-1", "192.0.2.1"), false, h.now); err == nil {
			let++
			under = append(under, in)
		}
	}
	for _, in := range under {
		_ = in.outcome(errRefused, h.now)
		in.leave()
	}
	if let != 4 {
		t.Errorf("%d were let in beside each other, want 4", let)
	}
	if err := h.ask("dev-1", "192.0.2.1", false, nil); !fault.Is(err, fault.Throttled) {
		t.Errorf("got %v", err)
	}
}

func TestAClockThatIsSetBackShutsNobodyOut(t *testing.T) {
	h := newHerd(t)
	h.decided(10, 0, "dev-1", "192.0.2.1", errRefused)
	h.now = h.now.Add(-24 * time.Hour)
	h.decided(10, 0, "dev-1", "192.0.2.1", errRefused)
	h.now = h.now.Add(time.Second)
	if err := h.ask("dev-1", "192.0.2.1", false, nil); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestOverloadIsRefusedAndAdviceGrowsWithIt(t *testing.T) {
	h := newHerd(t)
	down := fault.New(fault.Unavailable, "database-unavailable", "no")
	quiet := advised(h.ask("dev-1", "192.0.2.1", false, down))
	for n := range maxWorking {
		if _, err := h.enter(h.attempt(fmt.Sprintf("dev-%d", n), "192.0.2.1"), false, h.now); err != nil {
			t.Fatalf("number %d: %v", n, err)
		}
	}
	err := h.ask("dev-1", "", false, nil)
	if f := fault.As(err); f == nil || f.Kind != fault.Throttled || f.Rule != ruleOverloaded {
		t.Fatalf("one too many got %v", err)
	}
	h.working.Add(-1)
	busy := advised(h.ask("dev-1", "192.0.2.1", false, down))
	if quiet < 5*time.Second || busy <= 4*quiet || busy > time.Minute {
		t.Errorf("a quiet server says %s, a busy one %s", quiet, busy)
	}
}

func TestAFleetOfTheRefusedCostsBoundedMemory(t *testing.T) {
	h := newHerd(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const fleet = 20_000
	for range 3 {
		for n := range fleet {
			_ = h.ask(fmt.Sprintf("dev-%d", n), "192.0.2.1", false, errRefused)
		}
	}
	if got := len(h.refused.young) + len(h.refused.old); got != fleet {
		t.Errorf("%d of %d are remembered", got, fleet)
	}
	for n := range 3 * maxPairs { // and a stranger who makes names up
		_ = h.ask(fmt.Sprintf("other-%d", n), "192.0.2.1", true, errRefused)
	}
	if n := len(h.refused.young) + len(h.refused.old); n > 2*maxPairs {
		t.Errorf("%d pairs are remembered, the bound is %d", n, 2*maxPairs)
	}
	if grew := int64(heap()) - int64(before); grew > 16<<20 {
		t.Errorf("it takes %d KiB", grew>>10)
	}
	runtime.KeepAlive(h.pace)
}

func TestAnAdmittedAttemptAllocatesNothing(t *testing.T) {
	h := newHerd(t)
	a := h.attempt("dev-1", "192.0.2.1")
	h.decided(1, 0, "dev-2", "192.0.2.1", errRefused)
	if n := testing.AllocsPerRun(1000, func() {
		in, _ := h.enter(a, false, h.now)
		_ = in.outcome(nil, h.now)
		in.leave()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPace(b *testing.B) {
	const fleet = 20_000
	for name, outcome := range map[string]error{"the admitted": nil, "20,000 of the refused": errRefused} {
		b.Run(name, func(b *testing.B) {
			h := newHerd(b)
			attempts := make([]Attempt, fleet)
			for n := range attempts {
				attempts[n] = h.attempt(fmt.Sprintf("dev-%d", n), "192.0.2.1")
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if in, err := h.enter(attempts[n%fleet], false, h.now); err == nil {
					_ = in.outcome(outcome, h.now)
					in.leave()
				}
			}
		})
	}
}
