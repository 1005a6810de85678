package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

// filled says what fill wrote, and what it takes on disk with its indexes.
type filled struct {
	certificates, devices int
	certificateBytes      float64 // each, with its ledger row
	deviceBytes           float64 // each: enrollment, credential, registration
	took                  time.Duration
	sample                ca.Certificate // one from the middle
}

const (
	patternPrefix = "fill-0" // "load" adds six digits
	pageRows      = 250      // an Update has at most 500 writes
	history       = 90 * 24 * time.Hour
)

// pattern is one device that really enrolled.
type pattern struct {
	id           string
	certificate  ca.Certificate
	event        audit.Event
	registration provisioning.Registration
}

// fill writes n certificates, ten for each device, as if issued over the last 90 days,
// and then the devices: an enrollment by name that pins a certificate, and a
// registration. The server must not be running.
func fill(ctx context.Context, path string, n int) (f filled, err error) {
	began := time.Now()
	f.certificates, f.devices = n, n/10
	before, err := size(path)
	if err != nil {
		return f, err
	}
	engine, p, err := openPattern(ctx, path)
	if err != nil {
		return f, err
	}
	now := time.Now()
	err = pages(ctx, engine, n, func(tx provisioning.Tx, i int) error {
		c := p.variant(i%f.devices, i, now.Add(-history/time.Duration(n)*time.Duration(n-i)))
		if i == n/2 {
			f.sample = c
		}
		if err := tx.InsertCertificate(c); err != nil {
			return err
		}
		return tx.Append(p.told(c))
	})
	// Closing writes the log back into the file.
	if err = errors.Join(err, engine.Close()); err != nil {
		return f, err
	}
	between, err := size(path)
	if err != nil {
		return f, err
	}
	if engine, p, err = openPattern(ctx, path); err != nil {
		return f, err
	}
	err = pages(ctx, engine, f.devices, func(tx provisioning.Tx, i int) error {
		c := p.variant(i, n+i, now)
		owner := provisioning.Owner{Kind: provisioning.Individual, ID: c.RegistrationID}
		if err := tx.InsertEnrollment(p.enrollment(owner, c, now)); err != nil {
			return err
		}
		r, err := p.registered(owner, c)
		if err != nil {
			return err
		}
		return tx.PutRegistration(r)
	})
	if err = errors.Join(err, engine.Close()); err != nil {
		return f, err
	}
	after, err := size(path)
	f.certificateBytes, f.deviceBytes = (between-before)/float64(n), (after-between)/float64(f.devices)
	f.took = time.Since(began)
	return f, err
}

func size(path string) (float64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()), nil
}

// openPattern opens the store and reads the pattern device.
func openPattern(ctx context.Context, path string) (*sqlite.Engine, pattern, error) {
	var p pattern
	p.id = patternPrefix + "000000"
	id, err := verify.ParseRegistrationID(p.id)
	if err != nil {
		return nil, p, err
	}
	engine, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, p, err
	}
	err = store.New(engine).ProvisioningJobs().View(ctx, func(tx provisioning.Tx) error {
		var err error
		if p.registration, err = tx.Registration(id); err != nil {
			return err
		}
		if p.certificate, err = tx.Certificate(p.registration.Certificate.Issuer, p.registration.Certificate.Serial); err != nil {
			return err
		}
		entries, err := tx.LedgerEntries(provisioning.LedgerFilter{Limit: 1, Action: audit.Issued, Subject: "registration:" + p.id})
		if err == nil && len(entries) == 0 {
			err = errors.New("the pattern device's certificate is not in the ledger")
		}
		if err == nil {
			p.event = entries[0].Event
		}
		return err
	})
	if err != nil {
		return nil, p, errors.Join(err, engine.Close())
	}
	return engine, p, nil
}

// pages runs write for 0 to n-1, a page of them in each Update.
func pages(ctx context.Context, engine *sqlite.Engine, n int, write func(provisioning.Tx, int) error) error {
	jobs := store.New(engine).ProvisioningJobs()
	for from := 0; from < n; from += pageRows {
		err := jobs.Update(ctx, func(tx provisioning.Tx) error {
			for i := from; i < min(from+pageRows, n); i++ {
				if err := write(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// variant is the pattern's certificate as device number d would have got it, with the
// serial number of seq. Names and serials keep their length, so the DER keeps its form.
func (p pattern) variant(d, seq int, issued time.Time) ca.Certificate {
	c := p.certificate
	id := p.name(d)
	serial := sha256.Sum256(fmt.Append(nil, "serial ", seq))
	binary.BigEndian.PutUint32(serial[:4], uint32(issued.Unix()/60)) // as package ca makes them
	old, err := hex.DecodeString(string(c.Serial))
	parsed, idErr := verify.ParseRegistrationID(id)
	if err := errors.Join(err, idErr); err != nil {
		panic("internal error: " + err.Error())
	}
	c.Serial = ca.Serial(hex.EncodeToString(serial[:len(old)]))
	c.DER = bytes.Replace(bytes.ReplaceAll(c.DER, []byte(p.id), []byte(id)), old, serial[:len(old)], 1)
	c.Thumbprint = verify.ThumbprintOf(c.DER)
	c.KeyHash = sha256.Sum256(fmt.Append(nil, "key ", seq))
	c.RegistrationID = parsed
	c.Issued, c.NotBefore, c.NotAfter = issued, issued.Add(-5*time.Minute), issued.Add(90*24*time.Hour)
	return c
}

func (p pattern) name(d int) string {
	return patternPrefix[:len(patternPrefix)-1] + fmt.Sprintf("%07d", d+1)
}

// told is the pattern's ledger row as it would be of c.
func (p pattern) told(c ca.Certificate) audit.Event {
	swap := strings.NewReplacer(p.id, c.RegistrationID.String(), string(p.certificate.Serial), string(c.Serial),
		p.certificate.Thumbprint.String(), c.Thumbprint.String())
	e := p.event
	e.At, e.Actor, e.Subject = c.Issued, swap.Replace(e.Actor), swap.Replace(e.Subject)
	e.Body = []byte(swap.Replace(string(e.Body)))
	return e
}

func (p pattern) enrollment(o provisioning.Owner, c ca.Certificate, now time.Time) provisioning.Enrollment {
	return provisioning.Enrollment{
		Owner: o, Spelled: o.ID.String(), Enabled: true, Allocation: "hashed", Profile: "default",
		Credentials: []provisioning.Credential{{Role: provisioning.RoleClient, State: rotation.Active, Slot: rotation.Primary, Certificate: c.DER}},
		Created:     now, Updated: now, Version: 1,
	}
}

func (p pattern) registered(o provisioning.Owner, c ca.Certificate) (provisioning.Registration, error) {
	r := p.registration
	r.ID, r.Spelled, r.DeviceID, r.Owner, r.Version = o.ID, o.ID.String(), o.ID.String(), o, 1
	r.Certificate = provisioning.CertificateRef{Issuer: c.Issuer, Serial: c.Serial}
	r.Leaf, r.LeafKey = c.Thumbprint, c.KeyHash
	var err error
	r.Pair, err = rotation.Pair{}.Stage(rotation.Ref(c.Thumbprint), c.NotBefore, c.NotAfter)
	return r, err
}
