package policies

import (
	"fmt"
	"testing"
	"time"
)

func at(t testing.TB, zone, clock string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04:05", clock, loc)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWindowsOpen(t *testing.T) {
	const berlin = "Europe/Berlin"
	saturdays := Windows{{Opens: "0 2 * * 6", Length: 2 * time.Hour, Zone: berlin}}
	nightly := Windows{{Opens: "30 2 * * *", Length: time.Hour, Zone: berlin}}
	for name, c := range map[string]struct {
		windows Windows
		now     time.Time
		open    bool
		next    time.Time // while it is closed
	}{
		"without windows it is always open":              {nil, winterDay, true, time.Time{}},
		"it opens to the second":                         {saturdays, at(t, berlin, "2026-02-07 02:00:00"), true, time.Time{}},
		"a moment before it is closed":                   {saturdays, at(t, berlin, "2026-02-07 02:00:00").Add(-time.Nanosecond), false, at(t, berlin, "2026-02-07 02:00:00")},
		"in its last moment it is open":                  {saturdays, at(t, berlin, "2026-02-07 04:00:00").Add(-time.Nanosecond), true, time.Time{}},
		"it closes to the second":                        {saturdays, at(t, berlin, "2026-02-07 04:00:00"), false, at(t, berlin, "2026-02-14 02:00:00")},
		"of two the first to open":                       {Windows{{Opens: "0 5 * * *", Length: time.Hour}, {Opens: "0 3 * * *", Length: time.Hour}}, at(t, "UTC", "2026-02-01 01:00:00"), false, at(t, "UTC", "2026-02-01 03:00:00")},
		"either of two is enough":                        {Windows{{Opens: "0 5 * * *", Length: time.Hour}, {Opens: "0 1 * * *", Length: time.Hour}}, at(t, "UTC", "2026-02-01 01:30:00"), true, time.Time{}},
		"a window across midnight, on the other day":     {Windows{{Opens: "0 22 * * 1-5", Length: 8 * time.Hour}}, at(t, "UTC", "2026-02-07 05:59:00"), true, time.Time{}},
		"a week long, it hardly closes":                  {Windows{{Opens: "0 0 * * 1", Length: 7 * 24 * time.Hour}}, winterDay, true, time.Time{}},
		"in summer it opens by the clocks of its zone":   {saturdays, at(t, "UTC", "2026-07-04 00:00:00"), true, time.Time{}},
		"a time that is left out in spring is left out":  {nightly, at(t, berlin, "2026-03-29 03:15:00"), false, at(t, berlin, "2026-03-30 02:30:00")},
		"an autumn night: the first half past two":       {nightly, at(t, "UTC", "2026-10-25 00:45:00"), true, time.Time{}},
		"an autumn night: the second half past two":      {nightly, at(t, "UTC", "2026-10-25 01:45:00"), true, time.Time{}},
		"across the hour that is left out it stays open": {Windows{{Opens: "30 1 * * *", Length: time.Hour, Zone: berlin}}, at(t, berlin, "2026-03-29 03:15:00"), true, time.Time{}},
		"a zone whose days begin at one on one day":      {Windows{{Opens: "0 0 * * *", Length: time.Hour, Zone: "Africa/Cairo"}}, at(t, "Africa/Cairo", "2026-04-23 12:00:00"), false, at(t, "Africa/Cairo", "2026-04-25 00:00:00")},
		"what never opens, stored by an older Muster":    {Windows{{Opens: "0 0 30 2 *", Length: time.Hour}}, winterDay, false, time.Time{}},
		"what cannot be read any more does not open":     {Windows{{Opens: "0 2 * * 6", Length: time.Hour, Zone: "Mars/Olympus"}}, winterDay, false, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			open, next := c.windows.Open(c.now)
			if open != c.open || !next.Equal(c.next) {
				t.Errorf("open %v, next %v; want %v, %v", open, next, c.open, c.next.UTC())
			}
			if next.Location() != time.UTC {
				t.Errorf("the next opening is in %v", next.Location())
			}
		})
	}
}

