package ca

import "context"

// CRLSize is how large the next whole CRL of a shard would be.
type CRLSize struct {
	Issuer IssuerID
	Shard  int
	Octets int
}

// RehearseCRLs makes the next whole CRL of every shard whose issuer still signs, or has signed for
// it by a ceremony, with keys that are thrown away, and publishes none. It is for a copy of the
// store: no key of an issuer is used.
func (a *Authority) RehearseCRLs(ctx context.Context) (sizes []CRLSize, err error) {
	shards, err := a.CRLShards(ctx)
	if err != nil {
		return nil, err
	}
	h, now := a.current.Load(), a.now()
	for _, shard := range shards {
		i := h.byID(shard.Issuer)
		if !i.stands() || i.State == IssuerRetired || i.Role == RoleExternal || i.Upstream != "" || a.ended(shard, now) {
			continue
		}
		s, err := i.standIn()
		if err != nil {
			return nil, err
		}
		was, err := a.published(ctx, i, shard.Shard, now)
		if err != nil {
			return nil, err
		}
		mute := *i
		mute.certificate, mute.signer = s.certificate, s.signer
		made, err := a.draftCRL(&mute, was, now).sign(nil, &mute, crlList{revoked: was.revoked})
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, CRLSize{shard.Issuer, shard.Shard, len(made[0].DER)})
	}
	return sizes, nil
}
