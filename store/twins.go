package store

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	selectTwin = statement("SELECT " + twinColumns.list("") + " FROM twins WHERE registration_id = ?")
	putTwin    = statement("INSERT INTO twins (registration_id, tags, desired, updated) VALUES (?, ?, ?, ?) " +
		"ON CONFLICT (registration_id) DO UPDATE SET tags = excluded.tags, desired = excluded.desired, updated = excluded.updated, " +
		"version = twins.version + 1, desired_version = twins.desired_version + CASE WHEN twins.desired = excluded.desired THEN 0 ELSE 1 END")
	insertTwin = statement("INSERT INTO twins (registration_id, " + twinColumns.list("") + ") VALUES (?, " + marks(len(twinColumns)) + ")").unique(stale("twin"))
	updateTwin = statement("UPDATE twins SET " + set(twinColumns) + " WHERE registration_id = ? AND version = ?").missed(stale("twin"))
	deleteTwin = statement("DELETE FROM twins WHERE registration_id = ?")
)

func scanTwin(r *row) provisioning.Twin {
	return provisioning.Twin{Tags: r.blob(), Desired: r.blob(), Updated: r.time(), Version: r.int(), DesiredVersion: r.int()}
}

func (t *tx) Twin(id verify.RegistrationID) (provisioning.Twin, error) {
	return one(t, selectTwin, notFound("twin"), scanTwin, id.String())
}

func (t *tx) PutTwin(id verify.RegistrationID, twin provisioning.Twin) error {
	return t.exec(putTwin, id.String(), octets(twin.Tags), octets(twin.Desired), micros(twin.Updated))
}

func (t *tx) UpdateTwin(id verify.RegistrationID, twin provisioning.Twin, was int64) error {
	args := []any{octets(twin.Tags), octets(twin.Desired), micros(twin.Updated), twin.Version, twin.DesiredVersion}
	if was == 0 {
		return t.exec(insertTwin, append([]any{id.String()}, args...)...)
	}
	return t.exec(updateTwin, append(args, id.String(), was)...)
}

func (t *tx) DeleteTwin(id verify.RegistrationID) error { return t.exec(deleteTwin, id.String()) }
