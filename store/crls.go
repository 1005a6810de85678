package store

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

var (
	shardColumns = cols("t issuer, i shard, i issued, i ends, i revocations, i crl_number, i crl_covers, i crl_next")
	crlColumns   = cols("t issuer, i shard, i number, i base, i this_update, i next_update, i entries, i covers, b der")
)

var (
	selectShards    = statement("SELECT " + shardColumns.list("") + " FROM crl_shards ORDER BY issuer, shard")
	insertShard     = statement(insert("crl_shards", shardColumns) + " ON CONFLICT (issuer, shard) DO NOTHING").foreign(notFound("issuer"))
	countRevocation = statement("UPDATE crl_shards SET revocations = revocations + 1 WHERE issuer = ? AND shard = ?").missed(notFound("shard"))
	selectLatestCRL = statement("SELECT " + crlColumns.list("") + " FROM crls WHERE issuer = ? AND shard = ? AND base = 0 ORDER BY number DESC LIMIT 1")
	insertCRL       = statement(insert("crls", crlColumns)).unique(errCRLNumber).foreign(notFound("shard"))
	// One statement holds that numbers grow (INV-S7), and that an older reading of the
	// revocations never replaces a newer one.
	advanceCRL = statement("UPDATE crl_shards SET crl_number = ?, crl_covers = ?, crl_next = ? " +
		"WHERE issuer = ? AND shard = ? AND crl_number < ? AND crl_covers <= ?").missed(errCRLNumber)
)

var errCRLNumber = fault.New(fault.Conflict, "crl-number", "The shard has a CRL of this number, or a later one.")

func scanShard(r *row) ca.CRLShard {
	return ca.CRLShard{
		Issuer: ca.IssuerID(r.text()), Shard: int(r.int()), Issued: r.int(), Ends: r.time(),
		Revocations: r.int(), Number: r.int(), Covers: r.int(), Next: r.time(),
	}
}

func scanCRL(r *row) ca.CRL {
	return ca.CRL{
		Issuer: ca.IssuerID(r.text()), Shard: int(r.int()), Number: r.int(), Base: r.int(), ThisUpdate: r.time(), NextUpdate: r.time(),
		Entries: int(r.int()), Covers: r.int(), DER: r.blob(),
	}
}

func (t *tx) CRLShards() ([]ca.CRLShard, error) { return all(t, selectShards, scanShard) }

func (t *tx) insertShard(s ca.CRLShard) error {
	return t.exec(insertShard, string(s.Issuer), int64(s.Shard), s.Issued, micros(s.Ends), s.Revocations, s.Number, s.Covers, micros(s.Next))
}

func (t *tx) InsertCRL(c ca.CRL) error {
	if err := t.exec(advanceCRL, c.Number, c.Covers, micros(c.NextUpdate), string(c.Issuer), int64(c.Shard), c.Number, c.Covers); err != nil {
		return err
	}
	return t.exec(insertCRL, string(c.Issuer), int64(c.Shard), c.Number, c.Base, micros(c.ThisUpdate), micros(c.NextUpdate), int64(c.Entries), c.Covers, octets(c.DER))
}

func (t *tx) LatestCRL(issuer ca.IssuerID, shard int) (ca.CRL, error) {
	return one(t, selectLatestCRL, notFound("crl"), scanCRL, string(issuer), int64(shard))
}
