package policies

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Bounds of a profile. INV-P7 gives maxBackdate; the lifetimes span a demonstration
// and the service life of industrial equipment.
const (
	minLifetime    = time.Minute
	maxLifetime    = 30 * 366 * 24 * time.Hour
	maxBackdate    = time.Hour
	maxProfileName = 64

	// minRemaining is the least life a certificate shortened by its issuer's end may
	// have left: below that, devices would renew in a storm until the issuer is gone.
	minRemaining = time.Hour

	maxTemplate = 16 << 10
)

// Profile says what certificates of one sort look like. Whatever a device asks for,
// its certificate is the profile's (INV-P2, P4, P7).
type Profile struct {
	Name string // 1 to 64 letters, digits and "-._", at least one letter or digit

	// Lifetime is the length of a certificate, from notBefore to notAfter: 1 minute
	// to 30 years, whole seconds. Backdate, at most 1 hour and half the lifetime, is
	// how far notBefore lies before the moment of issue, for devices whose clock is late.
	Lifetime, Backdate time.Duration

	Keys        []KeyType          // allowed types of device keys, at least one
	ExtKeyUsage []x509.ExtKeyUsage // at least one; never OCSPSigning or any (INV-P4)
	Renewal     RotationPolicy

	// Template is the text of an x509util template that says what the certificate holds
	// beyond the device's id; "" = nothing. What it makes is held to this profile.
	Template string
	// Names are the names that a certificate may have beside the device's id; nil = none.
	Names *Names
	// Extensions are the identifiers ("1.3.6.1.4.1.…") of extensions that a request may
	// bring into its certificate.
	Extensions []string
	// MinLifetime and MaxLifetime bound the validity that Template chooses; with neither
	// it chooses none (INV-P7). Without one of them the bound is 1 minute, or Lifetime.
	MinLifetime, MaxLifetime time.Duration
	KeyReuse                 KeyReuse
	KeyAttestation           KeyAttestation
	// KeyAttestationExtension is the identifier of an extension that certificates for attested
	// keys have; "" = none.
	KeyAttestationExtension string
	ServerKeygen            bool // the server may make a device's key for it (RFC 7030 §4.4; INV-P9)
	// EmbedSCT asks logs of certificates for their timestamps (RFC 6962) before a
	// certificate is issued, and embeds them.
	EmbedSCT bool
}

// DefaultProfile is the profile a new installation starts with, and the one to copy:
// client certificates of 90 days for NIST-curve and RSA keys.
func DefaultProfile() Profile {
	return Profile{
		Name:        "default",
		Lifetime:    90 * 24 * time.Hour,
		Backdate:    5 * time.Minute,
		Keys:        []KeyType{KeyECP256, KeyECP384, KeyRSA2048, KeyRSA3072, KeyRSA4096},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Renewal:     DefaultRotationPolicy(),
	}
}

