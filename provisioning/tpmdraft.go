package provisioning

import (
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify/tpm"
)

// tpmCredential is a slot that names a TPM. There is one: a device's TPM does not roll.
func tpmCredential(p TPMPublic, slot rotation.Slot, at string) (Credential, error) {
	if slot != rotation.Primary {
		return Credential{}, fault.New(fault.Malformed, "attestation", "an enrollment names one TPM").At(at)
	}
	if _, err := tpm.ParseEndorsementKey(p.Endorsement); err != nil {
		return Credential{}, at400(err, at+"/endorsementKey")
	}
	if len(p.StorageRoot) > 0 {
		if _, err := tpm.ParseStorageRootKey(p.StorageRoot); err != nil {
			return Credential{}, at400(err, at+"/storageRootKey")
		}
	}
	return Credential{Role: RoleTPM, Slot: slot, TPM: p}, nil
}
