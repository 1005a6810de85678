package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

const (
	// shardSize is how many certificates package ca puts into one shard at the most.
	shardSize = 16384
	pageRows  = 250 // an Update has at most 500 writes
	derBytes  = 640 // of a device's certificate
)

// stock is a store with an issuer, in this process.
type stock struct {
	engine    *sqlite.Engine
	db        *store.DB
	authority *ca.Authority
	issuer    ca.IssuerID
	now       time.Time
}

func openStock(ctx context.Context, dir string) (*stock, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	engine, err := sqlite.Open(ctx, filepath.Join(dir, "muster.db"), sqlite.Options{})
	if err != nil {
		return nil, err
	}
	s := &stock{engine: engine, db: store.New(engine), now: time.Now()}
	if err := s.furnish(ctx, dir); err != nil {
		_ = engine.Close() // it is thrown away
		return nil, err
	}
	return s, nil
}

func (s *stock) furnish(ctx context.Context, dir string) error {
	if err := s.engine.Migrate(ctx); err != nil {
		return err
	}
	folder, err := keys.OpenFolder(filepath.Join(dir, "keys"), nil)
	if err != nil {
		return err
	}
	if s.authority, err = ca.New(ctx, s.db.CAJobs(), folder, ca.Config{PKIURL: "http://pki.example.net"}, time.Now); err != nil {
		return err
	}
	root, err := s.authority.CreateRoot(ctx, "operator:bench", ca.RootRequest{Name: "Bench Root"})
	if err != nil {
		return err
	}
	issuing, err := s.authority.CreateIssuing(ctx, "operator:bench", root.ID, ca.IssuingRequest{Name: "Bench Issuing"})
	s.issuer = issuing.ID
	return err
}

// fill writes certificates number from to from+n, revoked or not, a shard full after the other.
func (s *stock) fill(ctx context.Context, from, n int, revoked bool) error {
	jobs := s.db.ProvisioningJobs()
	for page := from; page < from+n; page += pageRows {
		err := jobs.Update(ctx, func(tx provisioning.Tx) error {
			for i := page; i < min(page+pageRows, from+n); i++ {
				if i%shardSize == 0 {
					if err := tx.InsertShard(s.shard(i, revoked)); err != nil {
						return err
					}
				}
				c, err := s.certificate(i, revoked)
				if err != nil {
					return err
				}
				if err := tx.InsertCertificate(c); err != nil {
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

// shard is the one that begins with certificate number i.
func (s *stock) shard(i int, revoked bool) ca.CRLShard {
	n := i/shardSize + 1
	row := ca.CRLShard{
		Issuer: s.issuer, Shard: n, Issued: shardSize, Ends: s.now.Add(90 * 24 * time.Hour),
		Address: fmt.Sprintf("http://pki.example.net/pki/%s/%d.crl", s.issuer, n),
	}
	if revoked {
		row.Revocations = shardSize
	}
	return row
}

func (s *stock) certificate(i int, revoked bool) (ca.Certificate, error) {
	serial := sha256.Sum256(fmt.Append(nil, "serial ", i))
	binary.BigEndian.PutUint32(serial[:4], uint32(s.now.Unix()/60)-uint32(i/8)) // as package ca makes them, newest first
	id, err := verify.ParseRegistrationID(fmt.Sprintf("device-%07d", i/10))
	if err != nil {
		return ca.Certificate{}, err
	}
	c := ca.Certificate{
		Issuer: s.issuer, Serial: ca.Serial(hex.EncodeToString(serial[:20])), Thumbprint: sha256.Sum256(serial[:]), KeyHash: sha256.Sum256(serial[1:]),
		RegistrationID: id, NotBefore: s.now.Add(-time.Hour), NotAfter: s.now.Add(80 * 24 * time.Hour), Issued: s.now.Add(-time.Hour),
		Shard: i/shardSize + 1, DER: make([]byte, derBytes),
	}
	if revoked {
		c.RevokedAt, c.Reason = s.now.Truncate(time.Second), ca.Superseded
	}
	return c, nil
}
