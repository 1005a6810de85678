package rotation_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/rotation"
)

// process is one process that sweeps a store whose clock record it shares.
type process struct {
	watch rotation.ClockWatch
	even  time.Duration
}

// clocks is a machine: its clock, which jumps, and the processes on it.
type clocks struct {
	*testing.T
	now    time.Time
	record rotation.ClockRecord
	raised int
}

func (c *clocks) pass(d time.Duration, all ...*process) {
	c.now = c.now.Add(d)
	for _, p := range all {
		p.even += d
	}
}

func (c *clocks) look(p *process, going bool) {
	c.Helper()
	next, record, goes, raised := p.watch.Look(c.record, c.now, p.even, rotation.DefaultClockRule())
	p.watch, c.record = next, record
	if raised {
		c.raised++
	}
	if goes != going {
		c.Fatalf("at %s: going %v, want %v; %+v", c.now, goes, going, record)
	}
}

// waits looks each minute until the alarm is over.
func (c *clocks) waits(all ...*process) {
	c.Helper()
	for range 10 {
		for _, p := range all {
			c.look(p, false)
		}
		c.pass(time.Minute, all...)
	}
	for _, p := range all {
		c.look(p, true)
	}
}

func (c *clocks) alarms(n int) {
	c.Helper()
	if c.raised != n {
		c.Fatalf("%d alarms, want %d", c.raised, n)
	}
}

const year = 365 * day

func TestAnEvenClockIsBelieved(t *testing.T) {
	c, p := &clocks{T: t, now: day0}, &process{}
	for range 100 {
		c.look(p, true)
		c.pass(11*time.Minute, p)
	}
	c.now = c.now.Add(59 * time.Minute) // a step that an NTP client may make
	c.look(p, true)
	c.alarms(0)
	if c.now.Sub(c.record.Last) > 10*time.Minute {
		t.Errorf("last seen %s", c.record.Last)
	}
}

func TestAYearAheadAndBack(t *testing.T) {
	c, p := &clocks{T: t, now: day0}, &process{}
	c.look(p, true)
	c.pass(time.Minute, p)
	c.now = c.now.Add(year)
	c.waits(p)
	c.alarms(1)
	if c.record.Replan {
		t.Error("nothing rests on times to come")
	}
	c.pass(time.Hour, p)
	c.look(p, true)
	c.now = c.now.Add(-year)
	c.waits(p)
	c.alarms(2)
	if !c.record.Replan {
		t.Error("what was done a year ahead is to be planned anew")
	}
}

func TestAJumpThatIsTakenBackAtOnce(t *testing.T) {
	c, p := &clocks{T: t, now: day0}, &process{}
	c.look(p, true)
	c.now = c.now.Add(year)
	c.look(p, false)
	c.pass(9*time.Minute, p)
	c.now = c.now.Add(-year)
	c.waits(p) // ten minutes from the second jump on
	c.alarms(2)
	if !c.record.Replan {
		t.Error("a device may have registered meanwhile")
	}
}

func TestProcessesOfOneMachineRaiseOneAlarm(t *testing.T) {
	c, a, b := &clocks{T: t, now: day0}, &process{}, &process{}
	c.look(a, true)
	c.look(b, true)
	c.now = c.now.Add(-year)
	c.waits(a, b)
	c.alarms(1)
}

func TestAProcessThatStarts(t *testing.T) {
	for name, tt := range map[string]struct {
		gap    time.Duration
		alarms int
	}{
		"after a minute":                           {time.Minute, 0},
		"after a month in which nothing ran":       {30 * day, 0},
		"a year later, if it is":                   {year, 1},
		"a little before the last one ended":       {-time.Minute, 0},
		"a day before the last one ended, it says": {-day, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := &clocks{T: t, now: day0}, &process{}
			c.look(p, true)
			c.now = c.now.Add(tt.gap)
			if p = new(process); tt.alarms == 0 {
				c.look(p, true)
			} else {
				c.waits(p)
			}
			c.alarms(tt.alarms)
		})
	}
}

func TestAnAlarmOutlivesTheProcessThatRaisedIt(t *testing.T) {
	c, p := &clocks{T: t, now: day0}, &process{}
	c.look(p, true)
	c.now = c.now.Add(year)
	c.look(p, false)
	c.pass(9 * time.Minute)
	c.waits(&process{})
	c.alarms(1)
}
