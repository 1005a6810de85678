package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// device is a client: a name, a certificate to show, and a certificate request.
type device struct {
	name  string
	tls   *tls.Certificate // nil: shows none
	token string           // "": shows none
	csr   []byte           // DER; nil: asks for no certificate
	spki  []byte           // the request's key
}

// makeDevices prepares the pool, so that only requests are measured.
func makeDevices(o options) ([]*device, error) {
	var authority tls.Certificate
	var err error
	if o.deviceCA != "" {
		if authority, err = tls.LoadX509KeyPair(o.deviceCA+".crt", o.deviceCA+".key"); err != nil {
			return nil, err
		}
	}
	pool := make([]*device, o.pool)
	for i := range pool {
		d := &device{name: fmt.Sprintf("%s%06d", o.prefix, i)}
		if o.withCSR {
			if d, err = d.withNewCSR(); err != nil {
				return nil, err
			}
		}
		switch {
		case o.groupKey != "":
			if d.token, err = token(o, d.name); err != nil {
				return nil, err
			}
		case o.deviceCA != "":
			if d.tls, err = onboarding(d.name, authority); err != nil {
				return nil, err
			}
		}
		pool[i] = d
	}
	return pool, nil
}

// withNewCSR is the same device with a new key and a request for it.
func (d *device) withNewCSR() (*device, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	next := *d
	if next.spki, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.name}, DNSNames: []string{d.name}}
	next.csr, err = x509.CreateCertificateRequest(rand.Reader, template, key)
	return &next, err
}

// token is a device's, signed with the key that its group's key yields (protocols/dps.md
// §1.2, §2.4), as npm's client writes it.
func token(o options, name string) (string, error) {
	group, err := base64.StdEncoding.DecodeString(o.groupKey)
	if err != nil {
		return "", err
	}
	resource := o.scope + "/registrations/" + name
	expiry := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	signature := base64.StdEncoding.EncodeToString(sum(sum(group, name), resource+"\n"+expiry))
	return "SharedAccessSignature sr=" + resource + "&sig=" + url.QueryEscape(signature) + "&se=" + expiry + "&skn=registration", nil
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// onboarding is the certificate that a device was made with.
func onboarding(name string, authority tls.Certificate) (*tls.Certificate, error) {
	parent, err := x509.ParseCertificate(authority.Certificate[0])
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t, err := template(name, 365*24*time.Hour)
	if err != nil {
		return nil, err
	}
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	t.DNSNames = []string{name}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), authority.PrivateKey)
	return &tls.Certificate{Certificate: [][]byte{der, parent.Raw}, PrivateKey: key}, err
}

func template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		BasicConstraintsValid: true,
	}, err
}

// makeCA writes DIR/NAME.crt and DIR/NAME.key: a CA for onboarding certificates.
func makeCA(dir, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t, err := template(name, 10*365*24*time.Hour)
	if err != nil {
		return err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return err
	}
	id := sha256.Sum256(point)
	t.IsCA, t.SubjectKeyId = true, id[:20]
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	base := filepath.Join(dir, name)
	return errors.Join(
		os.WriteFile(base+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(base+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

// readCertificates reads every certificate of a PEM file.
func readCertificates(path string) (all []*x509.Certificate, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, cert)
	}
	return all, nil
}

// check wants a certificate for the device's request, signed by one of the issuers.
func (d *device) check(cert *x509.Certificate, issuers []*x509.Certificate) error {
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, d.spki) {
		return errors.New("the certificate is for another key")
	}
	err := errors.New("no issuers are known")
	for _, i := range issuers {
		if err = cert.CheckSignatureFrom(i); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the certificate is not signed by an expected CA: %w", err)
}
