package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

var (
	challengeColumns = cols("t registration_id, b nonce, b endorsement_key, b storage_root_key, b sealed_key, i expires, i spent_at")
	tpmDeviceColumns = cols("t registration_id, b endorsement_key, b storage_root_key, b sealed_key, b key_hash, i by_group")
	listedColumns    = cols("i kind, t id, b key_hash, t registration_id, i since")
)

var (
	selectChallenge = statement("SELECT " + challengeColumns.list("") + " FROM tpm_challenges WHERE registration_id = ?")
	putChallenge    = statement(insert("tpm_challenges", challengeColumns) + " ON CONFLICT (registration_id) DO UPDATE SET " + challengeColumns.excluded("registration_id"))
	spendChallenge  = statement("UPDATE tpm_challenges SET spent_at = ? WHERE registration_id = ? AND nonce = ? AND spent_at = 0").
			missed(fault.New(fault.Conflict, "tpm-challenge-moved", "The challenge was spent or replaced."))
	selectExpiredChallenges = statement("SELECT registration_id FROM tpm_challenges WHERE expires <= ? ORDER BY expires LIMIT ?")
	deleteChallenge         = statement("DELETE FROM tpm_challenges WHERE registration_id = ? AND expires <= ?")

	selectTPMDevice = statement("SELECT " + tpmDeviceColumns.list("") + " FROM tpm_devices WHERE registration_id = ?")
	putTPMDevice    = statement(insert("tpm_devices", tpmDeviceColumns) + " ON CONFLICT (registration_id) DO UPDATE SET " + tpmDeviceColumns.excluded("registration_id")).
			unique(fault.New(fault.Conflict, "tpm-claimed", "Another registration is by this TPM."))
	selectTPMRegistrations = statement("SELECT registration_id FROM tpm_devices WHERE key_hash = ? ORDER BY registration_id LIMIT ?")
	deleteTPMDevice        = statement("DELETE FROM tpm_devices WHERE registration_id = ?")
)

func (t *tx) TPMChallenge(id verify.RegistrationID) (provisioning.TPMChallenge, error) {
	return one(t, selectChallenge, notFound("tpm-challenge"), func(r *row) (c provisioning.TPMChallenge) {
		c.ID = r.id()
		copy(c.Nonce[:], r.blob())
		c.Keys = verify.TPMKeys{Endorsement: tpm.Digest(r.hash()), StorageRoot: tpm.Digest(r.hash())}
		c.SealedKey = r.blob()
		c.Expires, c.SpentAt = r.time(), r.time()
		return c
	}, id.String())
}

func (t *tx) PutTPMChallenge(c provisioning.TPMChallenge) error {
	return t.exec(putChallenge, c.ID.String(), c.Nonce[:], c.Keys.Endorsement[:], c.Keys.StorageRoot[:], c.SealedKey,
		micros(c.Expires), micros(c.SpentAt))
}

func (t *tx) SpendTPMChallenge(id verify.RegistrationID, nonce [16]byte, at time.Time) error {
	return t.exec(spendChallenge, micros(at), id.String(), nonce[:])
}

func (t *tx) ExpiredTPMChallenges(by time.Time, limit int) ([]verify.RegistrationID, error) {
	return all(t, selectExpiredChallenges, (*row).id, micros(by), atMost(limit))
}

func (t *tx) DeleteTPMChallenge(id verify.RegistrationID, expiredBy time.Time) error {
	return t.exec(deleteChallenge, id.String(), micros(expiredBy))
}

func (t *tx) TPMDevice(id verify.RegistrationID) (provisioning.TPMDevice, error) {
	return one(t, selectTPMDevice, notFound("tpm-device"), func(r *row) provisioning.TPMDevice {
		return provisioning.TPMDevice{ID: r.id(), TPM: provisioning.TPMPublic{Endorsement: r.blob(), StorageRoot: r.blob()}, SealedKey: r.blob(),
			Key: r.hash(), ByGroup: r.bool()}
	}, id.String())
}

func (t *tx) PutTPMDevice(d provisioning.TPMDevice) error {
	return t.exec(putTPMDevice, d.ID.String(), d.TPM.Endorsement, d.TPM.StorageRoot, d.SealedKey, d.Key[:], flag(d.ByGroup))
}

func (t *tx) TPMRegistrations(key verify.KeyHash, limit int) ([]verify.RegistrationID, error) {
	return all(t, selectTPMRegistrations, (*row).id, key[:], atMost(limit))
}

func (t *tx) DeleteTPMDevice(id verify.RegistrationID) error {
	return t.exec(deleteTPMDevice, id.String())
}

// joinTPM is the keys of an entry's TPM in one column: each has its length in front.
func joinTPM(p provisioning.TPMPublic) []byte {
	return append(p.Endorsement[:len(p.Endorsement):len(p.Endorsement)], p.StorageRoot...)
}

func splitTPM(b []byte) (p provisioning.TPMPublic, err error) {
	const size = 2
	if len(b) < size || len(b) < size+int(binary.BigEndian.Uint16(b)) {
		return p, fmt.Errorf("internal error: %d octets on record are no keys of a TPM", len(b))
	}
	end := size + int(binary.BigEndian.Uint16(b))
	p.Endorsement = b[:end:end]
	if len(b) > end {
		p.StorageRoot = b[end:]
	}
	return p, nil
}
