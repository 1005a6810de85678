package ca

import (
	"crypto/x509"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/smallstep/certificates/policy"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// altNames are the subject alternative names of a certificate, by kind.
type altNames struct {
	dns, emails []string
	ips         []net.IP
	uris        []*url.URL
	principals  []string // user principal names of Windows
}

// namePolicy judges the names of certificates by a profile's rules. DNS names, addresses,
// email addresses and URIs are smallstep's engine's to match; its common names do not
// refuse by exclusion alone, and principals are of SSH there, so both are matched here,
// in its way.
type namePolicy struct {
	rules    policies.Names
	all      *policy.NamePolicyEngine
	excluded *policy.NamePolicyEngine
}

// newNamePolicy compiles the rules of a profile; nil rules permit the device's id alone.
// What cannot be read is Malformed, "profile-invalid", at its list.
func newNamePolicy(rules *policies.Names) (*namePolicy, error) {
	n := new(namePolicy)
	if rules != nil {
		n.rules = *rules
	}
	permitted, excluded := n.rules.Permitted, n.rules.Excluded
	compile := func(pointer string, list []string, option func(...string) policy.NamePolicyOption) (policy.NamePolicyOption, error) {
		o := option(list...)
		if _, err := policy.New(o); err != nil {
			return nil, fault.New(fault.Malformed, "profile-invalid", "a rule for names cannot be read: %s", err).At(pointer)
		}
		return o, nil
	}
	var all, out []policy.NamePolicyOption
	for _, k := range []struct {
		pointer string
		list    []string
		option  func(...string) policy.NamePolicyOption
		out     bool
	}{
		{"/names/permitted/dns", permitted.DNS, policy.WithPermittedDNSDomains, false},
		{"/names/permitted/ip", permitted.IP, policy.WithPermittedIPsOrCIDRs, false},
		{"/names/permitted/email", permitted.Email, policy.WithPermittedEmailAddresses, false},
		{"/names/permitted/uri", permitted.URI, policy.WithPermittedURIDomains, false},
		{"/names/excluded/dns", excluded.DNS, policy.WithExcludedDNSDomains, true},
		{"/names/excluded/ip", excluded.IP, policy.WithExcludedIPsOrCIDRs, true},
		{"/names/excluded/email", excluded.Email, policy.WithExcludedEmailAddresses, true},
		{"/names/excluded/uri", excluded.URI, policy.WithExcludedURIDomains, true},
	} {
		o, err := compile(k.pointer, k.list, k.option)
		if err != nil {
			return nil, err
		}
		if all = append(all, o); k.out {
			out = append(out, o)
		}
	}
	var err error
	if n.all, err = policy.New(all...); err != nil {
		return nil, err
	}
	n.excluded, err = policy.New(out...)
	return n, err
}

// check holds the names of a certificate to the policy. The device's own id is permitted
// unless it is excluded; every other name is permitted by a rule of its kind (INV-P2).
// Refusals are Malformed, "name-not-permitted" or "name-malformed".
func (n *namePolicy) check(id verify.RegistrationID, names altNames) error {
	own := id.String()
	permitted := n.rules.Permitted
	if len(permitted.CommonName) > 0 && !slices.ContainsFunc(permitted.CommonName, id.Matches) || slices.ContainsFunc(n.rules.Excluded.CommonName, id.Matches) {
		return notPermitted("common name", own)
	}
	for _, name := range names.dns {
		engine := n.all
		switch {
		case !isDNSName(name):
			return badName("DNS name", name)
		case id.Matches(name):
			if engine = n.excluded; !isHostName(name) {
				return badName("DNS name", name)
			}
		case len(permitted.DNS) == 0:
			return notPermitted("DNS name", name)
		}
		if engine.IsDNSAllowed(name) != nil {
			return notPermitted("DNS name", name)
		}
	}
	for _, ip := range names.ips {
		if len(permitted.IP) == 0 || n.all.IsIPAllowed(ip) != nil {
			return notPermitted("IP address", ip.String())
		}
	}
	for _, email := range names.emails {
		// The engine reads domains with less care than those who match them later.
		if _, domain, ok := strings.Cut(email, "@"); !ok || !isDNSName(domain) || !isASCII(email) || quotes(email) {
			return badName("email address", email)
		}
		if len(permitted.Email) == 0 || n.all.IsX509CertificateAllowed(&x509.Certificate{EmailAddresses: []string{email}}) != nil {
			return notPermitted("email address", email)
		}
	}
	for _, uri := range names.uris {
		if !isDNSName(uri.Hostname()) || uri.User != nil || quotes(uri.String()) {
			return badName("URI", uri.String())
		}
		if len(permitted.URI) == 0 || n.all.IsX509CertificateAllowed(&x509.Certificate{URIs: []*url.URL{uri}}) != nil {
			return notPermitted("URI", uri.String())
		}
	}
	for _, principal := range names.principals {
		is := func(rule string) bool { return rule == "*" || strings.EqualFold(rule, principal) }
		if principal == "" || !isASCII(principal) {
			return badName("principal", principal)
		}
		if !slices.ContainsFunc(permitted.Principal, is) || slices.ContainsFunc(n.rules.Excluded.Principal, is) {
			return notPermitted("principal", principal)
		}
	}
	return nil
}

func notPermitted(kind, name string) error {
	return fault.New(fault.Malformed, "name-not-permitted", "the profile does not permit the %s %q", kind, name)
}

func badName(kind, name string) error {
	return fault.New(fault.Malformed, "name-malformed", "%q is no %s that a device may have", name, kind)
}

// quotes says that a name has what JSON quotes by: a template may put names in as they are.
func quotes(s string) bool { return strings.ContainsAny(s, "\"\\") }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// isDNSName reports whether a name is labels of letters, digits and dashes (RFC 1034 §3.5)
// and no address: what the engine is given, so that it and all readers see one name.
func isDNSName(name string) bool {
	if name == "" || len(name) > 253 || net.ParseIP(name) != nil {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
			default:
				return false
			}
		}
	}
	return true
}

