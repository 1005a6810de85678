package provisioning

import (
	"log/slog"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Verdict is what one step of a decision came to.
type Verdict string

// A step passes, refuses (and is the last), or only tells.
const (
	Pass   Verdict = "pass"
	Refuse Verdict = "refuse"
	Note   Verdict = "note"
)

// Step is one line of a decision: the question, what it was about, the answer.
type Step struct {
	Rule    string // stable word
	Object  string // "group line-3"
	Verdict Verdict
	Detail  string // one sentence
}

// Trace is the steps of one decision in order. The run that decides writes it;
// explain shows it (experience promise 2).
type Trace []Step

func (t *Trace) pass(rule, object, detail string) {
	*t = append(*t, Step{Rule: rule, Object: object, Verdict: Pass, Detail: detail})
}

func (t *Trace) note(rule, object, detail string) {
	*t = append(*t, Step{Rule: rule, Object: object, Verdict: Note, Detail: detail})
}

// refuse ends the trace with the step that refused and returns its fault. To the
// device every such fault is the same 401.
func (t *Trace) refuse(rule, object, detail string) error {
	*t = append(*t, Step{Rule: rule, Object: object, Verdict: Refuse, Detail: detail})
	return fault.New(fault.Unauthenticated, rule, "%s", detail).About(object)
}

// refused ends the trace with a fault that a lower floor made.
func (t *Trace) refused(object string, err error) error {
	f := fault.As(err)
	if f == nil {
		return err
	}
	*t = append(*t, Step{Rule: f.Rule, Object: object, Verdict: Refuse, Detail: f.Detail})
	return f.About(object)
}

// Refusal is what is remembered of a device that was refused.
type Refusal struct {
	ID      verify.RegistrationID
	Rule    string
	Object  string
	Trace   Trace
	Door    string
	Address string
	First   time.Time
	Last    time.Time
	Count   int64
}

// refusals remembers the last refusal of up to maxRefusals devices, newest kept, and
// lets one log line a minute through per device. It decides nothing.
type refusals struct {
	mu     sync.Mutex
	byID   map[verify.RegistrationID]*Refusal
	order  []verify.RegistrationID // ring of insertion
	next   int
	logged map[verify.RegistrationID]time.Time
}

const (
	maxRefusals    = 4096
	refusalLogGap  = time.Minute
	refusalMessage = "registration refused"
)

func (r *refusals) add(log *slog.Logger, a Attempt, t Trace, err error, now time.Time) {
	f := fault.As(err)
	if f == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = make(map[verify.RegistrationID]*Refusal)
		r.logged = make(map[verify.RegistrationID]time.Time)
		r.order = make([]verify.RegistrationID, maxRefusals)
	}
	known := r.byID[a.ID]
	if known == nil {
		if old := r.order[r.next]; !old.IsZero() {
			delete(r.byID, old)
			delete(r.logged, old)
		}
		r.order[r.next] = a.ID
		r.next = (r.next + 1) % maxRefusals
		known = &Refusal{ID: a.ID, First: now}
		r.byID[a.ID] = known
	}
	known.Rule, known.Object, known.Trace = f.Rule, f.Object, t
	known.Door, known.Address, known.Last = a.Door, a.Address, now
	known.Count++
	if now.Sub(r.logged[a.ID]) >= refusalLogGap {
		r.logged[a.ID] = now
		log.Info(refusalMessage, "registrationId", a.ID.String(), "rule", f.Rule, "object", f.Object,
			"door", a.Door, "address", a.Address, "count", known.Count)
	}
}

func (r *refusals) last(id verify.RegistrationID) (Refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.byID[id]; k != nil {
		return *k, true
	}
	return Refusal{}, false
}
