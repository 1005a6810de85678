package verify

import (
	"time"

	"github.com/passmuster/muster/verify/tpm"
)

// TPMKeys name the two keys of a TPM.
type TPMKeys struct{ Endorsement, StorageRoot tpm.Digest }

// TPMEvidence is a token that a device's TPM signed with the key of a challenge. Keys are
// those that the device says its TPM has; nil in a poll, which registers nothing. Endorsed is the
// manufacturer's word for the endorsement key, where that was asked for.
type TPMEvidence struct {
	SASEvidence
	Keys     *TPMKeys
	Endorsed Endorsement
}

// KeptChallenge is a challenge on record: a key that was wrapped for one TPM, and for one
// registration.
type KeptChallenge struct {
	ID      RegistrationID
	Keys    TPMKeys
	Key     Secret
	Expires time.Time
	SpentAt time.Time // when a registration was made by it; zero: none was
}

// TPM makes an identity of a token that only the TPM for which the challenge was wrapped can
// have signed (INV-T2): its endorsement key opened it, and its storage root key holds it. It
// registers once; polls go on until it expires. That the endorsement key is the enrolled one
// is for the caller to know.
//
// Refusals are Unauthenticated with rule "tpm-challenge-expired", "tpm-challenge-other-keys",
// "tpm-challenge-spent", or "sas-…".
func TPM(ev TPMEvidence, kept KeptChallenge, now time.Time) (Identity, error) {
	switch {
	case kept.ID != ev.ID || ev.Keys != nil && *ev.Keys != kept.Keys:
		return Identity{}, refuse("tpm-challenge-other-keys", "The challenge was made for another TPM, or another storage root key of it.")
	case !now.Before(kept.Expires):
		return Identity{}, refuse("tpm-challenge-expired", "The challenge has expired.")
	}
	id, err := SAS(ev.SASEvidence, kept.Key, now)
	if err != nil {
		return Identity{}, err
	}
	if ev.Keys != nil && !kept.SpentAt.IsZero() {
		return Identity{}, refuse("tpm-challenge-spent", "The challenge has registered the device already.")
	}
	id.mechanism, id.path = MechanismTPM, ev.Endorsed.path
	return id, nil
}
