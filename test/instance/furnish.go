package instance

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"time"
)

// Object is a JSON object of the admin API.
type Object = map[string]any

// Admit lets devices in that show a certificate of a CA: its certificate becomes the
// trust anchor name, proves possession of its key, and signs for the group name, which
// issues by the profile "default". With enabled false the group refuses its devices.
// base names the CA's files, BASE.crt and BASE.key (PEM).
func (i *Instance) Admit(ctx context.Context, name, base string, enabled bool) error {
	pair, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		return err
	}
	authority := pemCertificate(pair.Certificate[0])
	anchor := "/anchors/" + url.PathEscape(name)
	if err := i.Call(ctx, http.MethodPut, anchor, Object{"certificate": authority}, nil); err != nil {
		return err
	}
	var code struct {
		VerificationCode string `json:"verificationCode"`
	}
	if err := i.Call(ctx, http.MethodPost, anchor+"/generateVerificationCode", nil, &code); err != nil {
		return err
	}
	proof, err := verificationCertificate(pair, code.VerificationCode)
	if err != nil {
		return err
	}
	if err := i.Call(ctx, http.MethodPost, anchor+"/verify", Object{"certificate": proof}, nil); err != nil {
		return err
	}
	status := "enabled"
	if !enabled {
		status = "disabled"
	}
	return i.Call(ctx, http.MethodPut, "/groups/"+url.PathEscape(name), Object{
		"attestation":          Object{"type": "x509", "x509": Object{"signingCertificates": Object{"primary": Object{"certificate": authority}}}},
		"provisioningStatus":   status,
		"credentialPolicyName": "default",
	}, nil)
}

// verificationCertificate proves possession of a CA's key: a leaf signed by it whose CN
// is the code.
func verificationCertificate(authority tls.Certificate, code string) (string, error) {
	parent, err := x509.ParseCertificate(authority.Certificate[0])
	if err != nil {
		return "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return "", err
	}
	now := time.Now()
	// The key of the leaf is of no consequence; the CA's own is at hand.
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: code}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
	}, parent, parent.PublicKey, authority.PrivateKey)
	if err != nil {
		return "", fmt.Errorf("signing the verification certificate: %w", err)
	}
	return pemCertificate(der), nil
}

func pemCertificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
