package policies

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// pointers lists the fields a refusal names.
func pointers(t *testing.T, err error) (list []string) {
	t.Helper()
	if ruleOf(t, err) == "" {
		return nil
	}
	for _, f := range fault.As(err).Fields {
		if f.Detail == "" {
			t.Errorf("%s without a sentence", f.Pointer)
		}
		list = append(list, f.Pointer)
	}
	return list
}

func TestProfileValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Profile)
		bad    []string
	}{
		"the default is valid":          {func(*Profile) {}, nil},
		"every key type":                {func(p *Profile) { p.Keys = keyTypes[:] }, nil},
		"a day, not backdated":          {func(p *Profile) { p.Lifetime, p.Backdate = 24*time.Hour, 0 }, nil},
		"a name with every character":   {func(p *Profile) { p.Name = "Line-3_b.v2" }, nil},
		"no name":                       {func(p *Profile) { p.Name = "" }, []string{"/name"}},
		"a name that is a path":         {func(p *Profile) { p.Name = ".." }, []string{"/name"}},
		"a name with a slash":           {func(p *Profile) { p.Name = "a/b" }, []string{"/name"}},
		"a name too long":               {func(p *Profile) { p.Name = strings.Repeat("a", 65) }, []string{"/name"}},
		"no lifetime":                   {func(p *Profile) { p.Lifetime, p.Backdate = 0, 0 }, []string{"/lifetime"}},
		"a lifetime of half a second":   {func(p *Profile) { p.Lifetime += 500 * time.Millisecond }, []string{"/lifetime"}},
		"a lifetime of a century":       {func(p *Profile) { p.Lifetime = 100 * 366 * 24 * time.Hour }, []string{"/lifetime"}},
		"backdated by more than P7":     {func(p *Profile) { p.Backdate = time.Hour + 1 }, []string{"/backdate"}},
		"dated ahead":                   {func(p *Profile) { p.Backdate = -1 }, []string{"/backdate"}},
		"born half spent":               {func(p *Profile) { p.Lifetime = 9 * time.Minute }, []string{"/backdate"}},
		"no keys":                       {func(p *Profile) { p.Keys = nil }, []string{"/keys"}},
		"an unknown key, and one twice": {func(p *Profile) { p.Keys = []KeyType{"EC-P256", "RSA-1024", "EC-P256"} }, []string{"/keys/1", "/keys/2"}},
		"no usage":                      {func(p *Profile) { p.ExtKeyUsage = nil }, []string{"/extKeyUsage"}},
		"usages of authorities": {func(p *Profile) {
			p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageAny, x509.ExtKeyUsageOCSPSigning, x509.ExtKeyUsageClientAuth}
		}, []string{"/extKeyUsage/1", "/extKeyUsage/2", "/extKeyUsage/3"}},
		"a least lifetime, and a greatest": {func(p *Profile) { p.MinLifetime, p.MaxLifetime = time.Hour, 2*p.Lifetime }, nil},
		"bounds on the wrong side":         {func(p *Profile) { p.MinLifetime, p.MaxLifetime = 2*p.Lifetime, time.Hour }, []string{"/minLifetime", "/maxLifetime"}},
		"bounds that are no lifetime":      {func(p *Profile) { p.MinLifetime, p.MaxLifetime = time.Second, 200*366*24*time.Hour }, []string{"/minLifetime", "/maxLifetime"}},
		"names of every kind": {func(p *Profile) {
			p.Names = &Names{Permitted: NameRules{DNS: []string{"a"}, IP: []string{"10.0.0.0/8"}}, Excluded: NameRules{Principal: []string{"*"}}}
		}, nil},
		"empty names": {func(p *Profile) {
			p.Names = &Names{Permitted: NameRules{DNS: []string{"a", ""}}, Excluded: NameRules{URI: []string{strings.Repeat("a", 256)}}}
		}, []string{"/names/permitted/dns/1", "/names/excluded/uri/0"}},
		"too many names":            {func(p *Profile) { p.Names = &Names{Permitted: NameRules{Email: slices.Repeat([]string{"a@b"}, 257)}} }, []string{"/names/permitted/email"}},
		"an extension of a request": {func(p *Profile) { p.Extensions = []string{"1.3.6.1.4.1.311.20.2"} }, nil},
		"extensions that make a CA, are no identifier, or come twice": {func(p *Profile) {
			p.Extensions = []string{"2.5.29.19", "basicConstraints", "1.2.3", "1.2.3", "1.02.3", "1.3.6.1.5.5.7.48.1.5"}
		}, []string{"/extensions/0", "/extensions/1", "/extensions/3", "/extensions/4", "/extensions/5"}},
		"an unknown rule for keys": {func(p *Profile) { p.KeyReuse = "sometimes" }, []string{"/keyReuse"}},
		"keys of a TPM, and an extension for them": {func(p *Profile) {
			p.KeyAttestation, p.KeyAttestationExtension = KeyAttestationTPM, "1.3.6.1.4.1.99999.7"
		}, nil},
		"keys of something":                           {func(p *Profile) { p.KeyAttestation = "vault" }, []string{"/keyAttestation"}},
		"keys of a TPM, made here":                    {func(p *Profile) { p.KeyAttestation, p.ServerKeygen = KeyAttestationTPM, true }, []string{"/serverKeygen"}},
		"an extension for them that requests bring":   {func(p *Profile) { p.Extensions, p.KeyAttestationExtension = []string{"1.2.3"}, "1.2.3" }, []string{"/keyAttestationExtension"}},
		"an extension for them that is no identifier": {func(p *Profile) { p.KeyAttestationExtension = "hardware" }, []string{"/keyAttestationExtension"}},
		"an extension for them, spelled oddly":        {func(p *Profile) { p.KeyAttestationExtension = "1.02.3" }, []string{"/keyAttestationExtension"}},
		"an extension for them that has a meaning":    {func(p *Profile) { p.KeyAttestationExtension = "2.5.29.32" }, []string{"/keyAttestationExtension"}},
		"an extension for them that is reserved":      {func(p *Profile) { p.KeyAttestationExtension = "1.3.6.1.4.1.11129.2.4.2" }, []string{"/keyAttestationExtension"}},
		"a template too long":                         {func(p *Profile) { p.Template = strings.Repeat(" ", 16<<10+1) }, []string{"/template"}},
		"a bad renewal":                               {func(p *Profile) { p.Renewal = RotationPolicy{} }, []string{"/renewal/prepareAt"}},
		"everything wrong shows":                      {func(p *Profile) { *p = Profile{} }, []string{"/name", "/lifetime", "/keys", "/extKeyUsage", "/renewal/prepareAt"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := DefaultProfile()
			c.change(&p)
			if got := pointers(t, p.Validate()); !slices.Equal(got, c.bad) {
				t.Errorf("bad fields %q, want %q", got, c.bad)
			}
		})
	}
}

