// Package api mounts the doors on listeners and gives the listeners their limits.
//
// Doors of devices and of Azure's shape share a TLS listener, where the first segment of the
// path says which is meant; MQTT has a listener of its own too; what is published stands on
// a plain one. It is called by cmd; the admin door is mounted there beside these.
package api

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"strings"

	"github.com/passmuster/muster/api/certificates"
	"github.com/passmuster/muster/api/dps"
	"github.com/passmuster/muster/api/est"
	"github.com/passmuster/muster/api/hub"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/api/log"
	"github.com/passmuster/muster/api/mqtt"
	"github.com/passmuster/muster/api/pki"
	"github.com/passmuster/muster/api/service"
)

// Tenant is one ID scope: who decides there, and who signs.
type Tenant = wire.Tenant

// Settings are what every door is given.
type Settings = wire.Settings

// Observation is one answered request, for metrics.
type Observation = wire.Observation

// Options are what single doors are given. The zero value is the usual one.
type Options struct {
	// AllowUnproven lets a CA be uploaded as verified without a proof of possession.
	AllowUnproven bool
}

// Doors are what the TLS listeners speak. A door that is nil is not served.
type Doors struct {
	DPS, EST, Service, Certificates, Hub http.Handler
	MQTT                                 *mqtt.Server
}

// NewDoors makes the doors for the tenants. Malformed, rule "id-scope", when an id scope is
// not fit for a path.
func NewDoors(s Settings, o Options, tenants ...Tenant) (Doors, error) {
	served, err := wire.NewTenants(tenants...)
	if err != nil {
		return Doors{}, err
	}
	return Doors{
		DPS: dps.New(served, s), EST: est.New(served, s), Service: service.New(served, s),
		Hub:          hub.New(served, s),
		Certificates: certificates.New(served, s, certificates.Options{AllowUnproven: o.AllowUnproven}),
		MQTT:         mqtt.New(served, s, mqtt.Options{}),
	}, nil
}

// Shared is the doors on one listener. DPS has every path that is no other's: its first
// segment is an id scope, which is never one of the words below.
func (d Doors) Shared() http.Handler {
	f := fork{byWord: map[string]http.Handler{}, rest: d.DPS}
	add := func(h http.Handler, words ...string) {
		for _, w := range words {
			if h != nil {
				f.byWord[w] = h
			}
		}
	}
	add(d.EST, ".well-known")
	add(d.Service, "enrollments", "enrollmentgroups", "registrations")
	add(d.Certificates, "subscriptions")
	add(d.Hub, "devices", "twins", "statistics")
	if d.MQTT != nil {
		add(d.MQTT.WebSocket(), "$iothub")
	}
	return f
}

// PKI serves certificates, CRLs and OCSP answers of the tenants' issuers, and the public part
// of their logs, for plain HTTP. answered, unless it is nil, is told of every OCSP answer, by
// status.
func PKI(s Settings, answered func(status string), tenants ...Tenant) (http.Handler, error) {
	served, err := wire.NewTenants(tenants...)
	if err != nil {
		return nil, err
	}
	return fork{byWord: map[string]http.Handler{"log": log.New(served, s), "ct": log.NewCT(served, s)}, rest: pki.New(served, s, answered)}, nil
}

// NewServer makes a server for one of these handlers, with limits on headers and on
// time (INV-R1); bodies are limited by their doors. A device's connection remembers what it has proved.
func NewServer(h http.Handler, l *slog.Logger) *http.Server { return wire.NewServer(h, l) }

// DeviceTLS is the TLS configuration of a listener for devices.
func DeviceTLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return wire.DeviceTLS(certificate)
}

// fork sends a request to the door that its path begins with (protocols/dps.md §1).
type fork struct {
	byWord map[string]http.Handler // by first segment, in lower case
	rest   http.Handler
}

func (f fork) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	word, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if h, is := f.byWord[strings.ToLower(word)]; is {
		h.ServeHTTP(w, r)
		return
	}
	f.rest.ServeHTTP(w, r)
}
