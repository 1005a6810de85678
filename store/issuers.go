package store

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

var issuerColumns = cols("t id, t name, t role, t state, t parent, t key_uri, b certificate, i created, i revocations, i crl_number, i crl_covers, i crl_next")

var (
	selectIssuers = statement("SELECT " + issuerColumns.list("") + " FROM issuers ORDER BY created, id")
	// The id's conflict is passed over and counted, so that the unique index that is left
	// to speak up is the one on the active issuer.
	insertIssuer = statement(insert("issuers", issuerColumns) + " ON CONFLICT (id) DO NOTHING").
			missed(exists("issuer")).
			foreign(fault.New(fault.Conflict, "issuer-parent-missing", "The issuer's parent is not on record.")).
			unique(fault.New(fault.Conflict, "issuer-active", "Another issuing CA is active."))
	countRevocation = statement("UPDATE issuers SET revocations = revocations + 1 WHERE id = ?").missed(notFound("issuer"))
)

func scanIssuer(r *row) ca.Issuer {
	return ca.Issuer{
		ID: ca.IssuerID(r.text()), Name: r.text(), Role: ca.Role(r.text()), State: ca.IssuerState(r.text()),
		Parent: ca.IssuerID(r.text()), KeyURI: r.text(), Certificate: r.blob(), Created: r.time(),
		Revocations: r.int(), CRLNumber: r.int(), CRLCovers: r.int(), CRLNext: r.time(),
	}
}

func (t *tx) Issuers() ([]ca.Issuer, error) { return all(t, selectIssuers, scanIssuer) }

func (t *tx) InsertIssuer(i ca.Issuer) error {
	return t.exec(insertIssuer, string(i.ID), i.Name, string(i.Role), string(i.State), string(i.Parent), i.KeyURI,
		octets(i.Certificate), micros(i.Created), i.Revocations, i.CRLNumber, i.CRLCovers, micros(i.CRLNext))
}
