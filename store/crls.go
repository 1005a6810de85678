package store

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

var crlColumns = cols("t issuer, i number, i this_update, i next_update, i entries, i covers, b der")

var (
	selectLatestCRL = statement("SELECT " + crlColumns.list("") + " FROM crls WHERE issuer = ? ORDER BY number DESC LIMIT 1")
	insertCRL       = statement(insert("crls", crlColumns)).unique(errCRLNumber).foreign(notFound("issuer"))
	// One statement holds that numbers grow (INV-S7), and that an older reading of the
	// revocations never replaces a newer one.
	advanceCRL = statement("UPDATE issuers SET crl_number = ?, crl_covers = ?, crl_next = ? WHERE id = ? AND crl_number < ? AND crl_covers <= ?").
			missed(errCRLNumber)
)

var errCRLNumber = fault.New(fault.Conflict, "crl-number", "The issuer has a CRL of this number, or a later one.")

func scanCRL(r *row) ca.CRL {
	return ca.CRL{
		Issuer: ca.IssuerID(r.text()), Number: r.int(), ThisUpdate: r.time(), NextUpdate: r.time(),
		Entries: int(r.int()), Covers: r.int(), DER: r.blob(),
	}
}

func (t *tx) InsertCRL(c ca.CRL) error {
	if err := t.exec(advanceCRL, c.Number, c.Covers, micros(c.NextUpdate), string(c.Issuer), c.Number, c.Covers); err != nil {
		return err
	}
	return t.exec(insertCRL, string(c.Issuer), c.Number, micros(c.ThisUpdate), micros(c.NextUpdate), int64(c.Entries), c.Covers, octets(c.DER))
}

func (t *tx) LatestCRL(issuer ca.IssuerID) (ca.CRL, error) {
	return one(t, selectLatestCRL, notFound("crl"), scanCRL, string(issuer))
}
