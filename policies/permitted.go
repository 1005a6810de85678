package policies

import "fmt"

// NameRules lists names of every kind. DNS names are whole ("gw.plant.example") or have
// one label more than what follows the asterisk ("*.plant.example"); an IP is an address
// or a prefix ("10.0.0.0/8"); an email address is whole or a domain ("@plant.example"); a
// URI is the host in it, written like a DNS name. Common names and principals (user
// principal names of Windows) are whole, without regard to case; "*" is any principal.
type NameRules struct {
	DNS, IP, Email, URI, CommonName, Principal []string
}

// Names says what a certificate's names may be, beside the device's own id, which it has
// always. A further name is in Permitted; Excluded goes before, and counts for the id too.
// Common names are about the id: with any permitted, it is one of them (INV-P2).
type Names struct {
	Permitted, Excluded NameRules
}

// Bounds of a list of names.
const (
	maxNameRules = 256
	maxNameRule  = 255
)

func (n *Names) check(bad *findings) {
	if n == nil {
		return
	}
	for _, side := range []struct {
		pointer string
		rules   NameRules
	}{{"/names/permitted", n.Permitted}, {"/names/excluded", n.Excluded}} {
		for _, k := range []struct {
			pointer string
			list    []string
		}{
			{"/dns", side.rules.DNS}, {"/ip", side.rules.IP}, {"/email", side.rules.Email},
			{"/uri", side.rules.URI}, {"/commonName", side.rules.CommonName}, {"/principal", side.rules.Principal},
		} {
			if len(k.list) > maxNameRules {
				bad.add(side.pointer+k.pointer, "a list of names has at most 256")
			}
			for i, name := range k.list {
				if name == "" || len(name) > maxNameRule {
					bad.add(fmt.Sprintf("%s%s/%d", side.pointer, k.pointer, i), "a name has 1 to 255 octets")
				}
			}
		}
	}
}
