package admin

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// isoDuration is ISO 8601 §5.5.2.2 without years and months, which have no length of
// their own, and with a fraction in the seconds alone.
var isoDuration = regexp.MustCompile(`^P(?:(\d+)W|(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?)$`)

// parseDuration reads an ISO 8601 duration such as P90D, PT24H or P1DT12H exactly.
// A bad one, or one of more than 292 years, is Malformed ("duration").
func parseDuration(s, pointer string) (time.Duration, error) {
	bad := fault.New(fault.Malformed, "duration", "a duration is written as in ISO 8601, in weeks, or days, hours, minutes and seconds: P90D, PT24H").At(pointer)
	m := isoDuration.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return 0, bad
	}
	var total time.Duration
	for i, unit := range [...]time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i+1], 10, 64)
		if err != nil || n > int64((math.MaxInt64-total)/unit) {
			return 0, bad
		}
		total += time.Duration(n) * unit
	}
	if fraction := m[6]; fraction != "" {
		n, err := strconv.ParseInt(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
		if err != nil || n > int64(math.MaxInt64-total) {
			return 0, bad
		}
		total += time.Duration(n)
	}
	return total, nil
}

// formatDuration writes a duration that is not negative so that parseDuration reads
// the same back.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "PT0S"
	}
	var b strings.Builder
	b.WriteByte('P')
	part := func(unit time.Duration, letter byte) {
		if n := d / unit; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10))
			b.WriteByte(letter)
			d -= n * unit
		}
	}
	part(24*time.Hour, 'D')
	if d == 0 {
		return b.String()
	}
	b.WriteByte('T')
	part(time.Hour, 'H')
	part(time.Minute, 'M')
	if d > 0 {
		b.WriteString(strconv.FormatInt(int64(d/time.Second), 10))
		if fraction := d % time.Second; fraction > 0 {
			digits := strconv.FormatInt(int64(time.Second+fraction), 10)[1:]
			b.WriteString("." + strings.TrimRight(digits, "0"))
		}
		b.WriteByte('S')
	}
	return b.String()
}