func TestHowLongWindowsStayClosed(t *testing.T) {
	for name, c := range map[string]struct {
		windows Windows
		want    time.Duration
	}{
		"without windows, never":               {nil, 0},
		"every night for two hours":            {Windows{{Opens: "0 2 * * *", Length: 2 * time.Hour}}, 22 * time.Hour},
		"two that meet":                        {Windows{{Opens: "0 0 * * *", Length: 12 * time.Hour}, {Opens: "0 12 * * *", Length: 12 * time.Hour}}, 0},
		"the longer of two that open together": {Windows{{Opens: "0 0 * * *", Length: time.Hour}, {Opens: "0 0 * * *", Length: 3 * time.Hour}}, 21 * time.Hour},
		"one in another":                       {Windows{{Opens: "0 0 * * *", Length: 12 * time.Hour}, {Opens: "0 3 * * *", Length: time.Hour}}, 12 * time.Hour},
		"monthly: the longest month":           {Windows{{Opens: "0 0 1 * *", Length: time.Hour}}, 31*24*time.Hour - time.Hour},
		"each minute":                          {Windows{{Opens: "* * * * *", Length: time.Minute}}, 0},
		"on leap days":                         {Windows{{Opens: "0 12 29 2 *", Length: time.Hour}}, 758 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.windows.Closed(winterDay); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// FuzzWindowsOpen holds Open against a walk from minute to minute.
func FuzzWindowsOpen(f *testing.F) {
	for zone := range uint8(4) {
		f.Add(int8(30), int8(2), int8(-1), zone, uint16(60), int64(1774746000)) // the night of a change in spring
		f.Add(int8(0), int8(-1), int8(6), zone, uint16(30), int64(1792886400))  // and in autumn
		f.Add(int8(-1), int8(0), int8(0), zone, uint16(1440), int64(1769947201))
	}
	zones := []string{"", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu"}
	f.Fuzz(func(t *testing.T, minute, hour, weekday int8, zone uint8, length uint16, unix int64) {
		field := func(v int8, n int) (int, string) {
			if v < 0 {
				return -1, "*"
			}
			return int(v) % n, fmt.Sprint(int(v) % n)
		}
		m, minutes := field(minute, 60)
		h, hours := field(hour, 24)
		d, days := field(weekday, 7)
		w := Window{Opens: minutes + " " + hours + " * * " + days, Length: time.Duration(1+int(length)%1440) * time.Minute, Zone: zones[int(zone)%len(zones)]}
		first, span := at(t, "UTC", "2000-01-01 00:00:00").Unix(), int64(90*365*86400)
		now := time.Unix(first+(unix%span+span)%span, 0).UTC()
		loc, err := time.LoadLocation(w.Zone)
		if err != nil {
			t.Fatal(err)
		}
		opens := func(x time.Time) bool {
			l := x.In(loc)
			return (m < 0 || l.Minute() == m) && (h < 0 || l.Hour() == h) && (d < 0 || int(l.Weekday()) == d)
		}
		minuteOf := now.Truncate(time.Minute)
		var open bool
		for x := minuteOf; x.After(now.Add(-w.Length)); x = x.Add(-time.Minute) {
			open = open || opens(x)
		}
		var next time.Time
		for x := minuteOf.Add(time.Minute); !open && next.IsZero() && x.Before(now.Add(16*24*time.Hour)); x = x.Add(time.Minute) {
			if opens(x) {
				next = x
			}
		}
		if gotOpen, gotNext := (Windows{w}).Open(now); gotOpen != open || !gotNext.Equal(next) {
			t.Errorf("%+v at %v: open %v, next %v; want %v, %v", w, now, gotOpen, gotNext, open, next)
		}
	})
}

// FuzzWindowSchedule feeds operators' crontab fields to the parser: whatever it takes can be
// asked when it opens.
func FuzzWindowSchedule(f *testing.F) {
	for _, seed := range []string{"0 2 * * 6", "*/15 9-17 1,15 JAN-MAR MON", "0 0 29 2 *", "60 * * * *", "@hourly", "TZ=UTC * * * * *", "*/0 * * * *", "? ? ? ? ?", "1-0 * * * *", " ", "* * * * * *", "CRON_TZ= * * * *"} {
		f.Add(seed, "Europe/Berlin")
	}
	f.Add("0 2 * * *", "../../etc/passwd")
	f.Add("0 2 * * *", "Local")
	f.Fuzz(func(t *testing.T, opens, zone string) {
		plan := RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: opens, Length: time.Hour, Zone: zone}}}
		if plan.Validate(winterDay) != nil {
			return
		}
		if open, next := plan.Windows.Open(winterDay); !open && next.IsZero() {
			t.Errorf("%q in %q was taken and never opens", opens, zone)
		}
	})
}
