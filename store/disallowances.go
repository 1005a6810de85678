package store

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
)

var disallowanceColumns = cols("t id, b digest, i is_key, t reason, t actor, i created, i lifted_at, t incident, b subject_hash, b certificate")

var insertDisallowance = statement(insert("disallowances", disallowanceColumns) + " ON CONFLICT (digest, incident) WHERE lifted_at = 0 DO NOTHING").trust().
	unique(exists("disallowance"))

func scanDisallowance(r *row) provisioning.Disallowance {
	return provisioning.Disallowance{
		ID: r.text(), Digest: r.hash(), Key: r.bool(), Reason: ca.Reason(r.text()), Actor: r.text(),
		Created: r.time(), LiftedAt: r.time(), Incident: r.text(), Subject: r.hash(), Certificate: r.blob(),
	}
}

func (t *tx) InsertDisallowance(d provisioning.Disallowance) error {
	return t.exec(insertDisallowance, d.ID, d.Digest[:], flag(d.Key), string(d.Reason), d.Actor, micros(d.Created), micros(d.LiftedAt),
		d.Incident, orNull(digest(d.Subject)), orNull(d.Certificate))
}