// Tags of a GeneralName (RFC 5280 §4.2.1.6), and the name form of a user principal name
// (1.3.6.1.4.1.311.20.2.3).
var (
	tagOtherName = cbasn1.Tag(0).Constructed().ContextSpecific()
	tagEmail     = cbasn1.Tag(1).ContextSpecific()
	tagDNS       = cbasn1.Tag(2).ContextSpecific()
	tagURI       = cbasn1.Tag(6).ContextSpecific()
	tagIP        = cbasn1.Tag(7).ContextSpecific()

	oidPrincipal = string([]byte{0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03})
)

// readAltNames reads the value of a subjectAltName extension. A kind of name that no
// profile can permit, or one that cannot be read, is not ok.
func readAltNames(value []byte) (names altNames, ok bool) {
	input := cryptobyte.String(value)
	var list cryptobyte.String
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() || list.Empty() {
		return names, false
	}
	for !list.Empty() {
		var one cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1(&one, &tag) || !names.add(tag, one) {
			return names, false
		}
	}
	return names, true
}

func (n *altNames) add(tag cbasn1.Tag, value cryptobyte.String) bool {
	switch tag {
	case tagDNS:
		n.dns = append(n.dns, string(value))
	case tagEmail:
		n.emails = append(n.emails, string(value))
	case tagIP:
		n.ips = append(n.ips, net.IP(value))
		return len(value) == net.IPv4len || len(value) == net.IPv6len
	case tagURI:
		uri, err := url.Parse(string(value))
		if err != nil {
			return false
		}
		n.uris = append(n.uris, uri)
	case tagOtherName:
		var oid, outer, text cryptobyte.String
		if !value.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) || string(oid) != oidPrincipal ||
			!value.ReadASN1(&outer, cbasn1.Tag(0).Constructed().ContextSpecific()) || !value.Empty() ||
			!outer.ReadASN1(&text, cbasn1.UTF8String) || !outer.Empty() {
			return false
		}
		n.principals = append(n.principals, string(text))
	default:
		return false
	}
	return true
}
