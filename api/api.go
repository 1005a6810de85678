// Package api mounts the doors on listeners and gives the listeners their limits.
//
// Device doors (DPS, EST) share a TLS listener; what is published stands on a plain
// one. It is called by cmd; the admin door is mounted there beside these.
package api

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"strings"

	"github.com/passmuster/muster/api/dps"
	"github.com/passmuster/muster/api/est"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/api/pki"
)

// Tenant is one ID scope: who decides there, and who signs.
type Tenant = wire.Tenant

// Settings are what every door is given.
type Settings = wire.Settings

// Observation is one answered request, for metrics.
type Observation = wire.Observation

// Devices serves DPS and EST for the tenants. Malformed, rule "id-scope", when an id
// scope is not fit for a path.
func Devices(s Settings, tenants ...Tenant) (http.Handler, error) {
	served, err := wire.NewTenants(tenants...)
	if err != nil {
		return nil, err
	}
	return fork{est: est.New(served, s), dps: dps.New(served, s)}, nil
}

// PKI serves certificates and CRLs of the tenants' issuers, for plain HTTP.
func PKI(s Settings, tenants ...Tenant) (http.Handler, error) {
	served, err := wire.NewTenants(tenants...)
	if err != nil {
		return nil, err
	}
	return pki.New(served, s), nil
}

// NewServer makes a server for one of these handlers, with limits on headers and on
// time (INV-R1); bodies are limited by their doors. A device's connection remembers what it has proved.
func NewServer(h http.Handler, log *slog.Logger) *http.Server { return wire.NewServer(h, log) }

// DeviceTLS is the TLS configuration of a listener for devices.
func DeviceTLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return wire.DeviceTLS(certificate)
}

// fork sends a request to the door that its path begins with. DPS has all the rest:
// its first segment is an id scope.
type fork struct{ est, dps http.Handler }

func (f fork) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n := len(est.Prefix); len(r.URL.Path) >= n && strings.EqualFold(r.URL.Path[:n], est.Prefix) {
		f.est.ServeHTTP(w, r)
		return
	}
	f.dps.ServeHTTP(w, r)
}
