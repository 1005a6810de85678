package ca_test

import (
	"bytes"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

func (r *rows) CRLShard(issuer ca.IssuerID, shard int) (ca.CRLShard, error) {
	return *r.shard(issuer, shard), nil
}

func (r *rows) NewestShard(issuer ca.IssuerID) (newest ca.CRLShard, err error) {
	err = fault.New(fault.NotFound, "issuer-not-found", "")
	for _, s := range r.shards {
		if s.Issuer == issuer && s.Shard >= newest.Shard {
			newest, err = s, nil
		}
	}
	return newest, err
}

func (r *rows) InsertShard(s ca.CRLShard) error {
	for _, other := range r.shards {
		if other.Issuer == s.Issuer && other.Shard == s.Shard {
			return fault.New(fault.Conflict, "shard-exists", "")
		}
	}
	r.shards = append(r.shards, s)
	return nil
}

func (r *rows) TakeFromShard(s ca.CRLShard, n, most int64, ends time.Time) error {
	row := r.shard(s.Issuer, s.Shard)
	if row.Issued+n > most {
		return fault.New(fault.Conflict, "shard-full", "")
	}
	row.Issued += n
	if ends.After(row.Ends) {
		row.Ends = ends
	}
	return nil
}

func (r *rows) LatestDelta(issuer ca.IssuerID, shard int) (ca.CRL, error) {
	for _, c := range slices.Backward(r.crls) {
		if c.Issuer == issuer && c.Shard == shard && c.Base != 0 {
			return c, nil
		}
	}
	return ca.CRL{}, fault.New(fault.NotFound, "no-crl", "")
}

func (r *rows) OldestCRL(issuer ca.IssuerID, shard int, at time.Time) (ca.CRL, error) {
	for _, c := range r.crls {
		if c.Issuer == issuer && c.Shard == shard && c.Base == 0 && c.NextUpdate.After(at) {
			return c, nil
		}
	}
	return ca.CRL{}, fault.New(fault.NotFound, "no-crl", "")
}

func (r *rows) PruneCRLs(issuer ca.IssuerID, shard int, whole, deltas int64) error {
	r.crls = slices.DeleteFunc(r.crls, func(c ca.CRL) bool {
		return c.Issuer == issuer && c.Shard == shard && c.Number < deltas && (c.Base != 0 || c.Number < whole)
	})
	return nil
}

func (r *rows) CertificateStatus(issuer ca.IssuerID, serial ca.Serial) (ca.Revocation, error) {
	c, err := r.Certificate(issuer, serial)
	for _, i := range r.issuers {
		if i.ID == issuer && i.State == ca.IssuerRevoked && !c.IsRevoked() {
			c.RevokedAt, c.Reason = i.RetireAt.Truncate(time.Second), ca.Unspecified
		}
	}
	return ca.Revocation{Serial: serial, RevokedAt: c.RevokedAt, Reason: c.Reason}, err
}

func (r *rows) OCSPResponder(issuer ca.IssuerID) (ca.OCSPResponder, error) {
	for _, x := range r.responders {
		if x.Issuer == issuer {
			return x, nil
		}
	}
	return ca.OCSPResponder{}, fault.New(fault.NotFound, "responder-not-found", "")
}

func (r *rows) PutOCSPResponder(x ca.OCSPResponder, before []byte) error {
	i := slices.IndexFunc(r.responders, func(y ca.OCSPResponder) bool { return y.Issuer == x.Issuer })
	switch {
	case i < 0 && before == nil:
		r.responders = append(r.responders, x)
	case i >= 0 && bytes.Equal(r.responders[i].Certificate, before):
		r.responders[i] = x
	default:
		return fault.New(fault.Conflict, "responder-moved", "")
	}
	return nil
}
