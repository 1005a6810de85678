package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/test/instance"
	"github.com/passmuster/muster/verify"
)

// fleet is an installation's individual enrollments, in stretches by the order of their ids:
// one whose enrollments each pin a certificate of their own, one of symmetric keys, and again.
type fleet struct {
	stretch   int // enrollments
	stretches int // an even number
	patterns  [2]provisioning.Enrollment
}

// The patterns' ids: as long as those that fleet writes.
var patternIDs = [2]string{"fleet-pattern-x509", "fleet-pattern-keys"}

// newFleet is of about n enrollments: the longest stretches of which there are six.
func newFleet(n int) (fleet, error) {
	stretch := min(maxPages*pageSize, n/6/pageSize*pageSize)
	if stretch == 0 {
		return fleet{}, fmt.Errorf("%d enrollments at least", 6*pageSize)
	}
	return fleet{stretch: stretch, stretches: n / stretch &^ 1}, nil
}

func (f *fleet) size() int { return f.stretch * f.stretches }

// enroll has the server itself make the patterns.
func (f *fleet) enroll(ctx context.Context, s *instance.Instance) error {
	der, err := leaf(patternIDs[0])
	if err != nil {
		return err
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return errors.Join(
		s.Call(ctx, "PUT", "/enrollments/"+patternIDs[0], instance.Object{"attestation": instance.Object{
			"type": "x509", "x509": instance.Object{"clientCertificates": instance.Object{"primary": instance.Object{"certificate": text}}},
		}}, nil),
		s.Call(ctx, "PUT", "/enrollments/"+patternIDs[1], instance.Object{"attestation": instance.Object{"type": "symmetricKey"}}, nil))
}

// leaf is a certificate as a factory makes it.
func leaf(name string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(1), 120), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

// write puts the fleet in the patterns' place. The server must not be running.
func (f *fleet) write(ctx context.Context, folder string) (err error) {
	engine, err := sqlite.Open(ctx, filepath.Join(folder, "muster.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	err = store.New(engine).ProvisioningJobs().Update(ctx, func(tx provisioning.Tx) error {
		for n, name := range patternIDs {
			id, err := verify.ParseRegistrationID(name)
			if err != nil {
				return err
			}
			if f.patterns[n], err = tx.Enrollment(provisioning.Owner{ID: id}); err != nil {
				return err
			}
			if err := tx.DeleteEnrollment(f.patterns[n].Owner, f.patterns[n].Version); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return pages(ctx, engine, f.size(), func(tx provisioning.Tx, i int) error {
		e, err := f.enrollment(i)
		if err != nil {
			return err
		}
		return tx.InsertEnrollment(e)
	})
}

// enrollment is number i by the order of ids. Its keys would not open, as they were sealed for
// the pattern, nor would its certificate's signature hold: a query looks at neither.
func (f *fleet) enrollment(i int) (provisioning.Enrollment, error) {
	n := i / f.stretch % 2
	name := fmt.Sprintf("fleet-%012d", i)
	id, err := verify.ParseRegistrationID(name)
	e := f.patterns[n]
	e.Owner.ID, e.Spelled, e.Credentials = id, name, nil
	for _, c := range f.patterns[n].Credentials {
		c.Certificate = bytes.ReplaceAll(c.Certificate, []byte(patternIDs[n]), []byte(name))
		e.Credentials = append(e.Credentials, c)
	}
	return e, err
}
