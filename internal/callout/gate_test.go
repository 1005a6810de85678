package callout

import (
	"net/netip"
	"testing"
)

func TestAddresses(t *testing.T) {
	closed, open := gate{}, gate{prefixes("10.0.0.0/8", "169.254.0.0/16", "::/0", "0.0.0.0/0")}
	for address, want := range map[string]struct{ closed, open bool }{
		"93.184.215.14": {true, true}, "2606:2800:21f::1": {true, true},
		"10.1.2.3": {false, true}, "::ffff:10.1.2.3": {false, true}, "192.168.1.1": {false, true}, "172.31.0.1": {false, true}, "172.32.0.1": {true, true},
		"100.100.100.201": {false, true}, "100.100.100.200": {false, false}, "fd00:ec2::253": {false, true}, "fd00:ec2::254": {false, false}, "168.63.129.16": {false, false}, "64:ff9b::a00:1": {false, true}, "127.0.0.1": {false, true}, "::1": {false, true},
		"169.254.169.254": {false, false}, "::ffff:169.254.169.254": {false, false}, "fe80::1%eth0": {false, false}, "0.0.0.0": {false, false}, "::": {false, false},
		"224.0.0.1": {false, false}, "255.255.255.255": {false, false}, "ff02::1": {false, false},
	} {
		ip := netip.MustParseAddr(address)
		if got := closed.admits(ip); got != want.closed {
			t.Errorf("%s: called %v, want %v", address, got, want.closed)
		}
		if got := open.admits(ip); got != want.open {
			t.Errorf("%s, its network named: called %v, want %v", address, got, want.open)
		}
	}
	for _, address := range []string{"", "nonsense", "example.net:443"} {
		if closed.control("tcp", address, nil) == nil {
			t.Errorf("%q is called", address)
		}
	}
}
