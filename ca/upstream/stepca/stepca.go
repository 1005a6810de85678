// Package stepca lets a step-ca sign for an issuer of ours: Muster is its registration
// authority, by a JWK provisioner.
//
// The connection trusts the one root that the configuration names. A request is sent once:
// an answer that says no (4xx), or a connection that was never made, means that nothing was
// signed; anything else means that something may have been. step-ca cannot be asked
// afterwards what it signed.
//
// Called by cmd/muster, unless it was built with -tags nostepca.
package stepca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/stepcas"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// Config is a section of the configuration file. One of Fingerprint and CAFile is needed.
type Config struct {
	URL         string `yaml:"url"`         // https://host:port
	Fingerprint string `yaml:"fingerprint"` // SHA-256 of the root, hex
	CAFile      string `yaml:"caFile"`      // the root, PEM
	Provisioner string `yaml:"provisioner"` // name of a JWK provisioner
	// PasswordFile opens the provisioner's key: the one that step-ca keeps, or KeyFile (PEM or JWK).
	PasswordFile string `yaml:"passwordFile"`
	KeyFile      string `yaml:"keyFile"`
}

// Open checks the configuration. Nothing is asked of the step-ca yet.
func (c Config) Open() (ca.Upstream, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, bad("url: an address such as https://ca.example:9000 is needed")
	}
	if c.Provisioner == "" {
		return nil, bad("provisioner: the name of a JWK provisioner is needed")
	}
	if (c.Fingerprint == "") == (c.CAFile == "") {
		return nil, bad("fingerprint, caFile: one of the two is needed")
	}
	fingerprint := strings.ToLower(strings.ReplaceAll(c.Fingerprint, ":", ""))
	if c.CAFile != "" {
		if fingerprint, err = fingerprintOf(c.CAFile); err != nil {
			return nil, err
		}
	}
	if raw, err := hex.DecodeString(fingerprint); err != nil || len(raw) != sha256.Size {
		return nil, bad("fingerprint: a SHA-256 in hex is needed")
	}
	password, err := secret(c.PasswordFile)
	if err != nil {
		return nil, err
	}
	if password == "" && c.KeyFile == "" {
		return nil, bad("passwordFile: the provisioner's key is opened with a password")
	}
	options := casapi.Options{
		Type: casapi.StepCAS, CertificateAuthority: c.URL, CertificateAuthorityFingerprint: fingerprint,
		CertificateIssuer: &casapi.CertificateIssuer{Type: "jwk", Provisioner: c.Provisioner, Key: c.KeyFile, Password: password},
	}
	return &ca.Driver{
		Open: func(ctx context.Context) (casapi.CertificateAuthorityService, error) {
			return stepcas.New(ctx, options)
		},
		Refused: func(err error) bool {
			return status(err)/100 == 4 || ca.NotSent(err)
		},
		Stale: func(err error) bool { return status(err) == http.StatusUnauthorized },
		Revoked: func(err error) bool {
			return status(err) == http.StatusBadRequest && strings.Contains(err.Error(), "already revoked")
		},
		Above: func(ctx context.Context, service casapi.CertificateAuthorityService) ([]*x509.Certificate, error) {
			return chain(ctx, *u, service)
		},
	}, nil
}

func bad(what string) error {
	return fault.New(fault.Malformed, "config", "%s", what)
}

// secret is a file's text without the line break at its end.
func secret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	raw, err := os.ReadFile(path)
	return strings.TrimRight(string(raw), "\r\n"), err
}

func fingerprintOf(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", bad("caFile: " + path + " holds no certificate")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// status is the HTTP status of step-ca's answer; 0 where there was none.
func status(err error) int {
	var answer interface{ StatusCode() int }
	if errors.As(err, &answer) {
		return answer.StatusCode()
	}
	return 0
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// chain is the intermediates, the one that signs first, and the root.
func chain(ctx context.Context, at url.URL, service casapi.CertificateAuthorityService) ([]*x509.Certificate, error) {
	roots, err := ca.GetterChain(ctx, service)
	if err != nil {
		return nil, err
	}
	root := roots[len(roots)-1]
	pool := x509.NewCertPool()
	pool.AddCert(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.JoinPath("intermediates.pem").String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s answered %s", request.URL, answer.Status)
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the intermediates: %w", err)
		}
		list = append(list, c)
	}
	return append(list, root), nil
}
