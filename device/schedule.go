package device

import (
	"encoding/binary"
	"io"
	"time"
)

const (
	firstBackoff = 2 * time.Second
	maxBackoff   = time.Hour
	// minInterval keeps renewals apart when certificates get shorter and shorter, as
	// they do towards the end of an issuer's own life.
	minInterval = time.Minute
)

// renewAt draws the moment to renew: two thirds of the certificate's life, give or
// take a tenth of that, so that devices made in one batch do not come back as one.
func renewAt(notBefore, notAfter time.Time, random io.Reader) (time.Time, error) {
	u, err := unit(random)
	life := float64(notAfter.Sub(notBefore))
	return notBefore.Add(time.Duration(life * 2 / 3 * (0.9 + 0.2*u))), err
}

// backoff is the pause after failures in a row (0 = the first): doubling from two
// seconds to an hour, half of it random, and never before the server's Retry-After,
// which gets up to a tenth on top.
func backoff(failures int, retryAfter time.Duration, random io.Reader) (time.Duration, error) {
	u, err := unit(random)
	d := maxBackoff
	if failures < 11 { // 2 s << 11 exceeds the hour
		d = min(firstBackoff<<failures, maxBackoff)
	}
	d = d/2 + time.Duration(u*float64(d/2))
	return max(d, retryAfter+time.Duration(u*float64(retryAfter/10))), err
}

// unit draws evenly from [0, 1).
func unit(random io.Reader) (float64, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return 0, err
	}
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53), nil
}
