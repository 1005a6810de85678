package ceremony

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// RootFiles is a root that was made before: its certificate, and its key as Keys opens it.
type RootFiles struct {
	Certificate string // PEM or DER
	Key         string // the key's file, for the transcript; "" where it is in none
	Keys        ca.Keys
	KeyURI      string
}

// Issue is an issuing CA to be signed for; see ca.Offline.SignIssuing.
type Issue struct {
	CSR       string // PKCS#10, PEM or DER
	Lifetime  time.Duration
	Addresses ca.Addresses
}

// CRL is the next CRL of a root; with a Serial that certificate is revoked in it.
type CRL struct {
	Previous string // PEM or DER
	Serial   ca.Serial
	Reason   ca.Reason
	Lifetime time.Duration
}

// Issue signs the certificate of an issuing CA. Rules, besides those of the ca package:
// "input-file" (it cannot be read or is none) and those of policies.ParseCSR.
func (s Session) Issue(ctx context.Context, by RootFiles, i Issue) error {
	w, err := s.begin("sign", issuingPEM, issuingDER)
	if err != nil {
		return err
	}
	if err := w.log.add(asked, signFacts{Act: "issue", Lifetime: i.Lifetime.String(), Certificate: i.Addresses.Certificate, CRL: i.Addresses.CRL}); err != nil {
		return err
	}
	raw, err := w.input(i.CSR, "certificate request", false)
	if err != nil {
		return err
	}
	if raw, err = der(raw, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"); err != nil {
		return notA("certificate request", i.CSR, err)
	}
	csr, err := policies.ParseCSR(raw)
	if err != nil {
		return err
	}
	root, err := w.open(ctx, by)
	if err != nil {
		return err
	}
	made, err := root.SignIssuing(csr, i.Lifetime, i.Addresses, s.Now())
	if err != nil {
		return err
	}
	if err := w.certificate(made, issuingPEM, issuingDER); err != nil {
		return err
	}
	return w.end(root)
}

// Publish signs the root's next CRL.
func (s Session) Publish(ctx context.Context, by RootFiles, c CRL) error {
	w, err := s.begin("sign", rootCRL)
	if err != nil {
		return err
	}
	facts := signFacts{Act: "renew-crl", Serial: c.Serial, Reason: c.Reason, CRLLifetime: c.Lifetime.String()}
	if c.Serial != "" {
		facts.Act = "revoke"
	}
	if err := w.log.add(asked, facts); err != nil {
		return err
	}
	raw, err := w.input(c.Previous, "previous CRL", false)
	if err != nil {
		return err
	}
	if raw, err = der(raw, "X509 CRL"); err != nil {
		return notA("CRL", c.Previous, err)
	}
	previous, err := x509.ParseRevocationList(raw)
	if err != nil {
		return notA("CRL", c.Previous, err)
	}
	root, err := w.open(ctx, by)
	if err != nil {
		return err
	}
	next, err := root.NextCRL(previous, c.Serial, c.Reason, s.Now(), c.Lifetime)
	if err != nil {
		return err
	}
	if err := w.crl(next); err != nil {
		return err
	}
	return w.end(root)
}

// open takes up the root.
func (w *work) open(ctx context.Context, by RootFiles) (*ca.Offline, error) {
	raw, err := w.input(by.Certificate, "root certificate", false)
	if err != nil {
		return nil, err
	}
	if raw, err = der(raw, "CERTIFICATE"); err != nil {
		return nil, notA("certificate", by.Certificate, err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, notA("certificate", by.Certificate, err)
	}
	if by.Key != "" {
		if _, err := w.input(by.Key, "private key, encrypted", true); err != nil {
			return nil, err
		}
	}
	signer, err := by.Keys.Open(ctx, by.KeyURI)
	if err != nil {
		return nil, err
	}
	return ca.OpenOffline(certificate, signer, w.Now())
}

func notA(what, path string, err error) error {
	return fault.New(fault.Malformed, "input-file", "The file holds no %s, PEM or DER.", what).About(path).Because(err)
}
