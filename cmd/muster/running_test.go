package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is what a running command has said so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until a condition holds, and fails with what the server said.
func (s *screen) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s; the server said:\n%s", what, s)
		}
	}
}

// start runs the service until stop, and waits until it is ready.
func (h host) start() (said *screen, stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	said = &screen{}
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--config", h.path("muster.yaml")}, streams{strings.NewReader(""), said, said})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-done; code != exitDone {
			h.t.Errorf("serve: exit %d:\n%s", code, said)
		}
	})
	h.t.Cleanup(stop)
	said.await(h.t, "ready", func() bool { return strings.Contains(said.String(), `"msg":"ready"`) })
	return said, stop
}

// client trusts the installation, and presents no certificate.
func (h host) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(h.read("data/ca.pem")))
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	h.t.Cleanup(c.CloseIdleConnections)
	return c
}

func ask(t *testing.T, c *http.Client, method, url, body string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, raw
}

// estRequest is a certificate request as EST takes it.
func estRequest(t *testing.T, id string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// fixPorts gives listeners free ports that they keep over starts.
func (h host) fixPorts(names ...string) map[string]string {
	h.t.Helper()
	text, at := h.read("muster.yaml"), map[string]string{}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			h.t.Fatal(err)
		}
		at[name] = l.Addr().String()
		if err := l.Close(); err != nil {
			h.t.Fatal(err)
		}
		text = strings.Replace(text, name+": 127.0.0.1:0", name+": "+at[name], 1)
	}
	h.write("muster.yaml", text, 0o600)
	return at
}
