package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
)

var oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// allowsHosts judges mail addresses and URIs as RFC 5280, section 4.2.1.10, has it: a
// constraint without a leading dot means that host alone and none below it, and
// a mail address in a subject counts where no alternative name holds one.
func (nc *nameConstraints) allowsHosts(c *x509.Certificate) bool {
	addresses := c.EmailAddresses
	if len(addresses) == 0 {
		addresses = subjectAddresses(c)
	}
	var hosts []string
	for _, uri := range c.URIs {
		hosts = append(hosts, uri.Hostname())
	}
	return allowed(addresses, texts(nc.Permitted, tagEmail), texts(nc.Excluded, tagEmail), addressWithin) &&
		allowed(hosts, texts(nc.Permitted, tagURI), texts(nc.Excluded, tagURI), hostWithin)
}

func subjectAddresses(c *x509.Certificate) (addresses []string) {
	for _, attribute := range c.Subject.Names {
		if text, ok := attribute.Value.(string); ok && attribute.Type.Equal(oidEmailAddress) {
			addresses = append(addresses, text)
		}
	}
	return addresses
}

func texts(subtrees []generalSubtree, tag int) (constraints []string) {
	for _, s := range subtrees {
		if s.Base.Tag == tag {
			constraints = append(constraints, string(s.Base.Bytes))
		}
	}
	return constraints
}

func allowed(names, permitted, excluded []string, within func(name, constraint string) bool) bool {
	for _, name := range names {
		matches := func(constraint string) bool { return within(name, constraint) }
		if len(permitted) > 0 && !slices.ContainsFunc(permitted, matches) || slices.ContainsFunc(excluded, matches) {
			return false
		}
	}
	return true
}

func addressWithin(address, constraint string) bool {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return false
	}
	if local, host, ok := strings.Cut(constraint, "@"); ok {
		return address[:at] == local && lowerASCII(address[at+1:]) == lowerASCII(host)
	}
	return hostWithin(address[at+1:], constraint)
}

func hostWithin(host, constraint string) bool {
	host, constraint = lowerASCII(host), lowerASCII(constraint)
	if strings.HasPrefix(constraint, ".") {
		return strings.HasSuffix(host, constraint)
	}
	return host == constraint
}
