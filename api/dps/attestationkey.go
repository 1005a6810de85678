package dps

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify/tpm"
)

// attestationKey is ours: what a TPM says of the key of the request.
type attestationKey struct {
	Public      []byte `json:"public"`
	CertifyInfo []byte `json:"certifyInfo"`
	Signature   []byte `json:"signature"`
	KeyPublic   []byte `json:"keyPublic"`
}

// read takes the key that says so. What it says is checked once the device has proved itself.
func (k attestationKey) read(shown *provisioning.ShownTPM) (err error) {
	shown.Attestation = tpm.Attestation{CertifyInfo: k.CertifyInfo, Signature: k.Signature, KeyPublic: k.KeyPublic}
	shown.By, err = tpm.ParseAttestationKey(k.Public)
	return err
}