func TestValidity(t *testing.T) {
	const day = 24 * time.Hour
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 1, 10, 0, 0, 123_456_789, zone)
	start := time.Date(2026, 3, 1, 7, 55, 0, 0, time.UTC) // now, backdated, whole seconds
	long := [2]time.Time{now.Add(-365 * day), now.Add(3650 * day)}
	second := now.Truncate(time.Second)

	for name, c := range map[string]struct {
		lifetime time.Duration
		issuer   [2]time.Time
		want     [2]time.Time
		rule     string
	}{
		"backdated, of the profile's length":      {90 * day, long, [2]time.Time{start, start.Add(90 * day)}, ""},
		"a young issuer takes the backdating":     {90 * day, [2]time.Time{second, long[1]}, [2]time.Time{second, start.Add(90 * day)}, ""},
		"its start counts in whole seconds":       {90 * day, [2]time.Time{now.Add(-time.Millisecond), long[1]}, [2]time.Time{second.Add(time.Second), start.Add(90 * day)}, ""},
		"the issuer's end shortens it":            {90 * day, [2]time.Time{long[0], now.Add(30 * day)}, [2]time.Time{start, second.Add(30 * day)}, ""},
		"an issuer ending with it":                {90 * day, [2]time.Time{long[0], start.Add(90 * day)}, [2]time.Time{start, start.Add(90 * day)}, ""},
		"an issuer with two hours left":           {90 * day, [2]time.Time{long[0], now.Add(2 * time.Hour)}, [2]time.Time{start, second.Add(2 * time.Hour)}, ""},
		"an issuer with less than an hour left":   {90 * day, [2]time.Time{long[0], now.Add(59 * time.Minute)}, [2]time.Time{}, "issuer-expiring"},
		"an issuer that has ended":                {90 * day, [2]time.Time{long[0], now.Add(-time.Second)}, [2]time.Time{}, "issuer-expiring"},
		"an issuer of tomorrow":                   {90 * day, [2]time.Time{now.Add(day), long[1]}, [2]time.Time{}, "issuer-not-yet-valid"},
		"a short life fits a short rest":          {20 * time.Minute, [2]time.Time{long[0], now.Add(30 * time.Minute)}, [2]time.Time{start, start.Add(20 * time.Minute)}, ""},
		"but it is not cut shorter than it is":    {20 * time.Minute, [2]time.Time{long[0], now.Add(10 * time.Minute)}, [2]time.Time{}, "issuer-expiring"},
		"an issuer that ends in the year of 9999": {90 * day, [2]time.Time{long[0], time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}, [2]time.Time{start, start.Add(90 * day)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := DefaultProfile()
			p.Lifetime = c.lifetime
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			nb, na, err := p.Validity(now, c.issuer[0], c.issuer[1])
			if fault.RuleOf(err) != c.rule || err != nil && !fault.Is(err, fault.Unavailable) {
				t.Fatalf("error %v, want rule %q", err, c.rule)
			}
			if !nb.Equal(c.want[0]) || !na.Equal(c.want[1]) {
				t.Errorf("%v to %v, want %v to %v", nb, na, c.want[0].UTC(), c.want[1].UTC())
			}
			if err == nil && (nb.Location() != time.UTC || na.Location() != time.UTC || nb.Nanosecond()+na.Nanosecond() != 0) {
				t.Errorf("not whole seconds in UTC: %v to %v", nb, na)
			}
		})
	}
}
