package ca

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// PublishCRL publishes the CRL of a root whose key is not here, as whoever holds the key
// signed it (see Offline.NextCRL): our certificates name an address of ours for it. It must
// be in date, whole, of a number above the last one's, and name every certificate of the root
// that is on record as revoked and has not expired (INV-S7).
//
// Malformed: "crl-issuer" (not signed by this root), "crl-kind", "crl-not-in-date". Conflict:
// "issuer-not-root", "issuer-key-here", "crl-number", "crl-misses-revoked".
func (a *Authority) PublishCRL(ctx context.Context, actor string, id IssuerID, list *x509.RevocationList) error {
	if err := a.Reload(ctx); err != nil {
		return err
	}
	root, now, about := a.current.Load().byID(id), a.now(), "issuer "+string(id)
	switch {
	case root == nil:
		return noIssuer(id)
	case root.Role != RoleRoot:
		return fault.New(fault.Conflict, "issuer-not-root", "Only a root's CRL is brought from elsewhere.").About(about)
	case root.signer != nil:
		return fault.New(fault.Conflict, "issuer-key-here", "The root's key is on this host, which signs its CRLs.").About(about)
	}
	if err := list.CheckSignatureFrom(root.certificate); err != nil {
		return fault.New(fault.Malformed, "crl-issuer", "The CRL is not signed by this root.").About(about).Because(err)
	}
	number, entries, err := carried(list)
	if err != nil {
		return fault.New(fault.Malformed, "crl-kind", "The CRL is not a plain one as a ceremony makes: whole, numbered, with reasons alone.").About(about).Because(err)
	}
	if list.ThisUpdate.After(now.Add(clockSlack)) || !list.NextUpdate.After(now) {
		return fault.New(fault.Malformed, "crl-not-in-date", "The CRL is good from %s to %s.",
			list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339)).About(about)
	}
	named := make(map[Serial]bool, len(entries))
	for _, e := range entries {
		named[e.Serial] = true
	}
	return a.store.Update(ctx, func(tx Tx) error {
		shard, err := tx.CRLShard(id, 0)
		if err != nil {
			return err
		}
		was := publication{shard: shard}
		if err := was.readRevoked(tx, id, now); err != nil {
			return err
		}
		for _, r := range was.revoked {
			if !named[r.Serial] {
				return fault.New(fault.Conflict, "crl-misses-revoked", "The CRL does not name %s, which is revoked here: have it revoked where the root's key is.", r.Serial).About(about)
			}
		}
		err = publish(tx, actor, CRL{
			Issuer: id, Number: number, Entries: len(entries), Covers: shard.Revocations,
			ThisUpdate: list.ThisUpdate.UTC(), NextUpdate: list.NextUpdate.UTC(), DER: list.Raw,
		})
		if err != nil {
			return err
		}
		return tx.PruneCRLs(id, 0, number, number)
	})
}
