package main

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	"github.com/passmuster/muster/device"
)

// factory is a CA that gives each device the certificate it leaves the line with.
type factory struct {
	certificate *x509.Certificate
	key         crypto.PrivateKey
}

func openFactory(certFile, keyFile string) (*factory, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	return &factory{cert, pair.PrivateKey}, err
}

// credential makes a device's onboarding credential: good for a year.
func (f *factory) credential(id string) (device.Credential, error) {
	key, err := device.NewKey(device.P256)
	if err != nil {
		return device.Credential{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return device.Credential{}, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: id}, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, f.certificate, key.Public(), f.key)
	if err != nil {
		return device.Credential{}, err
	}
	return device.Credential{Certificate: &tls.Certificate{Certificate: [][]byte{der, f.certificate.Raw}, PrivateKey: key}}, nil
}
