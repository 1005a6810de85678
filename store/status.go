package store

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

var responderColumns = cols("t issuer, b certificate, b sealed_key, i not_after")

var (
	// The one read of an OCSP answer.
	selectStatus = statement("SELECT c.revoked_at, c.reason, CASE WHEN i.state = 'revoked' THEN i.retire_at ELSE 0 END " +
		"FROM certificates c JOIN issuers i ON i.id = c.issuer WHERE c.serial = ? AND c.issuer = ?").apart()
	selectResponder = statement("SELECT " + responderColumns.list("") + " FROM ocsp_responders WHERE issuer = ?")
	insertResponder = statement(insert("ocsp_responders", responderColumns) + " ON CONFLICT (issuer) DO NOTHING").
			missed(errResponderMoved).foreign(notFound("issuer"))
	updateResponder = statement("UPDATE ocsp_responders SET certificate = ?, sealed_key = ?, not_after = ? WHERE issuer = ? AND certificate = ?").
			missed(errResponderMoved)
)

var errNoCertificate = notFound("certificate")

var errResponderMoved = fault.New(fault.Conflict, "responder-moved", "The issuer has another OCSP responder by now.")

func scanRevocation(r *row) ca.Revocation {
	return ca.Revocation{Serial: ca.Serial(r.hex()), RevokedAt: r.time(), Reason: ca.Reason(r.text())}
}

func (t *tx) CertificateStatus(issuer ca.IssuerID, serial ca.Serial) (ca.Revocation, error) {
	b, err := serialBytes(serial)
	if err != nil {
		return ca.Revocation{}, errNoCertificate
	}
	return one(t, selectStatus, errNoCertificate, func(r *row) ca.Revocation {
		status, ended := ca.Revocation{Serial: serial, RevokedAt: r.time(), Reason: ca.Reason(r.text())}, r.time()
		if status.RevokedAt.IsZero() && !ended.IsZero() {
			status.RevokedAt, status.Reason = ended.Truncate(time.Second), ca.Unspecified
		}
		return status
	}, b, string(issuer))
}

func (t *tx) OCSPResponder(issuer ca.IssuerID) (ca.OCSPResponder, error) {
	return one(t, selectResponder, notFound("responder"), func(r *row) ca.OCSPResponder {
		return ca.OCSPResponder{Issuer: ca.IssuerID(r.text()), Certificate: r.blob(), SealedKey: r.blob(), NotAfter: r.time()}
	}, string(issuer))
}

func (t *tx) PutOCSPResponder(r ca.OCSPResponder, before []byte) error {
	if before == nil {
		return t.exec(insertResponder, string(r.Issuer), r.Certificate, r.SealedKey, micros(r.NotAfter))
	}
	return t.exec(updateResponder, r.Certificate, r.SealedKey, micros(r.NotAfter), string(r.Issuer), before)
}
