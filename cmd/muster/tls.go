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
