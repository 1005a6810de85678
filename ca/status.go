package ca

import (
	"context"
	"errors"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
)

// Revocation is what a CRL or an OCSP answer says of one certificate. A zero RevokedAt
// means that it is not revoked.
type Revocation struct {
	Serial    Serial
	RevokedAt time.Time
	Reason    Reason
}

// OCSPResponder is who signs OCSP answers for an issuer (RFC 6960 §2.6): a certificate of
// the issuer's own and its key, which is sealed for this row (INV-K2).
type OCSPResponder struct {
	Issuer      IssuerID
	Certificate []byte // DER
	SealedKey   []byte // PKCS #8, sealed
	NotAfter    time.Time
}

// StatusTx is what CRL shards, delta lists and OCSP answers need of a transaction.
type StatusTx interface {
	// CRLShard is one shard, and NewestShard an issuer's of the highest number.
	CRLShard(issuer IssuerID, shard int) (CRLShard, error)
	NewestShard(issuer IssuerID) (CRLShard, error)
	// InsertShard fails with fault.Conflict, rule "shard-exists".
	InsertShard(CRLShard) error
	// TakeFromShard adds n to a shard's Issued and moves its Ends to no less than ends;
	// fault.Conflict, rule "shard-full", where Issued would be above most.
	TakeFromShard(s CRLShard, n, most int64, ends time.Time) error
	// LatestDelta is the latest delta CRL of a shard.
	LatestDelta(issuer IssuerID, shard int) (CRL, error)
	// OldestCRL is the oldest whole CRL of a shard whose nextUpdate is after a time.
	OldestCRL(issuer IssuerID, shard int, at time.Time) (CRL, error)
	// PruneCRLs deletes the whole CRLs with numbers below whole and the delta CRLs below
	// deltas, which is no less: at most 100, the oldest first.
	PruneCRLs(issuer IssuerID, shard int, whole, deltas int64) error
	// CertificateStatus reads no more of a certificate than an OCSP answer says. One whose issuer
	// is revoked is revoked since then, unless it was before.
	CertificateStatus(issuer IssuerID, serial Serial) (Revocation, error)
	OCSPResponder(issuer IssuerID) (OCSPResponder, error)
	// PutOCSPResponder replaces the responder whose certificate was before, which is nil for
	// none; fault.Conflict, rule "responder-moved", when another one is there.
	PutOCSPResponder(r OCSPResponder, before []byte) error
}

// StatusConfig is what an Authority is told about the status it publishes.
type StatusConfig struct {
	// DeltaCRL has revocations published in delta CRLs (RFC 5280 §5.2.4) until the next
	// whole CRL is due by its age.
	DeltaCRL bool
	// Box seals the keys of OCSP responders. Without one this Authority has none: it answers
	// no OCSP request and writes no OCSP address into certificates.
	Box *seal.Box
	// OmitOCSP leaves the OCSP address out of certificates all the same.
	OmitOCSP bool
	// OCSPLifetime is the time from an answer's thisUpdate to its nextUpdate; zero is 12 hours.
	OCSPLifetime time.Duration
}

func (c StatusConfig) checked() (StatusConfig, error) {
	if c.OCSPLifetime == 0 {
		c.OCSPLifetime = 12 * time.Hour
	}
	// A responder's certificate is renewed when half its life is over, and outlives its answers.
	if c.OCSPLifetime < time.Hour || c.OCSPLifetime > responderLifetime/2 {
		return c, fault.New(fault.Malformed, "ocsp-lifetime", "An OCSP answer lives between 1 hour and %d hours.", int(responderLifetime.Hours()/2)).At("/ocspLifetime")
	}
	return c, nil
}

// SweepStatus does all that keeps status good: SweepResponders, and SweepCRLs.
func (a *Authority) SweepStatus(ctx context.Context) error {
	return errors.Join(a.SweepResponders(ctx), a.SweepCRLs(ctx))
}
