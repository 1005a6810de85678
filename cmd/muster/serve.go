package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/api"
	"github.com/passmuster/muster/api/admin"
	checkdoor "github.com/passmuster/muster/api/check"
	natsdoor "github.com/passmuster/muster/api/nats"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/jobs"
)

// serveCmd runs the service.
type serveCmd struct {
	Dev       bool   `help:"Development: no questions, everything made, loopback only."`
	Config    string `help:"Configuration file." default:"muster.yaml" env:"MUSTER_CONFIG" type:"path"`
	Data      string `help:"Data folder (--dev: ./muster-dev)." env:"MUSTER_DATA" type:"path"`
	Devices   string `help:"Address of the device listener (TLS)." env:"MUSTER_LISTEN_DEVICES"`
	Admin     string `help:"Address of the admin listener." env:"MUSTER_LISTEN_ADMIN"`
	PKI       string `help:"Address of the PKI listener (plain HTTP)." name:"pki" env:"MUSTER_LISTEN_PKI"`
	MQTT      string `help:"Address of the MQTT listener (TLS)." name:"mqtt" env:"MUSTER_LISTEN_MQTT"`
	Mosquitto string `help:"With --dev: file with the Mosquitto brokers of a configuration." type:"existingfile" placeholder:"FILE"`
	DSNFile   string `help:"File with a PostgreSQL connection string; default SQLite in the data folder." env:"MUSTER_STORE_DSN_FILE" type:"path"`
}

func (s *serveCmd) config() (config, error) {
	c := config{dev: true, CT: ctConfig{Own: true}}
	var err error
	switch {
	case s.Dev:
		c.Data = "muster-dev"
		if s.Mosquitto != "" {
			if c.Mosquitto, err = readMosquitto(s.Mosquitto); err != nil {
				return c, err
			}
		}
	case s.Mosquitto != "":
		return c, fault.New(fault.Malformed, "config", "--mosquitto goes with --dev: write mosquitto into %s", s.Config)
	default:
		if c, err = loadConfig(s.Config); err != nil {
			return c, err
		}
	}
	for _, o := range []struct{ field, flag *string }{
		{&c.Data, &s.Data}, {&c.Listen.Devices, &s.Devices}, {&c.Listen.Admin, &s.Admin}, {&c.Listen.PKI, &s.PKI}, {&c.Listen.MQTT, &s.MQTT}, {&c.Store.DSNFile, &s.DSNFile},
	} {
		if *o.flag != "" {
			*o.field = *o.flag
		}
	}
	return c.checked()
}

// Run serves until the context ends, then finishes what it began.
func (s *serveCmd) Run(ctx context.Context, out streams) error {
	began := time.Now()
	c, err := s.config()
	if err != nil {
		return err
	}
	listeners, err := listen(&c)
	if err != nil {
		return err
	}
	defer listeners.close()
	log := newLogger(c, out.Err)
	watch := newOps(c.dev)
	all, err := openHouses(ctx, c, log, watch.registered)
	if err != nil {
		return err
	}
	srv := &server{config: c, houses: all, ops: watch, log: log, listeners: listeners, moved: make(chan struct{}, 1), blocked: blockListFile{path: c.KeyBlockList}}
	if err := srv.prepare(ctx); err != nil {
		return errors.Join(err, closeHouses(all))
	}
	if err := srv.openJobs(ctx); err != nil {
		return errors.Join(err, closeHouses(all))
	}
	doors, err := srv.doors()
	if err != nil {
		return errors.Join(err, srv.closeJobs(ctx), closeHouses(all))
	}
	srv.ready(out, time.Since(began))
	settleHeap()
	go giveBack(ctx)
	return errors.Join(srv.serve(ctx, doors), closeHouses(all))
}

