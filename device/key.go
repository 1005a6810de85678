package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
)

// KeyType names a kind of private key.
type KeyType string

// The kinds a device can make. Servers accept Ed25519 only by profile (INV-P5).
const (
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	RSA2048 KeyType = "rsa2048"
	Ed25519 KeyType = "ed25519"
)

// NewKey makes a private key; the empty KeyType means P256.
func NewKey(kind KeyType) (crypto.Signer, error) {
	switch kind {
	case P256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("device: %q is not a key type", kind)
}

// NewCSR makes a PKCS#10 request in DER with CN = registration id and nothing else:
// names and extensions are the server's to give (INV-P2, INV-P4).
func NewCSR(key crypto.Signer, registrationID string) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: registrationID}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("device: making the certificate request: %w", err)
	}
	return der, nil
}

// keyInTPM is a key that a TPM made: it writes itself.
type keyInTPM interface{ MarshalPEM() ([]byte, error) }

func inTPM(key crypto.Signer) bool {
	_, ok := key.(keyInTPM)
	return ok
}

func marshalKey(key crypto.Signer) ([]byte, error) {
	if own, ok := key.(keyInTPM); ok {
		return own.MarshalPEM()
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("device: writing the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads a key, with the TPM that it may be in.
func parseKey(text []byte, chip TPM) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block != nil && block.Type == tpmKeyBlock {
		if chip == nil {
			return nil, errKeyInTPM
		}
		return chip.ParseKey(text)
	}
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("device: no PKCS#8 private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("device: the private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("device: the private key cannot sign")
	}
	return signer, nil
}

func marshalCertificates(certs []*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return certs, nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("device: a stored certificate: %w", err)
		}
		certs = append(certs, cert)
	}
}
