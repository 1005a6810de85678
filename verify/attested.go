package verify

import (
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify/tpm"
)

// TPMAttestation is what a TPM says of a key of its own: by an attestation key that the secret was
// bound to.
type TPMAttestation struct {
	tpm.Attestation
	By     tpm.AttestationKey
	Secret []byte
}

// AttestKey adds to an identity that a key, by its SubjectPublicKeyInfo, is in the TPM that proved
// it, and cannot leave that. Errors are Malformed, "key-attestation-invalid".
func (i Identity) AttestKey(spki []byte, ev TPMAttestation) (Identity, error) {
	if i.mechanism != MechanismTPM {
		return i, fault.New(fault.Malformed, tpm.RuleKeyAttestation, "Only a device that proves itself by its TPM attests a key.")
	}
	if err := ev.Check(ev.By, spki, ev.Secret); err != nil {
		return i, err
	}
	i.attested = KeyHashOf(spki)
	return i, nil
}

// KeepAttestedKey adds to an identity that was proven by a certificate that the certificate's key
// is in a TPM: it was attested when that was issued, as the caller has read.
func (i Identity) KeepAttestedKey() Identity {
	if len(i.path) > 0 {
		i.attested = i.path[0].KeyHash
	}
	return i
}

// AttestedKey is the key that is known to be in the device's TPM; zero: none is.
func (i Identity) AttestedKey() KeyHash { return i.attested }
