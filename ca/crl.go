package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// crlActor is who publishes in the ledger.
const crlActor = "job:crl"

// crlPage is how many revoked certificates are read at a time.
const crlPage = 500

// PublishedCRL is the latest CRL of an issuer; fault.NotFound where there is none.
func (a *Authority) PublishedCRL(ctx context.Context, id IssuerID) (CRL, error) {
	var crl CRL
	err := a.store.View(ctx, func(tx Tx) (err error) {
		crl, err = tx.LatestCRL(id, 0)
		return err
	})
	return crl, err
}

// SweepCRLs signs a CRL for every issuer whose key is here and that has none yet, has
// revocations its latest CRL does not cover, or whose latest CRL is past its refresh
// point. It may run at any time and on several replicas: of two CRLs with one number
// the store keeps the first, and what that one does not cover is due again.
//
// An issuer whose key is elsewhere, such as an offline root, or that has expired is
// passed over. One issuer's failure does not hold up the others; all are reported.
func (a *Authority) SweepCRLs(ctx context.Context) error {
	shards, err := a.CRLShards(ctx)
	if err != nil {
		return err
	}
	now := a.now().UTC().Truncate(time.Second)
	h := a.current.Load()
	var failed []error
	for _, shard := range shards {
		i := h.byID(shard.Issuer)
		if i == nil || i.signer == nil || now.After(i.certificate.NotAfter) || !a.crlDue(shard, now) {
			continue
		}
		if err := a.publishCRL(ctx, i, shard.Shard, now); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// CRLShards lists the shards of all issuers, read now.
func (a *Authority) CRLShards(ctx context.Context) ([]CRLShard, error) {
	var shards []CRLShard
	err := a.store.View(ctx, func(tx Tx) (err error) {
		shards, err = tx.CRLShards()
		return err
	})
	return shards, err
}

func (a *Authority) crlDue(s CRLShard, now time.Time) bool {
	left := time.Duration((1 - a.config.CRLRefresh) * float64(a.config.CRLLifetime))
	return s.Number == 0 || s.Revocations > s.Covers || !now.Before(s.Next.Add(-left))
}

func (a *Authority) publishCRL(ctx context.Context, i *issuer, shard int, now time.Time) error {
	latest, revoked, err := a.revokedBy(ctx, i, shard, now)
	if err != nil {
		return err
	}
	crl, err := signCRL(i, latest, revoked, now, a.config.CRLLifetime)
	if err != nil {
		return err
	}
	err = a.store.Update(ctx, func(tx Tx) error { return publish(tx, crl, crlActor) })
	if fault.Is(err, fault.Conflict) {
		return nil // another replica was first
	}
	return err
}

// revokedBy reads what the next CRL lists. The shard's row is read before the
// entries: if the View is no snapshot, entries may be more than Revocations says, and
// the next sweep signs once more for nothing; the other way round one would be lost.
//
// An expired certificate stays until a CRL that was signed regularly after its expiry
// (RFC 5280 §3.3). A CRL signed early, for a new revocation, is not such a one, so an
// entry stays a whole CRL lifetime longer than the CRL before this.
func (a *Authority) revokedBy(ctx context.Context, i *issuer, shard int, now time.Time) (latest CRLShard, revoked []Certificate, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		revoked = nil
		if latest, err = shardIn(tx, i.ID, shard); err != nil {
			return err
		}
		since := i.certificate.NotBefore
		switch crl, err := tx.LatestCRL(i.ID, shard); {
		case err == nil:
			since = crl.ThisUpdate.Add(-a.config.CRLLifetime)
		case !fault.Is(err, fault.NotFound):
			return err
		}
		var after Serial
		for {
			page, err := tx.RevokedCertificates(i.ID, shard, since, after, crlPage)
			if err != nil {
				return err
			}
			revoked = append(revoked, page...)
			if len(page) < crlPage {
				return nil
			}
			after = page[len(page)-1].Serial
		}
	})
	return latest, revoked, err
}

func shardIn(tx Tx, id IssuerID, shard int) (CRLShard, error) {
	rows, err := tx.CRLShards()
	if err != nil {
		return CRLShard{}, err
	}
	for _, row := range rows {
		if row.Issuer == id && row.Shard == shard {
			return row, nil
		}
	}
	return CRLShard{}, noIssuer(id)
}

// signCRL signs a shard's next CRL (RFC 5280 §5): a full one, with authority key
// identifier and number. The reason "unspecified" is left out (§5.3.1).
func signCRL(i *issuer, shard CRLShard, revoked []Certificate, now time.Time, lifetime time.Duration) (CRL, error) {
	crl := CRL{
		Issuer: i.ID, Shard: shard.Shard, Number: shard.Number + 1, Entries: len(revoked), Covers: shard.Revocations,
		ThisUpdate: now.UTC().Truncate(time.Second),
	}
	crl.NextUpdate = crl.ThisUpdate.Add(lifetime)
	template := &x509.RevocationList{
		Number:                    big.NewInt(crl.Number),
		ThisUpdate:                crl.ThisUpdate,
		NextUpdate:                crl.NextUpdate,
		RevokedCertificateEntries: make([]x509.RevocationListEntry, 0, len(revoked)),
	}
	for _, c := range revoked {
		serial, err := c.Serial.number()
		code, known := c.Reason.code()
		if err != nil || !known {
			return CRL{}, fault.New(fault.Internal, "certificate-damaged", "A revoked certificate's row cannot be read.").
				About("certificate " + string(c.Serial)).Because(err)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: serial, RevocationTime: c.RevokedAt.UTC(), ReasonCode: code,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, i.certificate, i.signer)
	if err != nil {
		return CRL{}, fault.New(fault.Unavailable, "signing-failed", "The issuer's key could not sign.").About("issuer " + string(i.ID)).Because(err)
	}
	crl.DER = der
	return crl, nil
}

// publish puts a CRL and its ledger entry into a transaction.
func publish(tx Tx, crl CRL, actor string) error {
	if err := tx.InsertCRL(crl); err != nil {
		return err
	}
	return tx.Append(audit.Event{
		At: crl.ThisUpdate, Actor: actor, Action: audit.CRLPublished, Subject: "issuer:" + string(crl.Issuer),
		Body: audit.Body(map[string]any{"number": crl.Number, "entries": crl.Entries, "nextUpdate": crl.NextUpdate}),
	})
}
