package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

const (
	serverLifetime = 30 * 24 * time.Hour
	serverCheck    = time.Hour
	stapleEvery    = 10 * time.Minute
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

// absent says that the key device was away when the certificate was to be made: TLS
// handshakes fail until it is back.
func (s *serverCertificate) absent() bool { return s.current.Load() == nil }

// leaf is the certificate itself, nil while it is absent.
func (s *serverCertificate) leaf() *x509.Certificate {
	if s.absent() {
		return nil
	}
	return s.current.Load().Leaf
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
	leaf, err := x509.ParseCertificate(chain[0])
	if err == nil {
		s.current.Store(&tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf})
	}
	return err
}

// due says whether two thirds of the life of a certificate of our own making are over, or its
// issuer is revoked; files are read again every time.
func (s *serverCertificate) due(now time.Time) bool {
	if s.config.Certificate != "" || s.absent() {
		return true
	}
	leaf := s.current.Load().Leaf
	return leaf.NotAfter.Sub(now) < leaf.NotAfter.Sub(leaf.NotBefore)/3 || !s.authority.StandsBehind(leaf)
}

// staple has the listeners hand out what OCSP says of the certificate (RFC 6066 §8), when it
// is one of ours. Without an answer there is nothing to hand out: clients that must have one ask.
func (s *serverCertificate) staple(ctx context.Context, log *slog.Logger) {
	if s.absent() {
		return
	}
	now := *s.current.Load()
	answer, err := s.authority.Staple(ctx, now.Leaf)
	if err != nil {
		if !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
			log.Warn("stapling an OCSP answer", "problem", err)
		}
		now.OCSPStaple = nil
	} else {
		now.OCSPStaple = answer.DER
	}
	s.current.Store(&now)
}

// keep renews the certificate until ctx ends; on SIGHUP at once, for files that were
// replaced. Bad files change nothing.
func (s *serverCertificate) keep(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(serverCheck)
	defer tick.Stop()
	stapling := time.NewTicker(stapleEvery)
	defer stapling.Stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-stapling.C:
			s.staple(ctx, log)
			continue
		case <-hangup:
		case <-tick.C:
			if !s.due(time.Now()) {
				continue
			}
		}
		if err := s.load(ctx); err != nil {
			log.Error("renewing the server certificate", "problem", err)
		}
		s.staple(ctx, log)
	}
}
