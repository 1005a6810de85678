package store

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var (
	selectRetained = statement("SELECT registration_id, csr, kept_at, pending FROM retained_csrs WHERE registration_id = ?")
	putRetained    = statement("INSERT INTO retained_csrs (registration_id, csr, kept_at) VALUES (?, ?, ?) " +
		"ON CONFLICT (registration_id) DO UPDATE SET csr = excluded.csr, kept_at = excluded.kept_at")
	deleteRetained = statement("DELETE FROM retained_csrs WHERE registration_id = ?")
	setPending     = statement("UPDATE retained_csrs SET pending = ? WHERE registration_id = ?")
	selectPending  = statement("SELECT registration_id, NULL, kept_at, pending FROM retained_csrs " +
		"WHERE pending IS NOT NULL AND registration_id > ? ORDER BY registration_id LIMIT ?")
)

func scanRetained(r *row) provisioning.RetainedRequest {
	return provisioning.RetainedRequest{ID: r.id(), CSR: r.blob(), KeptAt: r.time(), Pending: rotation.Ref(r.hash())}
}

func (t *tx) RetainedRequest(id verify.RegistrationID) (provisioning.RetainedRequest, error) {
	return one(t, selectRetained, notFound("retained-request"), scanRetained, id.String())
}

func (t *tx) PutRetainedRequest(k provisioning.RetainedRequest) error {
	return t.exec(putRetained, k.ID.String(), octets(k.CSR), micros(k.KeptAt))
}

func (t *tx) DeleteRetainedRequest(id verify.RegistrationID) error {
	return t.exec(deleteRetained, id.String())
}

func (t *tx) SetPending(id verify.RegistrationID, ref rotation.Ref) error {
	return t.exec(setPending, orNull(digest(ref)), id.String())
}

func (t *tx) PendingRequests(after verify.RegistrationID, limit int) ([]provisioning.RetainedRequest, error) {
	return all(t, selectPending, scanRetained, after.String(), atMost(limit))
}
