package provisioning

import (
	"slices"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const (
	// pausedAgain is when what a paused plan holds back is looked at once more.
	pausedAgain = time.Hour
	// maxBacklog is how far a rate's backlog is counted, and maxSpread over how many hours it
	// is spread at most: a plan that is changed bears on all of it within a day.
	maxBacklog = 100_000
	maxSpread  = 24
)

// rollGate holds back what rotation plans do not let through: outside their windows, beyond
// their rates, before each device's place in their jitter.
type rollGate struct {
	now     time.Time
	plans   []*planGate
	rules   []policies.RotationPlan // of plans
	backlog int64                   // what is due, counted once a rate is exhausted
}

// planGate is one plan's part of it.
type planGate struct {
	Plan
	shut  bool      // paused, or outside its windows
	opens time.Time // when to look again then
	wants int64     // what the page asks for
	left  int64     // what of it is granted and not taken yet
}

// rollPass is what was asked for one registration.
type rollPass struct {
	plan  *planGate // nil: no plan holds it back
	id    verify.RegistrationID
	again time.Time // when to look again, if it is held back
	early bool      // before its place in the jitter
}

func newRollGate(plans []Plan, now time.Time) rollGate {
	g := rollGate{now: now}
	for _, p := range plans {
		if p.Role != policies.RollDevices {
			continue
		}
		gate := &planGate{Plan: p}
		open, next := p.Windows.Open(now)
		switch {
		case p.Paused:
			gate.shut, gate.opens = true, now.Add(pausedAgain)
		case !open:
			gate.shut, gate.opens = true, next
			if next.IsZero() {
				gate.opens = now.Add(pausedAgain)
			}
		}
		g.plans, g.rules = append(g.plans, gate), append(g.rules, p.RotationPlan)
	}
	return g
}

// plan is the plan that decides for a registration, nil when none fits.
func (g *rollGate) plan(owner Owner, profile string) *planGate {
	nearest, found := policies.Nearest(g.rules, policies.RollDevices, owner.ID.String(), profile)
	if !found {
		return nil
	}
	return g.plans[slices.IndexFunc(g.plans, func(p *planGate) bool { return p.Name == nearest.Name })]
}

// ask says whether a registration may be told, or signed for, as far as is known before
// the page is counted.
func (g *rollGate) ask(l rollLook) rollPass {
	pass := rollPass{plan: g.plan(l.Owner, l.Profile), id: l.ID}
	switch p := pass.plan; {
	case p == nil:
	case p.shut:
		pass.again = p.opens
	default:
		if at := jittered(l, p.Jitter); g.now.Before(at) {
			pass.early, pass.again = true, at
			break
		}
		p.wants++
	}
	return pass
}

// jittered is the moment of what a registration needs now, put off by its own place in the
// jitter: as far as half of what is left of its certificate's life, at most.
func jittered(l rollLook, share float64) time.Time {
	c := l.front()
	at := l.rule.RemindAfter(c.NotBefore, c.NotAfter)
	if l.next.Move == rotation.Prepare {
		at = l.rule.PrepareAfter(c.NotBefore, c.NotAfter)
	}
	width := time.Duration(share * float64(c.NotAfter.Sub(c.NotBefore)))
	width = max(0, min(width, c.NotAfter.Sub(at)/2))
	return at.Add(time.Duration(placeOf(l.ID.String()) * float64(width)))
}

// reserve counts what the page asks for against the plans' rates, in the transaction that
// uses it.
func (g *rollGate) reserve(tx Tx) error {
	hour := policies.HourOf(g.now)
	short := false
	for _, p := range g.plans {
		if p.wants == 0 {
			continue
		}
		if err := tx.CountMoves(p.Name, hour, p.wants); err != nil {
			return err
		}
		if p.left = p.wants; p.MaxPerHour == 0 {
			continue
		}
		// Read behind the lock that counting took: now it holds on every process.
		counted, err := tx.Plan(p.Name)
		if err != nil {
			return err
		}
		if over := min(counted.Moved-int64(p.MaxPerHour), p.wants); over > 0 {
			short = true
			p.left -= over
			if err := tx.CountMoves(p.Name, hour, -over); err != nil {
				return err
			}
		}
	}
	if !short {
		return nil
	}
	var err error
	g.backlog, err = tx.CountDue(g.now, maxBacklog)
	return err
}

// admits says whether a registration goes through, and if not when to look again. What is
// beyond a rate is spread over the hours that its backlog takes.
func (g *rollGate) admits(pass *rollPass) bool {
	p := pass.plan
	switch {
	case p == nil:
		return true
	case p.shut, pass.early:
		return false
	case p.left > 0:
		p.left--
		return true
	}
	hours := min(maxSpread, 1+g.backlog/int64(p.MaxPerHour))
	next := g.now.Truncate(time.Hour).Add(time.Hour)
	pass.again = next.Add(time.Duration(placeOf(pass.id.String()) * float64(time.Duration(hours-1)*time.Hour)))
	return false
}
