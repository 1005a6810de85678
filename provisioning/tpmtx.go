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
}

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
	// PutTPMDevice comes after the registration's own row; it goes with it.
	PutTPMDevice(TPMDevice) error
	// DeleteTPMDevice of a device that has none does nothing.
	DeleteTPMDevice(verify.RegistrationID) error
}
