package ca

import (
	"context"
	"crypto/x509"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Devices' certificates are spread over shards of their issuer, each with a CRL of its own,
// which the certificate names from its issuance on. A shard never has more certificates
// than fit into a CRL of 1 MB, should all of them be revoked.
const (
	// shardSize is how many: an entry takes at most 56 octets (RFC 5280 §5.1).
	shardSize = 16384
	// blockSize is how many places of a shard an Authority takes at a time: one small Update
	// for so many certificates. What is left of a block when the process ends stays empty.
	blockSize = 1024
	// blockLow is how few may be left when the next block is taken, ahead of its need.
	blockLow = 128
	// endsMargin is how much longer a block may be filled than its first certificate needs,
	// so that a shard's end moves once in a while and not with every certificate.
	endsMargin = 7 * 24 * time.Hour
)

// lease is what an Authority may fill of an issuer's shards.
type lease struct {
	block atomic.Pointer[block] // nil: none yet

	taking sync.Mutex // held by who takes the next block
	next   *block     // taken ahead; nil: none
}

// block is places in one shard, for certificates that end by a time.
type block struct {
	shard   int
	address string
	ends    time.Time
	left    atomic.Int64
}

func (b *block) fits(notAfter time.Time) bool { return b != nil && !notAfter.After(b.ends) }

// place finds a place for a certificate that ends at notAfter: its shard and the address
// of that shard's CRL. It reads no database but once in a block, and mostly ahead of its need.
func (a *Authority) place(ctx context.Context, by *issuer, notAfter time.Time) (shard int, address string, err error) {
	for {
		b := by.lease.block.Load()
		if b.fits(notAfter) {
			left := b.left.Add(-1)
			if left == blockLow {
				// A caller that goes away must not take the block along.
				go a.takeAhead(context.WithoutCancel(ctx), by, notAfter)
			}
			if left >= 0 {
				return b.shard, b.address, nil
			}
		}
		if err := a.takeNext(ctx, by, b, notAfter); err != nil {
			return 0, "", err
		}
	}
}

// takeNext puts another block in the place of one that is used up or ends too soon, unless
// somebody else has done so meanwhile.
func (a *Authority) takeNext(ctx context.Context, by *issuer, was *block, notAfter time.Time) error {
	l := by.lease
	l.taking.Lock()
	defer l.taking.Unlock()
	if l.block.Load() != was {
		return nil
	}
	next := l.next
	l.next = nil
	if !next.fits(notAfter) {
		var err error
		if next, err = a.take(ctx, by, notAfter); err != nil {
			return err
		}
	}
	l.block.Store(next)
	return nil
}

// takeAhead takes the next block before it is needed. Should that fail, the certificate that
// needs it will try, and its device will be told.
func (a *Authority) takeAhead(ctx context.Context, by *issuer, notAfter time.Time) {
	l := by.lease
	l.taking.Lock()
	defer l.taking.Unlock()
	if l.next != nil {
		return
	}
	if next, err := a.take(ctx, by, notAfter); err == nil {
		l.next = next
	}
}

// takeTries bounds how often a block is lost to other replicas.
const takeTries = 16

// take reserves a block in the issuer's newest shard or, where that has no room or names
// another address, in a new one. A CRL is published before anything names it, also where the
// shard had ended.
func (a *Authority) take(ctx context.Context, by *issuer, notAfter time.Time) (*block, error) {
	ends := notAfter.Add(endsMargin)
	if end := by.certificate.NotAfter; ends.After(end) {
		ends = end
	}
	for range takeTries {
		var s CRLShard
		err := a.store.Update(ctx, func(tx Tx) (err error) {
			if s, err = tx.NewestShard(by.ID); err != nil {
				return err
			}
			if s.Shard > 0 && s.Issued+blockSize <= shardSize && s.Address == a.shardURL(by.ID, s.Shard) {
				return tx.TakeFromShard(s, blockSize, shardSize, ends)
			}
			s = CRLShard{Issuer: by.ID, Shard: s.Shard + 1, Issued: blockSize, Ends: ends, Address: a.shardURL(by.ID, s.Shard+1)}
			return tx.InsertShard(s)
		})
		if fault.Is(err, fault.Conflict) {
			continue // another replica took the room, or opened the shard
		}
		if now := a.now(); err == nil && !now.Before(s.Next) {
			err = a.publishCRL(ctx, by, s.Shard, now)
		}
		if err != nil {
			return nil, err
		}
		b := &block{shard: s.Shard, address: s.Address, ends: ends}
		b.left.Store(blockSize)
		return b, nil
	}
	return nil, fault.New(fault.Unavailable, "shard-contended", "No room for a certificate could be reserved; try again.").About("issuer " + string(by.ID))
}

// nameStatus writes into a device's certificate where its status is published, and returns
// its shard.
func (a *Authority) nameStatus(ctx context.Context, by *issuer, t *x509.Certificate) (shard int, err error) {
	shard, crl, err := a.place(ctx, by, t.NotAfter)
	if err != nil {
		return 0, err
	}
	t.CRLDistributionPoints = []string{crl}
	t.OCSPServer = a.ocspServer(by.ID)
	if a.config.DeltaCRL {
		t.ExtraExtensions = append(t.ExtraExtensions, freshestCRL(a.deltaURL(by.ID, shard)))
	}
	return shard, nil
}

// shardURL is the address of a shard's CRL.
func (a *Authority) shardURL(id IssuerID, shard int) string {
	if shard == 0 {
		return a.crlURL(id)
	}
	return a.config.PKIURL + "/pki/" + string(id) + "/" + strconv.Itoa(shard) + ".crl"
}

// deltaURL is the address of a shard's delta CRL.
func (a *Authority) deltaURL(id IssuerID, shard int) string {
	return a.config.PKIURL + "/pki/" + string(id) + "/" + strconv.Itoa(shard) + "-delta.crl"
}
