package store

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	selectLine = statement("SELECT " + certificateColumns.list("") + " FROM certificates WHERE registration_id = ? AND position > ? ORDER BY position LIMIT ?")
	// Neither the leaf nor the chain of a registration is indexed: an index would be paid by
	// every registration, and this is asked by people.
	selectAttested = statement("SELECT " + registrationColumns.list("") + " FROM registrations " +
		"WHERE id > ? AND (leaf = ? OR chain IN (SELECT chain FROM chain_links WHERE thumbprint = ?)) ORDER BY id LIMIT ?")
)

func (t *tx) CertificatesAfter(id verify.RegistrationID, position int64, limit int) ([]ca.Certificate, error) {
	return all(t, selectLine, scanCertificate, id.String(), position, atMost(limit))
}

func (t *tx) RegistrationsAttestedBy(x verify.Thumbprint, after verify.RegistrationID, limit int) ([]provisioning.Registration, error) {
	return all(t, selectAttested, scanRegistration, after.String(), x[:], x[:], atMost(limit))
}
