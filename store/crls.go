package store

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

var (
	shardColumns = cols("t issuer, i shard, i issued, i ends, i revocations, i crl_number, i crl_covers, i crl_next, t address")
	crlColumns   = cols("t issuer, i shard, i number, i base, i this_update, i next_update, i entries, i covers, b der")
)

var (
	selectShards      = statement("SELECT " + shardColumns.list("") + " FROM crl_shards ORDER BY issuer, shard")
	selectShard       = statement("SELECT " + shardColumns.list("") + " FROM crl_shards WHERE issuer = ? AND shard = ?")
	selectNewestShard = statement("SELECT " + shardColumns.list("") + " FROM crl_shards WHERE issuer = ? ORDER BY shard DESC LIMIT 1")
	insertShard       = statement(insert("crl_shards", shardColumns) + " ON CONFLICT (issuer, shard) DO NOTHING").foreign(notFound("issuer")).missed(exists("shard"))
	// One statement holds that a shard never has more certificates than its CRL has room for.
	takeFromShard = statement("UPDATE crl_shards SET issued = issued + ?, ends = CASE WHEN ends < ? THEN ? ELSE ends END " +
		"WHERE issuer = ? AND shard = ? AND issued + ? <= ?").missed(fault.New(fault.Conflict, "shard-full", "The shard has no room for so many certificates."))
	countRevocation = statement("UPDATE crl_shards SET revocations = revocations + 1 WHERE issuer = ? AND shard = ?").missed(notFound("shard"))
)

var (
	selectLatestCRL   = statement("SELECT " + crlColumns.list("") + " FROM crls WHERE issuer = ? AND shard = ? AND base = 0 ORDER BY number DESC LIMIT 1")
	selectLatestDelta = statement("SELECT " + crlColumns.list("") + " FROM crls WHERE issuer = ? AND shard = ? AND base <> 0 ORDER BY number DESC LIMIT 1")
	selectOldestCRL   = statement("SELECT " + crlColumns.list("") + " FROM crls WHERE issuer = ? AND shard = ? AND base = 0 AND next_update > ? ORDER BY number LIMIT 1")
	insertCRL         = statement(insert("crls", crlColumns)).unique(errCRLNumber).foreign(notFound("shard"))
	// One statement holds that numbers grow (INV-S7), and that an older reading of the
	// revocations never replaces a newer one.
	advanceCRL = statement("UPDATE crl_shards SET crl_number = ?, crl_covers = ?, crl_next = ? " +
		"WHERE issuer = ? AND shard = ? AND crl_number < ? AND crl_covers <= ?").missed(errCRLNumber)
	// A delta list leaves the time by which a whole one is due.
	advanceDelta = statement("UPDATE crl_shards SET crl_number = ?, crl_covers = ? " +
		"WHERE issuer = ? AND shard = ? AND crl_number < ? AND crl_covers <= ?").missed(errCRLNumber)
	pruneCRLs = statement("DELETE FROM crls WHERE issuer = ? AND shard = ? AND number < ? AND (base <> 0 OR number < ?) AND number IN " +
		"(SELECT number FROM crls WHERE issuer = ? AND shard = ? AND number < ? AND (base <> 0 OR number < ?) ORDER BY number LIMIT 100)")
)

var errCRLNumber = fault.New(fault.Conflict, "crl-number", "The shard has a CRL of this number, or a later one.")

func scanShard(r *row) ca.CRLShard {
	return ca.CRLShard{
		Issuer: ca.IssuerID(r.text()), Shard: int(r.int()), Issued: r.int(), Ends: r.time(),
		Revocations: r.int(), Number: r.int(), Covers: r.int(), Next: r.time(), Address: r.text(),
	}
}

func scanCRL(r *row) ca.CRL {
	return ca.CRL{
		Issuer: ca.IssuerID(r.text()), Shard: int(r.int()), Number: r.int(), Base: r.int(), ThisUpdate: r.time(), NextUpdate: r.time(),
		Entries: int(r.int()), Covers: r.int(), DER: r.blob(),
	}
}

func (t *tx) CRLShards() ([]ca.CRLShard, error) { return all(t, selectShards, scanShard) }

func (t *tx) CRLShard(issuer ca.IssuerID, shard int) (ca.CRLShard, error) {
	return one(t, selectShard, notFound("shard"), scanShard, string(issuer), int64(shard))
}

func (t *tx) NewestShard(issuer ca.IssuerID) (ca.CRLShard, error) {
	return one(t, selectNewestShard, notFound("issuer"), scanShard, string(issuer))
}

func (t *tx) InsertShard(s ca.CRLShard) error {
	return t.exec(insertShard, string(s.Issuer), int64(s.Shard), s.Issued, micros(s.Ends), s.Revocations, s.Number, s.Covers, micros(s.Next), s.Address)
}

func (t *tx) TakeFromShard(s ca.CRLShard, n, most int64, ends time.Time) error {
	return t.exec(takeFromShard, n, micros(ends), micros(ends), string(s.Issuer), int64(s.Shard), n, most)
}

func (t *tx) InsertCRL(c ca.CRL, deltas ...ca.CRL) error {
	advance, args := advanceCRL, []any{c.Number, c.Covers, micros(c.NextUpdate)}
	if c.Base != 0 {
		advance, args = advanceDelta, args[:2]
	}
	if err := t.exec(advance, append(args, string(c.Issuer), int64(c.Shard), c.Number, c.Covers)...); err != nil {
		return err
	}
	for _, c := range append([]ca.CRL{c}, deltas...) {
		err := t.exec(insertCRL, string(c.Issuer), int64(c.Shard), c.Number, c.Base, micros(c.ThisUpdate), micros(c.NextUpdate), int64(c.Entries), c.Covers, octets(c.DER))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) LatestCRL(issuer ca.IssuerID, shard int) (ca.CRL, error) {
	return one(t, selectLatestCRL, notFound("crl"), scanCRL, string(issuer), int64(shard))
}

func (t *tx) LatestDelta(issuer ca.IssuerID, shard int) (ca.CRL, error) {
	return one(t, selectLatestDelta, notFound("crl"), scanCRL, string(issuer), int64(shard))
}

func (t *tx) OldestCRL(issuer ca.IssuerID, shard int, at time.Time) (ca.CRL, error) {
	return one(t, selectOldestCRL, notFound("crl"), scanCRL, string(issuer), int64(shard), micros(at))
}

func (t *tx) PruneCRLs(issuer ca.IssuerID, shard int, whole, deltas int64) error {
	id, n := string(issuer), int64(shard)
	return t.exec(pruneCRLs, id, n, deltas, whole, id, n, deltas, whole)
}
