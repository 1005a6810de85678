package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/ca"
)

const (
	serverLifetime = 30 * 24 * time.Hour
	serverCheck    = time.Hour
)

// serverCertificate is the certificate of the TLS listeners: from files, or made by
// Muster's issuing CA with a key that never leaves memory, and made again when two
// thirds of its life are over.
type serverCertificate struct {
	config    tlsConfig
	authority *ca.Authority
	current   atomic.Pointer[tls.Certificate]
}

func newServerCertificate(ctx context.Context, c tlsConfig, authority *ca.Authority) (*serverCertificate, error) {
	s := &serverCertificate{config: c, authority: authority}
	return s, s.load(ctx)
}

func (s *serverCertificate) load(ctx context.Context) error {
	if s.config.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.config.Certificate, s.config.Key)
		if err == nil {
			s.current.Store(&pair)
		}
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	chain, err := s.authority.IssueServer(ctx, "job:server-certificate", key.Public(), s.config.Names, serverLifetime)
	if err != nil {
		return err
	}
	s.current.Store(&tls.Certificate{Certificate: chain, PrivateKey: key})
	return nil
}

// keep renews the certificate until ctx ends.
func (s *serverCertificate) keep(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(serverCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		leaf := s.current.Load().Leaf
		if s.config.Certificate == "" && leaf != nil && time.Until(leaf.NotAfter) > leaf.NotAfter.Sub(leaf.NotBefore)/3 {
			continue
		}
		if err := s.load(ctx); err != nil {
			log.Error("renewing the server certificate", "problem", err)
		}
	}
}

// tlsConfig is for every TLS listener. Client certificates are asked for, and judged
// per request by the engine, never by the handshake: self-signed ones are legal, and
// "disabled" must count on connections that are open (contract §2.4, INV-D1). Session
// tickets are off: a ticket proves no key (INV-T4).
func (s *serverCertificate) tlsConfig(clients tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		CipherSuites:           aeadSuites(),
		ClientAuth:             clients,
		SessionTicketsDisabled: true,
		NextProtos:             []string{"http/1.1"},
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
	}
}

// aeadSuites are the TLS 1.2 suites of INV-N1.
func aeadSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}
