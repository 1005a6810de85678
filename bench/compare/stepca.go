package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.step.sm/crypto/jose"
	"go.step.sm/crypto/minica"
	"go.step.sm/crypto/pemutil"
)

// stepCA is step-ca at work, set up as `step ca init` sets it up: root and P-256
// intermediate, one JWK provisioner, and its default database, badgerv2, which syncs
// every write to disk.
type stepCA struct {
	cmd    *exec.Cmd
	url    string
	caFile string // the intermediate's certificate
	jwkKey string // the provisioner's private key, PEM
}

const provisioner = "bench"

// startStepCA starts step-ca and waits until it answers.
func startStepCA(binary, dir string) (*stepCA, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	family, err := minica.New()
	if err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &stepCA{url: "https://" + addr, caFile: filepath.Join(dir, "intermediate.crt"), jwkKey: filepath.Join(dir, "provisioner.key")}
	config, err := s.files(dir, addr, family)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(binary, config)
	s.cmd.Env = append(os.Environ(), "STEPPATH="+dir) // it looks at nobody's own set-up
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(family.Root)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	for range 100 {
		resp, err := client.Get(s.url + "/health")
		if err == nil {
			_ = resp.Body.Close() // nothing was read
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	said, err := os.ReadFile(log.Name())
	return nil, errors.Join(fmt.Errorf("step-ca does not answer; it said: %s", said), err)
}

// files writes what step-ca reads, and returns the path of its configuration.
func (s *stepCA) files(dir, addr string, family *minica.CA) (string, error) {
	jwk, err := jose.GenerateJWK("EC", "P-256", jose.ES256, "sig", "", 0)
	if err != nil {
		return "", err
	}
	sealed, err := jose.EncryptJWK(jwk, []byte("not used: the generator has the key"))
	if err != nil {
		return "", err
	}
	encrypted, err := sealed.CompactSerialize()
	if err != nil {
		return "", err
	}
	public := jwk.Public()
	key := filepath.Join(dir, "intermediate.key")
	root := filepath.Join(dir, "root.crt")
	for path, what := range map[string]any{
		root: family.Root, s.caFile: family.Intermediate, key: family.Signer, s.jwkKey: jwk.Key.(crypto.Signer),
	} {
		if _, err := pemutil.Serialize(what, pemutil.ToFile(path, 0o600), pemutil.WithPKCS8(true)); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(map[string]any{
		"root": root, "crt": s.caFile, "key": key, "address": addr, "dnsNames": []string{"127.0.0.1"},
		"logger": map[string]any{"format": "text"},
		"db":     map[string]any{"type": "badgerv2", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []any{
			map[string]any{"type": "JWK", "name": provisioner, "key": public, "encryptedKey": encrypted},
		}},
		"tls": map[string]any{"minVersion": 1.2, "maxVersion": 1.3},
	})
	if err != nil {
		return "", err
	}
	config := filepath.Join(dir, "ca.json")
	return config, os.WriteFile(config, raw, 0o600)
}

// stop ends it at once: its database is thrown away.
func (s *stepCA) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// args are what the load generator is told beside what it tells every server.
func (s *stepCA) args() string {
	return strings.Join([]string{"step-ca -new-csr -provisioner", provisioner, "-jwk-key", s.jwkKey}, " ")
}

// freePort finds an address on loopback.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
