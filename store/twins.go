package store

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	selectTwin = statement("SELECT tags, desired, updated FROM twins WHERE registration_id = ?")
	putTwin    = statement("INSERT INTO twins (registration_id, tags, desired, updated) VALUES (?, ?, ?, ?) " +
		"ON CONFLICT (registration_id) DO UPDATE SET tags = excluded.tags, desired = excluded.desired, updated = excluded.updated")
	deleteTwin = statement("DELETE FROM twins WHERE registration_id = ?")
)

func scanTwin(r *row) provisioning.Twin {
	return provisioning.Twin{Tags: r.blob(), Desired: r.blob(), Updated: r.time()}
}

func (t *tx) Twin(id verify.RegistrationID) (provisioning.Twin, error) {
	return one(t, selectTwin, notFound("twin"), scanTwin, id.String())
}

func (t *tx) PutTwin(id verify.RegistrationID, twin provisioning.Twin) error {
	return t.exec(putTwin, id.String(), octets(twin.Tags), octets(twin.Desired), micros(twin.Updated))
}

func (t *tx) DeleteTwin(id verify.RegistrationID) error { return t.exec(deleteTwin, id.String()) }
