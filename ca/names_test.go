package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

func address(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestNamesBesideTheIdAreThoseTheProfilePermits(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	plant := policies.Names{
		Permitted: policies.NameRules{
			DNS: []string{"*.plant.example", "gw.example"}, IP: []string{"10.0.0.0/8", "2001:db8::1"},
			Email: []string{"@plant.example", "ops@example.net"}, URI: []string{"*.plant.example"},
		},
		Excluded: policies.NameRules{
			DNS: []string{"vault.plant.example"}, IP: []string{"10.1.0.0/16"}, Email: []string{"root@plant.example"}, URI: []string{"vault.plant.example"},
		},
	}
	dns := func(names ...string) x509.CertificateRequest { return x509.CertificateRequest{DNSNames: names} }
	email := func(names ...string) x509.CertificateRequest { return x509.CertificateRequest{EmailAddresses: names} }
	ip := func(s string) x509.CertificateRequest {
		return x509.CertificateRequest{IPAddresses: []net.IP{net.ParseIP(s)}}
	}
	uri := func(s string) x509.CertificateRequest {
		return x509.CertificateRequest{URIs: []*url.URL{address(t, s)}}
	}
	only := func(r policies.NameRules) *policies.Names { return &policies.Names{Permitted: r} }
	not := func(r policies.NameRules) *policies.Names { return &policies.Names{Excluded: r} }

	for name, c := range map[string]struct {
		names *policies.Names
		asked x509.CertificateRequest
		rule  string
	}{
		"no name at all":                             {&plant, dns(), ""},
		"the device's own id":                        {&plant, dns("Press-07"), ""},
		"a DNS name below a permitted domain":        {&plant, dns("a.plant.example"), ""},
		"a DNS name permitted as a whole":            {&plant, dns("gw.example"), ""},
		"a DNS name in capitals":                     {&plant, dns("A.Plant.Example"), ""},
		"several DNS names":                          {&plant, dns("a.plant.example", "b.plant.example", "a.plant.example"), ""},
		"a DNS name outside":                         {&plant, dns("evil.example"), "name-not-permitted"},
		"one DNS name of several outside":            {&plant, dns("a.plant.example", "evil.example"), "name-not-permitted"},
		"the domain itself, where one label is due":  {&plant, dns("plant.example"), "name-not-permitted"},
		"two labels, where one is due":               {&plant, dns("a.b.plant.example"), "name-not-permitted"},
		"an excluded DNS name":                       {&plant, dns("vault.plant.example"), "name-not-permitted"},
		"an excluded DNS name in capitals":           {&plant, dns("VAULT.plant.example"), "name-not-permitted"},
		"a wildcard":                                 {&plant, dns("*.plant.example"), "name-malformed"},
		"a bare asterisk":                            {&plant, dns("*"), "name-malformed"},
		"a name with a trailing dot":                 {&plant, dns("a.plant.example."), "name-malformed"},
		"a name with a space":                        {&plant, dns("a plant.example"), "name-malformed"},
		"an address as a DNS name":                   {&plant, dns("10.2.3.4"), "name-malformed"},
		"another device's id":                        {&plant, dns("press-08"), "name-not-permitted"},
		"another device's id, permitted":             {only(policies.NameRules{DNS: []string{"press-08"}}), dns("press-08"), ""},
		"an address in a permitted range":            {&plant, ip("10.2.3.4"), ""},
		"a permitted IPv6 address":                   {&plant, ip("2001:db8::1"), ""},
		"another IPv6 address":                       {&plant, ip("2001:db8::2"), "name-not-permitted"},
		"an address outside":                         {&plant, ip("192.0.2.1"), "name-not-permitted"},
		"an excluded address in a permitted range":   {&plant, ip("10.1.3.4"), "name-not-permitted"},
		"an email address with quotes":               {&plant, email("\"a\\\",\\\"b\"@plant.example"), "name-malformed"},
		"an email address of a permitted domain":     {&plant, email("a@plant.example"), ""},
		"a permitted email address":                  {&plant, email("ops@example.net"), ""},
		"another email address there":                {&plant, email("a@example.net"), "name-not-permitted"},
		"an excluded email address":                  {&plant, email("root@plant.example"), "name-not-permitted"},
		"an email address without a domain":          {&plant, email("a@"), "name-malformed"},
		"an email address at an asterisk":            {&plant, email("a@*"), "name-malformed"},
		"an email address without an at":             {&plant, email("plant.example"), "name-malformed"},
		"a URI with a permitted host":                {&plant, uri("https://a.plant.example/x"), ""},
		"a URI with a port":                          {&plant, uri("https://a.plant.example:8443/x"), ""},
		"a URI with another host":                    {&plant, uri("https://evil.example/x"), "name-not-permitted"},
		"a URI with an excluded host":                {&plant, uri("https://vault.plant.example/x"), "name-not-permitted"},
		"a URI that hides its host":                  {&plant, uri("https://a.plant.example@evil.example/"), "name-malformed"},
		"a URI without a host":                       {&plant, uri("urn:dev:ops:1"), "name-malformed"},
		"a URI with an address":                      {&plant, uri("https://10.2.3.4/"), "name-malformed"},
		"a kind without a rule, beside one with":     {only(policies.NameRules{DNS: []string{"*.plant.example"}}), ip("10.2.3.4"), "name-not-permitted"},
		"what is not excluded is not permitted yet":  {not(policies.NameRules{DNS: []string{"vault.plant.example"}}), dns("a.plant.example"), "name-not-permitted"},
		"an excluded address alone permits none":     {not(policies.NameRules{IP: []string{"10.0.0.0/8"}}), ip("192.0.2.1"), "name-not-permitted"},
		"an email address with only exclusions":      {not(policies.NameRules{Email: []string{"@x.example"}}), email("a@y.example"), "name-not-permitted"},
		"a URI with only exclusions":                 {not(policies.NameRules{URI: []string{"x.example"}}), uri("https://y.example/"), "name-not-permitted"},
		"the own id, excluded as a DNS name":         {not(policies.NameRules{DNS: []string{"press-07"}}), dns(), "name-not-permitted"},
		"the own id, excluded as a common name":      {not(policies.NameRules{CommonName: []string{"Press-07"}}), dns(), "name-not-permitted"},
		"the own id, not excluded as a common name":  {not(policies.NameRules{CommonName: []string{"press-08"}}), dns(), ""},
		"the own id, permitted as a common name":     {only(policies.NameRules{CommonName: []string{"press-07"}}), dns(), ""},
		"the own id, not among those permitted":      {only(policies.NameRules{CommonName: []string{"press-08", "press-09"}}), dns(), "name-not-permitted"},
		"the own id needs no rule for DNS names":     {only(policies.NameRules{DNS: []string{"*.plant.example"}}), dns("press-07", "a.plant.example"), ""},
		"permission and exclusion of the same thing": {&policies.Names{Permitted: policies.NameRules{DNS: []string{"a.example"}}, Excluded: policies.NameRules{DNS: []string{"a.example"}}}, dns("a.example"), "name-not-permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			p := policies.DefaultProfile()
			p.Names = c.names
			c.asked.Subject = pkix.Name{CommonName: "press-07"}
			u, err := w.Issue(t.Context(), identity(t, "press-07"), requestFor(t, &c.asked, key), p, verify.Thumbprint{}, w.now)
			if fault.RuleOf(err) != c.rule || c.rule != "" && fault.KindOf(err) != fault.Malformed {
				t.Fatalf("got %v (rule %q), want rule %q", err, fault.RuleOf(err), c.rule)
			}
			if c.rule != "" {
				return
			}
			issued, err := w.record(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			lintClean(t, issued.DER)
			leaf, _ := x509.ParseCertificate(issued.DER)
			for _, name := range c.asked.DNSNames {
				if leaf.VerifyHostname(name) != nil {
					t.Errorf("%s was asked for and is not in %v", name, leaf.DNSNames)
				}
			}
			if len(leaf.IPAddresses) != len(c.asked.IPAddresses) || len(leaf.EmailAddresses) != len(c.asked.EmailAddresses) || len(leaf.URIs) != len(c.asked.URIs) {
				t.Errorf("names %v %v %v, asked for %v %v %v", leaf.IPAddresses, leaf.EmailAddresses, leaf.URIs, c.asked.IPAddresses, c.asked.EmailAddresses, c.asked.URIs)
			}
		})
	}
}

func TestRulesForNamesAreReadWhenTheyAreSaved(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	for pointer, names := range map[string]policies.Names{
		"":                       {Permitted: policies.NameRules{DNS: []string{"*.a.example"}, IP: []string{"10.0.0.1"}, Principal: []string{"*"}}},
		"/names/permitted/dns":   {Permitted: policies.NameRules{DNS: []string{"a..example"}}},
		"/names/permitted/ip":    {Permitted: policies.NameRules{IP: []string{"10.0.0.0/33"}}},
		"/names/permitted/email": {Permitted: policies.NameRules{Email: []string{"a@b@c"}}},
		"/names/permitted/uri":   {Permitted: policies.NameRules{URI: []string{"https://a.example"}}},
		"/names/excluded/dns":    {Excluded: policies.NameRules{DNS: []string{"a.*.example"}}},
		"/names/excluded/ip":     {Excluded: policies.NameRules{IP: []string{"localhost"}}},
		"/names/excluded/email":  {Excluded: policies.NameRules{Email: []string{"*@a.example"}}},
		"/names/excluded/uri":    {Excluded: policies.NameRules{URI: []string{"10.0.0.1"}}},
	} {
		p := policies.DefaultProfile()
		p.Names = &names
		err := w.CheckProfile(p, w.now)
		if pointer == "" && err == nil {
			continue
		}
		if f := fault.As(err); f == nil || f.Rule != "profile-invalid" || f.Fields[0].Pointer != pointer {
			t.Errorf("%v, want profile-invalid at %q", err, pointer)
		}
	}
}
