package store

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var codeColumns = cols("b hash, t registration_id, t group_id, i created, t created_by, i expires, i used_at")

var (
	selectCode = statement("SELECT " + codeColumns.list("") + " FROM enrollment_codes WHERE hash = ?")
	// A name is the first 8 octets of the hash: a range of the primary key.
	selectCodesNamed = statement("SELECT " + codeColumns.list("") + " FROM enrollment_codes WHERE hash >= ? AND hash <= ? ORDER BY hash LIMIT 2")
	insertCode       = statement(insert("enrollment_codes", codeColumns)).unique(exists("code"))
	spendCode        = statement("UPDATE enrollment_codes SET used_at = ? WHERE hash = ? AND used_at = 0 AND expires > ?").
				missed(fault.New(fault.Conflict, provisioning.RuleCodeMoved, "The one-time code was spent, revoked or replaced meanwhile."))
	deleteCode      = statement("DELETE FROM enrollment_codes WHERE hash = ? AND used_at = 0").missed(notFound("code"))
	deleteOpenCodes = statement("DELETE FROM enrollment_codes WHERE registration_id = ? AND used_at = 0")
)

func scanCode(r *row) provisioning.EnrollmentCode {
	return provisioning.EnrollmentCode{
		Hash: r.hash(), ID: r.id(), Group: r.id(), Created: r.time(), CreatedBy: r.text(), Expires: r.time(), UsedAt: r.time(),
	}
}

func (t *tx) EnrollmentCode(h verify.CodeHash) (provisioning.EnrollmentCode, error) {
	return one(t, selectCode, notFound("code"), scanCode, h[:])
}

func (t *tx) EnrollmentCodeNamed(start [8]byte) (provisioning.EnrollmentCode, error) {
	var from, to verify.CodeHash
	for i := range to {
		to[i] = 0xff
	}
	copy(from[:], start[:])
	copy(to[:], start[:])
	found, err := all(t, selectCodesNamed, scanCode, from[:], to[:])
	switch {
	case err != nil:
		return provisioning.EnrollmentCode{}, err
	case len(found) != 1:
		return provisioning.EnrollmentCode{}, notFound("code")
	}
	return found[0], nil
}

func (t *tx) EnrollmentCodes(f provisioning.CodeFilter) ([]provisioning.EnrollmentCode, error) {
	var w where
	if !f.ID.IsZero() {
		w.add("registration_id = ?", f.ID.String())
	}
	if !f.After.IsZero() {
		w.add("hash > ?", f.After[:])
	}
	s, args := w.list("SELECT "+codeColumns.list("")+" FROM enrollment_codes", "hash", f.Limit)
	return all(t, s, scanCode, args...)
}

func (t *tx) InsertEnrollmentCode(c provisioning.EnrollmentCode) error {
	return t.exec(insertCode, c.Hash[:], c.ID.String(), c.Group.String(), micros(c.Created), c.CreatedBy, micros(c.Expires), micros(c.UsedAt))
}

func (t *tx) SpendEnrollmentCode(h verify.CodeHash, at time.Time) error {
	return t.exec(spendCode, micros(at), h[:], micros(at))
}

func (t *tx) DeleteEnrollmentCode(h verify.CodeHash) error { return t.exec(deleteCode, h[:]) }

func (t *tx) DeleteOpenEnrollmentCodes(id verify.RegistrationID) error {
	return t.exec(deleteOpenCodes, id.String())
}
