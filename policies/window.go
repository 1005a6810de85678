package policies

import (
	"errors"
	"strconv"
	"time"

	"github.com/robfig/cron/v3"
)

// Window is a recurring span of time in which something may be done: it opens when Opens
// says, in the five fields of crontab(5) ("0 2 * * 6": Saturdays at two), on the clocks of
// Zone, and stays open for Length. Where clocks are put forward it does not open at a time
// that is left out; where they are put back it opens twice at one that comes twice. (Where
// they move by half an hour, on Lord Howe Island, an opening in those hours may be missed.)
type Window struct {
	Opens  string
	Length time.Duration // 1 minute to 7 days
	Zone   string        // IANA name; "" is UTC
}

const (
	minWindow  = time.Minute
	maxWindow  = 7 * 24 * time.Hour
	maxWindows = 32
)

// machineZone is how package time names the zone of the host, which is none for a plan: it
// would be another one on the next host.
const machineZone = "Local"

// Windows are the spans in which something may be done; none: always.
type Windows []Window

// check adds what is wrong with the windows to bad. A window that never opens is one of the
// things.
func (ws Windows) check(bad *findings, at string, now time.Time) {
	if len(ws) > maxWindows {
		bad.add(at, "a plan has at most 32 windows")
		return
	}
	for i, w := range ws {
		here := at + "/" + strconv.Itoa(i)
		if w.Length < minWindow || w.Length > maxWindow {
			bad.add(here+"/length", "a window is open for 1 minute to 7 days")
		}
		schedule, err := w.schedule()
		switch {
		case err != nil:
			bad.add(here+"/opens", "a window opens by the five fields of a crontab line, in a time zone of the IANA database")
		case schedule.Next(now).IsZero():
			bad.add(here+"/opens", "the window never opens")
		}
	}
}

// schedule reads when the window opens.
func (w Window) schedule() (cron.Schedule, error) {
	if _, err := time.LoadLocation(w.Zone); err != nil {
		return nil, err
	}
	if w.Zone == machineZone {
		return nil, errors.New("the zone of the host is no zone for a window")
	}
	zone := w.Zone
	if zone == "" {
		zone = "UTC"
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	return parser.Parse("CRON_TZ=" + zone + " " + w.Opens)
}

// Open says whether a window is open at now, and if none is when the next one opens; zero:
// never. The windows have been validated.
func (ws Windows) Open(now time.Time) (open bool, next time.Time) {
	if len(ws) == 0 {
		return true, time.Time{}
	}
	for _, w := range ws {
		schedule, err := w.schedule()
		if err != nil {
			continue
		}
		if began := schedule.Next(now.Add(-w.Length)); !began.IsZero() && !began.After(now) {
			return true, time.Time{}
		}
		if at := schedule.Next(now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return false, next.UTC()
}

// Bounds of a look ahead at windows.
const (
	lookAhead    = 366 * 24 * time.Hour
	lookOpenings = 1000
)

// Closed is the longest time in which no window is open, as far as a look ahead of a year or
// of a thousand openings shows; 0: some window always is. The windows have been validated.
func (ws Windows) Closed(now time.Time) (longest time.Duration) {
	if len(ws) == 0 {
		return 0
	}
	_, at := ws.Open(now)
	if at.IsZero() {
		at = now
	}
	longest = at.Sub(now)
	var schedules []cron.Schedule
	for _, w := range ws {
		if s, err := w.schedule(); err == nil {
			schedules = append(schedules, s)
		}
	}
	until := at
	for n := 0; n < lookOpenings && at.Sub(now) < lookAhead; n++ {
		var next time.Time
		var length time.Duration
		for i, s := range schedules {
			switch opens := s.Next(at.Add(-time.Nanosecond)); {
			case opens.IsZero():
			case next.IsZero() || opens.Before(next):
				next, length = opens, ws[i].Length
			case opens.Equal(next):
				length = max(length, ws[i].Length)
			}
		}
		if next.IsZero() {
			return longest
		}
		longest = max(longest, next.Sub(until))
		if ends := next.Add(length); ends.After(until) {
			until = ends
		}
		at = next.Add(time.Second)
	}
	return longest
}
