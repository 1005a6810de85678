package dps

import (
	"encoding/json"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify/tpm"
)

// tpmBody is what a device says of its TPM; the attestation key is ours.
type tpmBody struct {
	EndorsementKey []byte `json:"endorsementKey"`
	StorageRootKey []byte `json:"storageRootKey"`
	AttestationKey *struct {
		Public      []byte `json:"public"`
		CertifyInfo []byte `json:"certifyInfo"`
		Signature   []byte `json:"signature"`
		KeyPublic   []byte `json:"keyPublic"`
	} `json:"attestationKey"`
}

// decodeTPM reads the keys of a TPM, and takes none that is not of its sort.
func decodeTPM(field json.RawMessage) (*provisioning.ShownTPM, error) {
	var body tpmBody
	if err := json.Unmarshal(field, &body); err != nil {
		return nil, fault.New(fault.Malformed, "tpm", "The tpm is no object with endorsementKey and storageRootKey in base64, and attestationKey as it is documented.").Because(err)
	}
	var shown provisioning.ShownTPM
	var err error
	if shown.Endorsement, err = tpm.ParseEndorsementKey(body.EndorsementKey); err != nil {
		return nil, err
	}
	if shown.StorageRoot, err = tpm.ParseStorageRootKey(body.StorageRootKey); err != nil {
		return nil, err
	}
	by := body.AttestationKey
	if by == nil {
		return &shown, nil
	}
	shown.Attestation = tpm.Attestation{CertifyInfo: by.CertifyInfo, Signature: by.Signature, KeyPublic: by.KeyPublic}
	shown.By, err = tpm.ParseAttestationKey(by.Public)
	return &shown, err
}
