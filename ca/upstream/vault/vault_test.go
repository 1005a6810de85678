package vault

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *server) config() Config {
	return Config{URL: s.URL, Fingerprint: fingerprint(s.root), Role: role, Auth: "approle", RoleID: roleID, SecretIDFile: file(s.t, secretID)}
}

func opened(t *testing.T, c Config) ca.Upstream {
	t.Helper()
	u, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func request(t *testing.T) ca.UpstreamRequest {
	t.Helper()
	name := pkix.Name{CommonName: "press-1"}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return ca.UpstreamRequest{ID: "n-1", CSR: csr, Template: &x509.Certificate{Subject: name}, Lifetime: 24*time.Hour - time.Second}
}

func TestVaultSignsAndRevokes(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]Config{
		"approle":    s.config(),
		"kubernetes": {URL: s.URL, Fingerprint: fingerprint(s.root), Role: role, Auth: "kubernetes", KubernetesRole: "muster", TokenFile: file(t, "pod-token")},
	} {
		t.Run(name, func(t *testing.T) {
			u := opened(t, c)
			made, err := u.Sign(t.Context(), request(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := made.CheckSignatureFrom(s.inter); err != nil || made.Subject.CommonName != "press-1" {
				t.Errorf("%s, %v", made.Subject, err)
			}
			if left := time.Until(made.NotAfter); left < 23*time.Hour || left > 24*time.Hour {
				t.Errorf("it lives for %s", left)
			}
			chain, err := u.Chain(t.Context())
			if err != nil || len(chain) != 2 || !chain[0].Equal(s.inter) || !chain[1].Equal(s.root) {
				t.Errorf("a chain of %d, %v", len(chain), err)
			}
			serial := ca.SerialOf(made.SerialNumber)
			for range 2 { // it confirms again
				if err := u.Revoke(t.Context(), ca.UpstreamRevocation{Serial: serial, Reason: ca.Superseded}); err != nil {
					t.Error(err)
				}
			}
			if s.revoked[len(s.revoked)-1] != string(serial) {
				t.Errorf("revoked %v, want %s", s.revoked, serial)
			}
		})
	}
}

func TestWhatVaultsAnswersMean(t *testing.T) {
	t.Run("no such role: nothing was signed", func(t *testing.T) {
		s := newServer(t)
		c := s.config()
		c.Role = "nobody"
		if _, err := opened(t, c).Sign(t.Context(), request(t)); !errors.Is(err, ca.ErrNotSigned) || !strings.Contains(err.Error(), "unknown role") {
			t.Error(err)
		}
	})
	t.Run("an error of its own, after it has heard: something may have been signed, and it is not asked again", func(t *testing.T) {
		s := newServer(t)
		s.breaks = 500
		if _, err := opened(t, s.config()).Sign(t.Context(), request(t)); err == nil || errors.Is(err, ca.ErrNotSigned) {
			t.Error(err)
		}
		if s.signs != 1 {
			t.Errorf("it was asked %d times", s.signs)
		}
	})
	t.Run("sealed: nothing was signed", func(t *testing.T) {
		s := newServer(t)
		u := opened(t, s.config())
		if _, err := u.Sign(t.Context(), request(t)); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.sealed = true
		s.mu.Unlock()
		if _, err := u.Sign(t.Context(), request(t)); !errors.Is(err, ca.ErrNotSigned) {
			t.Error(err)
		}
		if err := u.Revoke(t.Context(), ca.UpstreamRevocation{Serial: "00ff"}); err == nil {
			t.Error("revoked by a sealed server")
		}
	})
	t.Run("gone: nothing was signed", func(t *testing.T) {
		s := newServer(t)
		u := opened(t, s.config())
		s.Close()
		if _, err := u.Sign(t.Context(), request(t)); !errors.Is(err, ca.ErrNotSigned) {
			t.Error(err)
		}
	})
	t.Run("a login that has expired: it is made again", func(t *testing.T) {
		s := newServer(t)
		u := opened(t, s.config())
		for range 2 {
			if _, err := u.Sign(t.Context(), request(t)); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			clear(s.tokens)
			s.mu.Unlock()
		}
		if len(s.logins) != 2 || s.signs != 2 {
			t.Errorf("logins %v, %d signs", s.logins, s.signs)
		}
	})
	t.Run("a certificate it does not know: it says so", func(t *testing.T) {
		s := newServer(t)
		if err := opened(t, s.config()).Revoke(t.Context(), ca.UpstreamRevocation{Serial: "ff"}); !errors.Is(err, ca.ErrNotRevoked) {
			t.Error(err)
		}
	})
	t.Run("another root than the one that was named: its chain is not taken", func(t *testing.T) {
		s := newServer(t)
		c := s.config()
		c.Fingerprint = fingerprint(s.inter)
		if _, err := opened(t, c).Chain(t.Context()); err == nil {
			t.Error("taken")
		}
	})
	t.Run("the process's own environment stays as it was", func(t *testing.T) {
		t.Setenv("VAULT_MAX_RETRIES", "7")
		s := newServer(t)
		if _, err := opened(t, s.config()).Sign(t.Context(), request(t)); err != nil || os.Getenv("VAULT_MAX_RETRIES") != "7" {
			t.Error(err, os.Getenv("VAULT_MAX_RETRIES"))
		}
	})
}

func TestConfigurationsThatCannotWork(t *testing.T) {
	s := newServer(t)
	for name, change := range map[string]func(*Config){
		"no address":              func(c *Config) { c.URL = "" },
		"plain HTTP elsewhere":    func(c *Config) { c.URL = "http://vault.example:8200" },
		"no fingerprint":          func(c *Config) { c.Fingerprint = "" },
		"half a fingerprint":      func(c *Config) { c.Fingerprint = c.Fingerprint[:20] },
		"no role":                 func(c *Config) { c.Role = "" },
		"no login":                func(c *Config) { c.Auth = "" },
		"approle without secret":  func(c *Config) { c.SecretIDFile = "" },
		"kubernetes without role": func(c *Config) { c.Auth = "kubernetes" },
	} {
		c := s.config()
		change(&c)
		if _, err := c.Open(); fault.RuleOf(err) != "config" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
