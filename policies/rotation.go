package policies

import "time"

// Bounds of a rotation policy. A share below 0.1 would have every device renew all
// the time; one above 0.99 leaves no time to.
const (
	minPrepareAt = 0.1
	maxPrepareAt = 0.99
	maxOverlap   = 366 * 24 * time.Hour
	maxGrace     = 366 * 24 * time.Hour
)

// RotationPolicy says when the successor of a credential is prepared, and for how
// long the old one still stands once the new one has been seen in use.
type RotationPolicy struct {
	PrepareAt float64       // share of the life that has passed, 0.1 to 0.99
	Overlap   time.Duration // 0 to 366 days; longer than the life is harmless, the old one expires
	// Grace is how long past its end a certificate may still be renewed, over EST and by
	// itself alone: 0 (never) to 366 days.
	Grace time.Duration
	// Retain keeps the device's last request and signs it again when a successor is due:
	// for devices that take a certificate from an update but cannot ask for one.
	Retain bool
}

// DefaultRotationPolicy prepares at two thirds of the life, with an overlap of 24 hours.
func DefaultRotationPolicy() RotationPolicy {
	return RotationPolicy{PrepareAt: 2.0 / 3, Overlap: 24 * time.Hour}
}

// Validate reports everything that is wrong with the policy: one Malformed fault
// "rotation-invalid" with a field for each bad value.
func (p RotationPolicy) Validate() error {
	var bad findings
	p.check(&bad, "")
	return bad.fault("rotation-invalid")
}

func (p RotationPolicy) check(bad *findings, at string) {
	if !(p.PrepareAt >= minPrepareAt && p.PrepareAt <= maxPrepareAt) { // so that NaN fails
		bad.add(at+"/prepareAt", "a successor is prepared after a share between 0.1 and 0.99 of the life")
	}
	if p.Overlap < 0 || p.Overlap > maxOverlap {
		bad.add(at+"/overlap", "an overlap is between 0 and 366 days")
	}
	if p.Grace < 0 || p.Grace > maxGrace {
		bad.add(at+"/grace", "a grace after the end is between 0 and 366 days")
	}
}

// PrepareAfter is the moment from which a credential of this validity needs a
// successor, in whole seconds UTC. p has been validated.
func (p RotationPolicy) PrepareAfter(notBefore, notAfter time.Time) time.Time {
	// In seconds, because a certificate without a real end (the year 9999 of
	// RFC 5280 §4.1.2.5) is longer than a Duration.
	start := notBefore.Unix()
	life := max(0, notAfter.Unix()-start)
	return time.Unix(start+int64(float64(life)*p.PrepareAt), 0).UTC()
}

// RemindAfter is the moment from which a credential of this validity is late: a third of
// what is left after PrepareAfter has passed too. Devices that renew by themselves have
// done so by then.
func (p RotationPolicy) RemindAfter(notBefore, notAfter time.Time) time.Time {
	prepare := p.PrepareAfter(notBefore, notAfter)
	return time.Unix(prepare.Unix()+max(0, notAfter.Unix()-prepare.Unix())/3, 0).UTC()
}