// Validate reports everything that is wrong with the profile: one Malformed fault
// "profile-invalid" with a field for each bad value, by JSON pointer ("/lifetime",
// "/keys/1", "/renewal/prepareAt").
func (p Profile) Validate() error {
	var bad findings
	if !ValidName(p.Name) {
		bad.add("/name", "a profile name is 1 to 64 letters, digits, dots, dashes and underscores, with at least one letter or digit")
	}
	switch {
	case p.Lifetime < minLifetime || p.Lifetime > maxLifetime:
		bad.add("/lifetime", "a lifetime is between 1 minute and 30 years")
	case p.Lifetime%time.Second != 0:
		bad.add("/lifetime", "a lifetime is a whole number of seconds")
	}
	switch {
	case p.Backdate < 0 || p.Backdate > maxBackdate:
		bad.add("/backdate", "a certificate is backdated by at most 1 hour")
	case p.Backdate > p.Lifetime/2:
		bad.add("/backdate", "a certificate is backdated by at most half its lifetime")
	}
	if len(p.Keys) == 0 {
		bad.add("/keys", "a profile allows at least one key type")
	}
	for i, k := range p.Keys {
		switch {
		case !slices.Contains(keyTypes[:], k):
			bad.add(fmt.Sprintf("/keys/%d", i), "this key type is unknown")
		case slices.Contains(p.Keys[:i], k):
			bad.add(fmt.Sprintf("/keys/%d", i), "this key type is listed twice")
		}
	}
	if len(p.ExtKeyUsage) == 0 {
		bad.add("/extKeyUsage", "a profile has at least one extended key usage")
	}
	for i, u := range p.ExtKeyUsage {
		switch {
		case u == 0 || !slices.Contains(purposes[:], u):
			bad.add(fmt.Sprintf("/extKeyUsage/%d", i), "device certificates never have this extended key usage")
		case slices.Contains(p.ExtKeyUsage[:i], u):
			bad.add(fmt.Sprintf("/extKeyUsage/%d", i), "this extended key usage is listed twice")
		}
	}
	p.Renewal.check(&bad, "/renewal")
	p.checkChosen(&bad)
	p.Names.check(&bad)
	checkExtensionList(&bad, p.Extensions)
	if len(p.Template) > maxTemplate {
		bad.add("/template", "a template has at most 16384 octets")
	}
	if !p.KeyReuse.known() {
		bad.add("/keyReuse", "key reuse is allowed, ownOnly or never")
	}
	p.checkKeyAttestation(&bad)
	if p.Renewal.Retain && p.KeyReuse == KeyReuseNever {
		bad.add("/renewal/retain", "a request that is signed again is for the same key, which keyReuse never does not allow")
	}
	return bad.fault("profile-invalid")
}

// Validity is the validity period of a certificate issued at now (INV-P7): whole
// seconds in UTC, backdated, within the issuer's period. The issuer's end shortens
// it. It is refused as Unavailable when the issuer is not valid yet
// ("issuer-not-yet-valid"), or when less than 1 hour, or than the profile's lifetime
// where that is shorter, would remain ("issuer-expiring"). p has been validated.
func (p Profile) Validity(now, issuerNotBefore, issuerNotAfter time.Time) (notBefore, notAfter time.Time, err error) {
	if now.Before(issuerNotBefore) {
		return time.Time{}, time.Time{}, fault.New(fault.Unavailable, "issuer-not-yet-valid",
			"the issuing certificate is not valid yet")
	}
	notBefore = now.Add(-p.Backdate).UTC().Truncate(time.Second)
	full := notBefore.Add(p.Lifetime)
	if notBefore.Before(issuerNotBefore) {
		notBefore = ceilSecond(issuerNotBefore.UTC())
	}
	notAfter = full
	if end := issuerNotAfter.UTC().Truncate(time.Second); end.Before(full) {
		notAfter = end
		if left := end.Sub(now); left < minRemaining && left < full.Sub(now) {
			return time.Time{}, time.Time{}, fault.New(fault.Unavailable, "issuer-expiring",
				"the issuing certificate ends too soon for a certificate of this profile")
		}
	}
	return notBefore, notAfter, nil
}

func ceilSecond(t time.Time) time.Time {
	if s := t.Truncate(time.Second); !s.Equal(t) {
		return s.Add(time.Second)
	}
	return t
}

// ValidName says whether something that operators name may be called so: 1 to 64 letters,
// digits and "-._", at least one letter or digit.
func ValidName(name string) bool {
	if len(name) > maxProfileName {
		return false
	}
	word := false // "." and ".." would be other things in a path
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			word = true
		case c != '-' && c != '.' && c != '_':
			return false
		}
	}
	return word
}

// findings collects what is wrong with a value, field by field.
type findings []fault.Field

func (f *findings) add(pointer, detail string) {
	*f = append(*f, fault.Field{Pointer: pointer, Detail: detail})
}

// fault is the findings as one refusal, whose sentence is the first of them; nil
// when there are none.
func (f findings) fault(rule string) error {
	if len(f) == 0 {
		return nil
	}
	e := fault.New(fault.Malformed, rule, "%s", f[0].Detail)
	e.Fields = f
	return e
}
