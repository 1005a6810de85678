package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// newDevice makes a device with a certificate of its factory's CA, and a request for one of ours.
func newDevice(base, name string) (d device, err error) {
	authority, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		return d, err
	}
	above, err := x509.ParseCertificate(authority.Certificate[0])
	if err != nil {
		return d, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return d, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}, above, key.Public(), authority.PrivateKey)
	if err != nil {
		return d, err
	}
	d = device{name: name, tls: tls.Certificate{Certificate: [][]byte{der, above.Raw}, PrivateKey: key}}
	d.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	return d, err
}

// page is how many registrations one transaction writes.
const page = 400

// fill writes registrations like that of one device, which came with the same chain. No server
// must be running.
func fill(ctx context.Context, engine store.Engine, pattern string, n int) (err error) {
	jobs := store.New(engine).ProvisioningJobs()
	id, err := verify.ParseRegistrationID(pattern)
	if err != nil {
		return err
	}
	var like provisioning.Registration
	err = jobs.View(ctx, func(tx provisioning.Tx) error {
		like, err = tx.Registration(id)
		return err
	})
	for from := 0; from < n && err == nil; from += page {
		err = jobs.Update(ctx, func(tx provisioning.Tx) error {
			for i := from; i < min(from+page, n); i++ {
				reg, err := variant(like, fmt.Sprintf("dev-%07d", i))
				if err != nil {
					return err
				}
				if err := tx.PutRegistration(reg); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// variant is a registration as another device would have it, without a certificate of ours.
func variant(like provisioning.Registration, name string) (provisioning.Registration, error) {
	id, err := verify.ParseRegistrationID(name)
	like.ID, like.Spelled, like.DeviceID, like.Version = id, name, name, 1
	like.Operation.ID, like.DueAt = "op-"+name, time.Time{}
	like.Pair, like.Certificate, like.Returned = like.Pair.Drop(like.Pair.Current().Ref), provisioning.Registration{}.Certificate, nil
	like.Pair = like.Pair.Drop(like.Pair.Current().Ref)
	return like, err
}
