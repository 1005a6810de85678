package provisioning

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// RuleKeyAttestationRequired is the rule word of a key that nothing vouches for, where the profile
// asks for that.
const RuleKeyAttestationRequired = "key-attestation-required"

// ask wraps a challenge for the TPM: the first half is the key of its token. Of the other half
// comes what the attestation key has to be in the same TPM for; the TPM is not given that half, or
// it could say so of any key.
func (s ShownTPM) ask(key []byte) (*fault.Error, error) {
	blob, err := tpm.Wrap(s.Endorsement, s.StorageRoot, key[:tpmKeySize])
	if err != nil {
		return nil, err
	}
	asking := fault.New(fault.Unauthenticated, RuleTPMChallenge, "the TPM is asked to prove itself").Asking(blob)
	if s.By.IsZero() {
		return asking, nil
	}
	bound, err := tpm.Bind(s.Endorsement, s.By, attestationSecret(key[tpmKeySize:], s.By))
	return asking.AskingForKey(bound), err
}

// attestationSecret is what an attestation by a key shows, for one challenge.
func attestationSecret(of []byte, by tpm.AttestationKey) []byte {
	if len(of) == 0 {
		return nil // a secret that everybody knows is none
	}
	mac := hmac.New(sha256.New, of)
	mac.Write(by.Name())
	return mac.Sum(nil)
}

// attestKey finds out whether the key of a request is in the device's TPM: the TPM says so now, or
// it did when the certificate shown was issued for the same key. A false word is refused whatever
// the profile asks for.
func (d *decision) attestKey(a Attempt, csr *x509.CertificateRequest, p policies.Profile) error {
	shown, ours := a.Evidence.TPM, d.facts.Issued
	switch {
	case shown != nil && !shown.Attestation.IsZero():
		attested, err := d.identity.AttestKey(csr.RawSubjectPublicKeyInfo, verify.TPMAttestation{Attestation: shown.Attestation, By: shown.By, Secret: attestationSecret(d.tpm.secret, shown.By)})
		if err != nil {
			return fault.As(err).About(d.entry.String()).At("/tpm/attestationKey")
		}
		d.identity = attested
	case ours != nil && ours.KeyAttestation == policies.KeyAttestationTPM:
		d.identity = d.identity.KeepAttestedKey()
	}
	switch {
	case d.identity.AttestedKey() == d.csrKey:
		d.trace.pass("key-attestation", "profile "+p.Name, "the key is in the device's TPM, as that has attested")
	case p.KeyAttestation != policies.KeyAttestationNone:
		return fault.New(fault.Malformed, RuleKeyAttestationRequired, "the profile asks for a key that the device's TPM has attested, and nothing vouches for this one").About("profile " + p.Name).At("/csr")
	}
	return nil
}