func newLogger(c config, w interface{ Write([]byte) (int, error) }) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // unknown words mean info
	if c.dev {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

// listeners are the open sockets. ops is nil when the admin listener carries it (--dev);
// service, certificates and hub are when their doors share the device listener, check when it
// shares the admin listener.
type listeners struct{ devices, admin, pki, ops, mqtt, service, certificates, hub, check net.Listener }

// listen opens every socket before anything else, so that a taken port costs nothing,
// and writes the real addresses into the configuration.
func listen(c *config) (l listeners, err error) {
	for _, x := range []struct {
		name string
		addr *string
		to   *net.Listener
	}{
		{"devices", &c.Listen.Devices, &l.devices}, {"admin", &c.Listen.Admin, &l.admin}, {"pki", &c.Listen.PKI, &l.pki}, {"ops", &c.Listen.Ops, &l.ops},
		{"mqtt", &c.Listen.MQTT, &l.mqtt}, {"service", &c.Listen.Service, &l.service}, {"certificates", &c.Listen.Certificates, &l.certificates}, {"hub", &c.Listen.Hub, &l.hub},
		{"check", &c.Listen.Check, &l.check},
	} {
		if *x.addr == "" {
			continue
		}
		*x.to, err = net.Listen("tcp", *x.addr)
		if err != nil && c.dev && *x.addr == defaultMQTT {
			// A second development server, which nobody told of a port for this.
			*x.to, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			l.close()
			return l, fmt.Errorf("opening the %s listener: %w", x.name, err)
		}
		*x.addr = (*x.to).Addr().String()
	}
	return l, nil
}

func (l listeners) close() {
	for _, x := range []net.Listener{l.devices, l.admin, l.pki, l.ops, l.mqtt, l.service, l.certificates, l.hub, l.check} {
		if x != nil {
			_ = x.Close() // closed already after an orderly stop
		}
	}
}

// server is the open houses with their doors. The first is the installation's own id scope:
// its CA makes the server's certificate.
type server struct {
	config    config
	houses    []*house
	ops       *ops
	log       *slog.Logger
	listeners listeners
	cert      *serverCertificate
	jobs      *jobs.Jobs
	moved     chan struct{} // a nudge: an issuer may have moved
	blocked   blockListFile
	callout   *natsdoor.Callout // nil: no NATS asks
}

func (s *server) prepare(ctx context.Context) error {
	own := s.houses[0]
	if s.config.dev {
		if err := furnishDev(ctx, own); err != nil {
			return err
		}
	}
	s.ops.watch(s.houses)
	_, err := s.blocked.load(s.houses)
	if err != nil {
		return err
	}
	s.cert, err = newServerCertificate(ctx, s.config.TLS, own.authority)
	if err != nil && own.keyProblem() == nil {
		return err
	}
	if err != nil {
		s.log.Error("the key device is away: there is no certificate for the TLS listeners yet", "problem", err)
	}
	s.ops.watchCertificate(s.cert)
	for _, h := range s.houses {
		if err := refuseOnlineRoot(ctx, h); err != nil {
			return err
		}
		if err := h.sweeper.SweepStatus(ctx); err != nil && h.keyProblem() == nil {
			return err // while the key device is away the lists on record are served
		}
		if _, err := writeBundle(h, own); err != nil {
			return err
		}
	}
	s.cert.staple(ctx, s.log)
	if s.config.dev {
		return s.writeDevEnv(ctx)
	}
	return nil
}

// refuseOnlineRoot holds production to what it was told about the root's key.
func refuseOnlineRoot(ctx context.Context, h *house) error {
	if h.config.dev || h.config.AllowOnlineRoot {
		return nil
	}
	issuers, err := h.authority.Issuers(ctx)
	for _, i := range issuers {
		if i.Role == ca.RoleRoot && i.KeyURI != "" {
			return unsafe("the key of root "+i.Name+" is on this host", "allowOnlineRoot: true")
		}
	}
	return err
}

// writeBundle leaves the CA certificates in DATA/ca.pem: what a device needs to check what
// it is issued, and to trust the server, whose certificate the installation's own id scope
// issues. The root comes first.
func writeBundle(h, own *house) (string, error) {
	path, err := filepath.Abs(filepath.Join(h.config.Data, "ca.pem"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	ders := h.authority.Bundle()
	if h != own {
		ders = append(own.authority.Bundle(), ders...)
	}
	for i := range ders {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: ders[len(ders)-1-i]}) // a Builder does not fail
	}
	return path, replaceChanged(path, []byte(b.String()))
}

func (s *server) ready(out streams, took time.Duration) {
	c, own := s.config, s.houses[0]
	var others []string
	for _, h := range s.houses[1:] {
		others = append(others, h.idScope)
	}
	if !c.dev {
		s.log.Info("ready", "took", took.String(), "devices", c.devicesURL(), "mqtt", c.Listen.MQTT, "admin", c.Listen.Admin, "pki", c.pkiURL(),
			"service", c.Listen.Service, "certificates", c.Listen.Certificates, "hub", c.Listen.Hub, "check", c.Listen.Check, "idScope", own.idScope, "idScopes", others)
		return
	}
	fmt.Fprintf(out.Out, "ready in %.1f s · data %s · root and issuer made, CN says DEV · group %q · hub %q (built in)\n", took.Seconds(), c.Data, devGroup, devHub)
	fmt.Fprintf(out.Out, "  devices  %s   mqtt %s   id scope %s\n  admin    http://%s/api/v1   token in %s\n  pki      %s/pki/   everything to talk to it: . %s\n",
		c.devicesURL(), c.Listen.MQTT, own.idScope, c.Listen.Admin, filepath.Join(c.Data, "token"), c.pkiURL(), filepath.Join(c.Data, "dev.env"))
	if len(others) > 0 {
		fmt.Fprintf(out.Out, "  further id scopes: %s\n", strings.Join(others, " "))
	}
}

const (
	finishRequests = 20 * time.Second
	lookEvery      = time.Minute
)

// serve runs the doors, the jobs and the process' own affairs until ctx ends; then it stops
// accepting, finishes requests, and stops the rest.
func (s *server) serve(ctx context.Context, doors []door) (err error) {
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { s.look(own) })
	running.Go(func() { s.saveTripwires(own) })
	running.Go(func() { s.cert.keep(own, s.log) })
	running.Go(func() { s.rewrap(own) })
	for _, h := range s.houses {
		running.Go(func() { h.writeLogs(own, s.log) })
		running.Go(func() { h.keepLists(own, s.log) })
	}
	defer running.Wait()
	defer stop()
	defer func() { err = errors.Join(err, s.closeJobs(ctx)) }()
	if err := s.jobs.Start(ctx); err != nil {
		return err
	}

	failed := make(chan error, len(doors))
	for _, d := range doors {
		running.Go(func() {
			if err := d.serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.ops.stopping.Store(true)
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishRequests)
	defer cancel()
	for _, d := range doors {
		err = errors.Join(err, d.stop(finish))
	}
	return err
}

// door is one listener being served. Serving ends with http.ErrServerClosed or nil after an
// orderly stop, which finishes requests until its context ends.
type door struct {
	serve func() error
	stop  func(context.Context) error
}

func (s *server) doors() ([]door, error) {
	c := s.config
	settings := api.Settings{Log: s.log, Now: time.Now, Observe: s.ops.served, Panicked: func(string) { s.ops.panics.Inc() }, Hosts: c.hosts()}
	var tenants []api.Tenant
	operators := map[string]http.Handler{}
	for _, h := range s.houses {
		tenant := api.Tenant{Engine: h.engine, Authority: h.authority, Log: h.log}
		if h.ct != nil {
			tenant.CT = h.ct
		}
		tenants = append(tenants, tenant)
		operators[h.idScope] = admin.New(admin.Deps{Engine: h.engine, Authority: h.authority, Log: s.log, Version: version, AfterRevoke: func() { s.nudge(h) }, IssuanceLog: h.log,
			Jobs: jobsOf{s.jobs, h.idScope}, Observe: s.ops.served, OnPanic: s.ops.panics.Inc, ServerCertificate: s.cert.leaf})
	}
	doors, err := api.NewDoors(settings, api.Options{AllowUnproven: c.dev || c.AllowUnprovenAnchors}, tenants...)
	if err != nil {
		return nil, err
	}
	pki, err := api.PKI(settings, s.ops.ocspAnswered, tenants...)
	if err != nil {
		return nil, err
	}
	checks, err := checkdoor.New(settings, checkdoor.Options{AskAgain: c.Brokers.askAgain(), Checked: s.ops.checked}, tenants...)
	if err != nil {
		return nil, err
	}
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.current.Load(), nil }
	mux := http.NewServeMux()
	mux.Handle("/api/", admin.ByIDScope(s.houses[0].idScope, operators))
	overTLS := func(l net.Listener) net.Listener { return tls.NewListener(l, api.DeviceTLS(certificate)) }
	out := []door{s.door(pki, s.listeners.pki), {
		serve: func() error { return doors.MQTT.Serve(overTLS(s.listeners.mqtt)) },
		stop:  func(ctx context.Context) error { return within(ctx, doors.MQTT.Close) },
	}}
	for _, moved := range []struct {
		door     *http.Handler
		listener net.Listener
	}{
		{&doors.Service, s.listeners.service}, {&doors.Certificates, s.listeners.certificates}, {&doors.Hub, s.listeners.hub},
	} {
		if moved.listener != nil {
			out = append(out, s.door(*moved.door, overTLS(moved.listener)))
			*moved.door = nil
		}
	}
	out = append(out, s.door(doors.Shared(), overTLS(s.listeners.devices)))
	// Operators and brokers show tokens, never device certificates (INV-N2).
	tokenTLS := api.DeviceTLS(certificate)
	tokenTLS.ClientAuth = tls.NoClientCert
	if s.listeners.check != nil {
		out = append(out, s.door(checks, tls.NewListener(s.listeners.check, tokenTLS)))
	} else {
		mux.Handle("/hub/", checks)
	}
	if err := s.openNATS(); err != nil {
		return nil, err
	}
	if s.callout != nil {
		out = append(out, s.natsDoor())
	}
	if c.dev {
		mux.Handle("/", s.ops.handler())
		return append(out, s.door(loopbackHost(mux), s.listeners.admin)), nil
	}
	return append(out, s.door(mux, tls.NewListener(s.listeners.admin, tokenTLS)), s.door(s.ops.handler(), s.listeners.ops)), nil
}

func (s *server) door(h http.Handler, l net.Listener) door {
	srv := api.NewServer(h, s.log)
	return door{
		serve: func() error { return srv.Serve(l) },
		stop: func(ctx context.Context) error {
			if srv.Shutdown(ctx) == nil {
				return nil
			}
			return srv.Close()
		},
	}
}

// within waits for f to end, but no longer than ctx does: the process ends then anyway.
func within(ctx context.Context, f func()) error {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loopbackHost refuses requests whose Host is not this machine's own name, so that no
// page elsewhere can reach a development server by rebinding a DNS name (INV-N4).
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if host != "localhost" && !net.ParseIP(host).IsLoopback() {
			http.Error(w, "a development server answers to localhost only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// look takes note, each minute and when something moved, of what other processes did to the
// issuers; each minute it reads the block list again, and keeps what this process noticed.
func (s *server) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	again := time.NewTicker(keyRetryEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			s.keep(context.WithoutCancel(ctx))
			return
		case <-tick.C:
			s.blocked.reload(s.houses, s.log)
			s.keep(ctx)
		case <-s.moved:
		case <-again.C:
			s.retryKeys(ctx)
			continue
		}
		for _, h := range s.houses {
			if err := h.learn(ctx, s.houses[0]); err != nil && ctx.Err() == nil {
				s.log.Error("reading the issuers", "idScope", h.idScope, "problem", err)
			}
		}
	}
}

// keep puts on record what this process alone knows: what certificate requests came, to try
// changes of profiles on, and when keys of access policies were used.
func (s *server) keep(ctx context.Context) {
	for _, h := range s.houses {
		jobs := h.db.ProvisioningJobs()
		if err := errors.Join(h.engine.SaveRecentRequests(ctx, jobs), h.engine.SaveKeyUses(ctx, jobs)); err != nil && ctx.Err() == nil {
			s.log.Error("keeping what this process noticed", "idScope", h.idScope, "problem", err)
		}
	}
}
