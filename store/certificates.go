package store

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// certificateColumns are read without the DER, which comes last where it is wanted.
var certificateColumns = cols("t issuer, b serial, b thumbprint, b key_hash, t registration_id, b parent, " +
	"i not_before, i not_after, i issued, i revoked_at, t reason, i shard, i position, t key_attestation")

var (
	// A device's certificate enters while its issuer is active: else it names no issuer, and
	// the foreign key has the last word.
	insertCertificate = statement("INSERT INTO certificates (issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, revoked_at, reason, shard, key_attestation, der) " +
		"VALUES (COALESCE((SELECT id FROM issuers WHERE id = ? AND (state = 'active' OR ? = '')), ''), " + marks(14) + ")").
		unique(fault.New(fault.Conflict, "serial-taken", "The issuer has a certificate of this serial number.")).
		foreign(fault.New(fault.Conflict, "issuer-not-active", "The issuer is not on record, or not active any more."))
	selectCertificate = statement("SELECT " + certificateColumns.list("") + ", der FROM certificates WHERE issuer = ? AND serial = ?")
	selectRevoked     = statement("SELECT serial, revoked_at, reason FROM certificates " +
		"WHERE issuer = ? AND shard = ? AND revoked_at <> 0 AND not_after >= ? AND serial > ? ORDER BY serial LIMIT ?")
	markRevoked = statement("UPDATE certificates SET revoked_at = ?, reason = ? WHERE issuer = ? AND serial = ? " +
		"AND (revoked_at = 0 OR (? = 'keyCompromise' AND reason <> 'keyCompromise'))").trust().
		missed(fault.New(fault.Conflict, "already-revoked", "The certificate is not on record, or is revoked already."))
)

func scanCertificate(r *row) ca.Certificate {
	return ca.Certificate{
		Issuer: ca.IssuerID(r.text()), Serial: ca.Serial(r.hex()), Thumbprint: r.hash(), KeyHash: r.hash(),
		RegistrationID: r.id(), Parent: r.hash(), NotBefore: r.time(), NotAfter: r.time(), Issued: r.time(),
		RevokedAt: r.time(), Reason: ca.Reason(r.text()), Shard: int(r.int()), Position: r.int(), KeyAttestation: policies.KeyAttestation(r.text()),
	}
}

func scanCertificateDER(r *row) ca.Certificate {
	c := scanCertificate(r)
	c.DER = r.blob()
	return c
}

// thumb8 is the indexed part of a thumbprint: an index over integers is a third of one
// over the whole. Who looks one up compares the rest.
func thumb8(t verify.Thumbprint) int64 { return int64(binary.BigEndian.Uint64(t[:8])) }

// serialBytes is a serial as it is stored. Bytes sort as their hex does.
func serialBytes(s ca.Serial) ([]byte, error) {
	b, err := hex.DecodeString(string(s))
	if err != nil {
		return nil, fault.New(fault.Malformed, "serial", "A serial number is hex in whole bytes.").Because(err)
	}
	return b, nil
}

func (t *tx) InsertCertificate(c ca.Certificate) error {
	serial, err := serialBytes(c.Serial)
	if err != nil {
		return err
	}
	return t.exec(insertCertificate, string(c.Issuer), c.RegistrationID.String(), serial, thumb8(c.Thumbprint), c.Thumbprint[:], c.KeyHash[:],
		c.RegistrationID.String(), digest(c.Parent), micros(c.NotBefore), micros(c.NotAfter), micros(c.Issued),
		micros(c.RevokedAt), string(c.Reason), int64(c.Shard), string(c.KeyAttestation), octets(c.DER))
}

func (t *tx) Certificate(issuer ca.IssuerID, serial ca.Serial) (ca.Certificate, error) {
	b, err := serialBytes(serial)
	if err != nil {
		return ca.Certificate{}, notFound("certificate")
	}
	return one(t, selectCertificate, notFound("certificate"), scanCertificateDER, string(issuer), b)
}

func (t *tx) MarkRevoked(c ca.Certificate) error {
	serial, err := serialBytes(c.Serial)
	if err != nil {
		return err
	}
	if err := t.exec(markRevoked, micros(c.RevokedAt), string(c.Reason), string(c.Issuer), serial, string(c.Reason)); err != nil {
		return err
	}
	return t.exec(countRevocation, string(c.Issuer), int64(c.Shard))
}

func (t *tx) RevokedCertificates(issuer ca.IssuerID, shard int, notAfter time.Time, after ca.Serial, limit int) ([]ca.Revocation, error) {
	serial, err := serialBytes(after)
	if err != nil {
		return nil, err
	}
	return all(t, selectRevoked, scanRevocation, string(issuer), int64(shard), micros(notAfter), octets(serial), atMost(limit))
}

func (t *tx) Certificates(f provisioning.CertificateFilter) ([]ca.Certificate, error) {
	var w where
	if f.Before > 0 {
		w.add("position < ?", f.Before)
	}
	if !f.RegistrationID.IsZero() {
		w.add("registration_id = ?", f.RegistrationID.String())
	}
	if f.Serial != "" {
		serial, err := serialBytes(f.Serial)
		if err != nil {
			return nil, err
		}
		w.add("serial = ?", serial)
	}
	if f.Issuer != "" {
		w.add("issuer = ?", string(f.Issuer))
	}
	if !f.Thumbprint.IsZero() {
		w.add("thumb8 = ? AND thumbprint = ?", thumb8(f.Thumbprint), f.Thumbprint[:])
	}
	if f.KeyAttested != nil && *f.KeyAttested {
		w.add("key_attestation <> ''")
	} else if f.KeyAttested != nil {
		w.add("key_attestation = ''")
	}
	if !f.ExpiresBefore.IsZero() {
		w.add("not_after < ?", micros(f.ExpiresBefore))
	}
	if f.Revoked != nil && *f.Revoked {
		w.add("revoked_at <> 0")
	} else if f.Revoked != nil {
		w.add("revoked_at = 0")
	}
	s, args := w.list("SELECT "+certificateColumns.list("")+", der FROM certificates", "position DESC", f.Limit)
	return all(t, s, scanCertificateDER, args...)
}
