package policies

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
)

func (p Profile) checkChosen(bad *findings) {
	for _, b := range []struct {
		pointer string
		bound   time.Duration
		wrong   bool
		why     string
	}{
		{"/minLifetime", p.MinLifetime, p.MinLifetime > p.Lifetime, "the least lifetime is at most the profile's own"},
		{"/maxLifetime", p.MaxLifetime, p.MaxLifetime < p.Lifetime, "the greatest lifetime is at least the profile's own"},
	} {
		switch {
		case b.bound == 0:
		case b.bound < minLifetime || b.bound > maxLifetime:
			bad.add(b.pointer, "a lifetime is between 1 minute and 30 years")
		case b.bound%time.Second != 0:
			bad.add(b.pointer, "a lifetime is a whole number of seconds")
		case b.wrong:
			bad.add(b.pointer, b.why)
		}
	}
}

// Chosen is the validity period that a template chose, held to the profile and to the
// issuer's period (INV-P7); a zero time leaves that end to the profile. The issuer's
// period shortens a certificate; nothing else is corrected. Refusals are those of
// Validity, and Malformed, "template-validity".
func (p Profile) Chosen(notBefore, notAfter time.Time, now, issuerNotBefore, issuerNotAfter time.Time) (from, to time.Time, err error) {
	usualFrom, usualTo, err := p.Validity(now, issuerNotBefore, issuerNotAfter)
	if err != nil || notBefore.IsZero() && notAfter.IsZero() {
		return usualFrom, usualTo, err
	}
	refused := func(why string) (time.Time, time.Time, error) {
		return time.Time{}, time.Time{}, fault.New(fault.Malformed, "template-validity", "%s", why)
	}
	if p.MinLifetime == 0 && p.MaxLifetime == 0 {
		return refused("the template chooses a validity, and the profile has neither minLifetime nor maxLifetime")
	}
	from, to = usualFrom, notAfter.UTC().Truncate(time.Second)
	if !notBefore.IsZero() {
		from = notBefore.UTC().Truncate(time.Second)
	}
	if notAfter.IsZero() {
		to = from.Add(p.Lifetime)
	}
	least, most := p.MinLifetime, p.MaxLifetime
	if least == 0 {
		least = minLifetime
	}
	if most == 0 {
		most = p.Lifetime
	}
	switch length := to.Sub(from); {
	case from.After(now) || from.Before(now.Add(-maxBackdate)):
		return refused("the template's notBefore is not within the hour before the issue")
	case !to.After(now) || length < least || length > most:
		return refused("the template chooses a validity outside the profile's bounds")
	}
	if from.Before(issuerNotBefore) {
		from = ceilSecond(issuerNotBefore.UTC())
	}
	if end := issuerNotAfter.UTC().Truncate(time.Second); to.After(end) {
		to = end
	}
	return from, to, nil
}
