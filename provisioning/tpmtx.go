package provisioning

import (
	"time"

	"github.com/passmuster/muster/verify"
)

// TPMChallenge is what a device with a TPM was asked to prove itself by. A device has one,
// or none: a new one replaces it.
type TPMChallenge struct {
	ID        verify.RegistrationID
	Nonce     [16]byte // tells it from the one before
	Keys      verify.TPMKeys
	SealedKey []byte
	Expires   time.Time
	SpentAt   time.Time // when a registration was made by it; zero: none was
}

// TPMDevice is a registered device's TPM, and the key by which the device comes to its hub:
// made here at its first registration, and known to nobody else but the TPM.
type TPMDevice struct {
	ID        verify.RegistrationID
	TPM       TPMPublic
	SealedKey []byte
	Key       verify.KeyHash // of the endorsement key
	ByGroup   bool           // a group admitted it: no other registration is by this key and a group
}

// ruleTPMClaimed is the rule of a TPM that two registrations claim at once, by a group.
const ruleTPMClaimed = "tpm-claimed"

// ruleChallengeMoved is the rule of a spending that another registration was ahead of.
const ruleChallengeMoved = "tpm-challenge-moved"

// TPMTx is what devices with a TPM need of a transaction.
type TPMTx interface {
	TPMChallenge(verify.RegistrationID) (TPMChallenge, error)
	PutTPMChallenge(TPMChallenge) error
	// SpendTPMChallenge marks a challenge as spent that is not yet; it is Conflict,
	// "tpm-challenge-moved", if it was, or was replaced.
	SpendTPMChallenge(id verify.RegistrationID, nonce [16]byte, at time.Time) error
	// ExpiredTPMChallenges names the devices whose challenge expired by then.
	ExpiredTPMChallenges(by time.Time, limit int) ([]verify.RegistrationID, error)
	// DeleteTPMChallenge does nothing to one that did not.
	DeleteTPMChallenge(id verify.RegistrationID, expiredBy time.Time) error

	TPMDevice(verify.RegistrationID) (TPMDevice, error)
	// PutTPMDevice comes after the registration's own row; it goes with it. It is Conflict,
	// "tpm-claimed", if a group admitted the key for another registration.
	PutTPMDevice(TPMDevice) error
	// TPMRegistrations names registrations that this endorsement key attested last.
	TPMRegistrations(key verify.KeyHash, limit int) ([]verify.RegistrationID, error)
	// DeleteTPMDevice of a device that has none does nothing.
	DeleteTPMDevice(verify.RegistrationID) error

	// ListedKeys are those on a group's list, by their hash.
	ListedKeys(group verify.RegistrationID, after verify.KeyHash, limit int) ([]ListedKey, error)
	CountListedKeys(group verify.RegistrationID) (int64, error)
	// PutListedKey puts a key on the list of its group, or says anew what it registers as.
	PutListedKey(ListedKey) error
	// DeleteListedKey takes one off, or does nothing.
	DeleteListedKey(group verify.RegistrationID, key verify.KeyHash) error
	// ClearListedKeys takes all off.
	ClearListedKeys(group verify.RegistrationID) error
}
