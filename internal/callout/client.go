// Package callout calls addresses that operators name: an entry's webhook, which says what hub
// a device shall have; subscribers, who are told of what is written into the ledger; and hubs
// that live elsewhere.
//
// Operators choose the addresses, and the server is the one who calls: so a call never leaves
// for an address that operators were not meant to reach through it (INV-N3). Redirects are not
// followed, proxies of the environment not used, and no error holds an address, in whose query
// there may be a key (INV-K4).
//
// The doors' and hubs' drivers use it: api/webhook, hub/webhook, hub/azure, hub/mosquitto.
package callout

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Options say which addresses may be called.
type Options struct {
	// Networks are private networks and, in development, loopback, that may be called
	// beside the public internet. Link-local addresses never are: cloud metadata is there.
	Networks []netip.Prefix
	// Roots vouch for whom is called; nil: the system's.
	Roots *x509.CertPool
}

// Bounds of a call. Somebody who hangs holds so many connections and no more: other
// callers wait their turn for it within their own time.
const (
	maxHeaders = 16 << 10
	maxPerHost = 64
	keepIdle   = 30 * time.Second
)

// Dialer connects where the options let it.
func (o Options) Dialer() *net.Dialer {
	return &net.Dialer{Control: gate{o.Networks}.control}
}

// Client calls where the options let it, and follows nobody elsewhere.
func (o Options) Client() *http.Client {
	dialer := o.Dialer()
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaders,
			MaxConnsPerHost:        maxPerHost,
			IdleConnTimeout:        keepIdle,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Cause is why a call failed, without its address.
func Cause(err error) error {
	if call, is := errors.AsType[*url.Error](err); is {
		return call.Err
	}
	return err
}
