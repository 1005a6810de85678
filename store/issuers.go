package store

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
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

var moveIssuer = statement("UPDATE issuers SET state = ?, slot = ?, retire_at = ? WHERE id = ? AND state = ?").trust().
	missed(fault.New(fault.Conflict, "issuer-moved", "The issuer was changed by somebody else; read it again.")).
	unique(fault.New(fault.Conflict, "issuer-active", "Another issuer of this role and profile is active."))

func (t *tx) IssuerPair(role ca.Role, profile string) (rotation.Pair, error) {
	issuers, err := t.Issuers()
	if err != nil {
		return rotation.Pair{}, err
	}
	cells := ca.Cells(issuers, role, profile)
	return rotation.RestorePair(cells[rotation.Primary], cells[rotation.Secondary])
}

func (t *tx) MoveIssuer(i ca.Issuer, was ca.IssuerState) error {
	return t.exec(moveIssuer, string(i.State), int64(i.Slot), micros(i.RetireAt), string(i.ID), string(was))
}

var selectLastExpiry = statement("SELECT COALESCE(max(not_after), 0), COALESCE(max(position), 0) FROM certificates " +
	"WHERE issuer = ? AND position > ?")

func (t *tx) LastExpiry(issuer ca.IssuerID, after int64) (ends time.Time, last int64, err error) {
	err = t.query(selectLastExpiry, func(r *row) error {
		ends, last = r.time(), r.int()
		return nil
	}, string(issuer), after)
	return ends, last, err
}

var (
	requestColumns = cols("t id, t name, t profile, t key_uri, b csr, i created")
	selectRequests = statement("SELECT " + requestColumns.list("") + " FROM issuer_requests ORDER BY created, id")
	insertRequest  = statement(insert("issuer_requests", requestColumns)).unique(exists("issuer-request"))
	deleteRequest  = statement("DELETE FROM issuer_requests WHERE id = ?").missed(notFound("issuer-request"))
)

func (t *tx) IssuerRequests() ([]ca.IssuerRequest, error) {
	return all(t, selectRequests, func(r *row) ca.IssuerRequest {
		return ca.IssuerRequest{ID: ca.IssuerID(r.text()), Name: r.text(), Profile: r.text(), KeyURI: r.text(), CSR: r.blob(), Created: r.time()}
	})
}

func (t *tx) InsertIssuerRequest(q ca.IssuerRequest) error {
	return t.exec(insertRequest, string(q.ID), q.Name, q.Profile, q.KeyURI, octets(q.CSR), micros(q.Created))
}

func (t *tx) DeleteIssuerRequest(id ca.IssuerID) error { return t.exec(deleteRequest, string(id)) }

var (
	crossColumns = cols("b thumbprint, t issuer, t signed_by, b certificate, i created")
	selectCross  = statement("SELECT " + crossColumns.list("") + " FROM cross_certificates ORDER BY created, thumbprint")
	insertCross  = statement(insert("cross_certificates", crossColumns)).unique(exists("cross-certificate")).foreign(notFound("issuer"))
)

func (t *tx) CrossCertificates() ([]ca.CrossCertificate, error) {
	return all(t, selectCross, func(r *row) ca.CrossCertificate {
		r.hash() // that of the certificate
		return ca.CrossCertificate{Issuer: ca.IssuerID(r.text()), SignedBy: ca.IssuerID(r.text()), Certificate: r.blob(), Created: r.time()}
	})
}

func (t *tx) InsertCrossCertificate(c ca.CrossCertificate) error {
	thumbprint := verify.ThumbprintOf(c.Certificate)
	return t.exec(insertCross, thumbprint[:], string(c.Issuer), string(c.SignedBy), octets(c.Certificate), micros(c.Created))
}
