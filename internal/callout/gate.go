package callout

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// ErrAddress says that an address is not called.
var ErrAddress = errors.New("address not allowed")

// gate decides which addresses are called, at the last moment before a connection is
// made: a name that resolves to something else the second time gains nothing.
type gate struct{ networks []netip.Prefix }

// never are called whatever the options say: link-local, with the metadata services of
// clouds in it, multicast, what stands for no host at all, and the metadata services that
// are elsewhere (Alibaba's, Azure's, AWS's over IPv6).
var never = prefixes(
	"0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8",
	"100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128",
)

// private are called only where the options name them (RFC 6890 and its successors). The
// last four hold IPv4 addresses, which they would smuggle past the others.
var private = prefixes(
	"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "::1/128", "fc00::/7", "fec0::/10", "100::/64", "2001:db8::/32",
	"64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// control is a net.Dialer's Control: it sees the address after resolution.
func (g gate) control(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !g.admits(ip) {
		return fmt.Errorf("%w: %s", ErrAddress, host)
	}
	return nil
}

func (g gate) admits(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	in := func(p netip.Prefix) bool { return p.Contains(ip) }
	return !slices.ContainsFunc(never, in) && (slices.ContainsFunc(g.networks, in) || !slices.ContainsFunc(private, in))
}
