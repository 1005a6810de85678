package device

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"testing/iotest"
	"time"
)

func draws(b byte) *bytes.Reader { return bytes.NewReader(bytes.Repeat([]byte{b}, 8)) }

func TestRenewAtIsTwoThirdsOfLifeGiveOrTakeATenth(t *testing.T) {
	from := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	to := from.Add(90 * time.Hour)
	for _, tc := range []struct {
		draw byte
		want time.Duration
	}{{0x00, 54 * time.Hour}, {0x80, 60*time.Hour + time.Minute + 25*time.Second}, {0xff, 66 * time.Hour}} {
		at, err := renewAt(from, to, draws(tc.draw))
		if d := at.Sub(from) - tc.want; err != nil || d.Abs() > time.Minute {
			t.Errorf("draw %x: after %s, want %s, %v", tc.draw, at.Sub(from), tc.want, err)
		}
	}
	if _, err := renewAt(from, to, iotest.ErrReader(errors.New("no entropy"))); err == nil {
		t.Error("went on without randomness")
	}
}

func TestBackoffDoublesToAnHourAndHonoursRetryAfter(t *testing.T) {
	for _, tc := range []struct {
		name       string
		failures   int
		retryAfter time.Duration
		draw       byte
		want       time.Duration
	}{
		{"the first is one to two seconds", 0, 0, 0x00, time.Second},
		{"the first is one to two seconds", 0, 0, 0xff, 2 * time.Second},
		{"the fifth is at most 32 seconds", 4, 0, 0xff, 32 * time.Second},
		{"the eleventh is below the hour", 10, 0, 0xff, 2048 * time.Second},
		{"the twelfth is the hour", 11, 0, 0xff, time.Hour},
		{"the millionth is the hour", 1_000_000, 0, 0xff, time.Hour},
		{"Retry-After wins over a shorter pause", 0, 2 * time.Hour, 0x00, 2 * time.Hour},
		{"and gets a tenth on top", 0, 100 * time.Second, 0xff, 110 * time.Second},
		{"a shorter Retry-After does not cut the pause", 11, time.Second, 0x00, 30 * time.Minute},
	} {
		got, err := backoff(tc.failures, tc.retryAfter, draws(tc.draw))
		if d := got - tc.want; err != nil || d.Abs() > tc.want/100 {
			t.Errorf("%s: %s, want %s, %v", tc.name, got, tc.want, err)
		}
	}
	for range 1000 {
		if u, err := unit(rand.Reader); err != nil || u < 0 || u >= 1 {
			t.Fatalf("drew %v, %v", u, err)
		}
	}
}
