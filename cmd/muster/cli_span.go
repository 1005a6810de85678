package main

import (
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// span is a time as people write it: Go's durations, and whole days "30d".
type span time.Duration

// UnmarshalText reads a span for kong.
func (s *span) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a number of days, such as 30d", text)
		}
		*s = span(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time such as 30d or 12h", text)
	}
	*s = span(d)
	return nil
}

// threshold is from when on a certificate wants attention: a span before its end, or
// a part of its life being over.
type threshold struct {
	left    span
	percent float64 // 0 means left counts
}

// UnmarshalText reads "30d", "12h" or "66%" for kong.
func (t *threshold) UnmarshalText(text []byte) error {
	digits, ok := strings.CutSuffix(string(text), "%")
	if !ok {
		*t = threshold{}
		return t.left.UnmarshalText(text)
	}
	p, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(p > 0 && p <= 100) {
		return fmt.Errorf("%q is not a part of a life, such as 66%%", text)
	}
	*t = threshold{percent: p}
	return nil
}

// reached says whether cert wants attention at now.
func (t threshold) reached(cert *x509.Certificate, now time.Time) bool {
	if t.percent == 0 {
		return !now.Add(time.Duration(t.left)).Before(cert.NotAfter)
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	return float64(now.Sub(cert.NotBefore)) >= float64(life)*t.percent/100
}
