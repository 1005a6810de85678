package store

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

var issuerColumns = cols("t id, t name, t role, t profile, t state, i slot, i retire_at, t parent, t key_uri, t upstream, b certificate, i created")

var (
	selectIssuers = statement("SELECT " + issuerColumns.list("") + " FROM issuers ORDER BY created, id")
	// The id's conflict is passed over and counted, so that the unique index that is left
	// to speak up is the one on the active issuer.
	insertIssuer = statement(insert("issuers", issuerColumns) + " ON CONFLICT (id) DO NOTHING").
			missed(exists("issuer")).
			foreign(fault.New(fault.Conflict, "issuer-parent-missing", "The issuer's parent is not on record.")).
			unique(fault.New(fault.Conflict, "issuer-active", "Another issuer of this role and profile is active."))
)

func scanIssuer(r *row) ca.Issuer {
	return ca.Issuer{
		ID: ca.IssuerID(r.text()), Name: r.text(), Role: ca.Role(r.text()), Profile: r.text(), State: ca.IssuerState(r.text()),
		Slot: rotation.Slot(r.int()), RetireAt: r.time(), Parent: ca.IssuerID(r.text()), KeyURI: r.text(), Upstream: r.text(),
		Certificate: r.blob(), Created: r.time(),
	}
}

func (t *tx) Issuers() ([]ca.Issuer, error) { return all(t, selectIssuers, scanIssuer) }

func (t *tx) InsertIssuer(i ca.Issuer) error {
	err := t.exec(insertIssuer, string(i.ID), i.Name, string(i.Role), i.Profile, string(i.State), int64(i.Slot), micros(i.RetireAt),
		string(i.Parent), i.KeyURI, i.Upstream, octets(i.Certificate), micros(i.Created))
	if err != nil {
		return err
	}
	return t.InsertShard(ca.CRLShard{Issuer: i.ID})
}
