package main

import (
	"encoding/base64"
	"errors"
	"os"
	"strings"

	"github.com/passmuster/muster/verify/tpm"
)

// tpmFlags choose attestation by the device's TPM.
type tpmFlags struct {
	EndorsementKey string `type:"existingfile" placeholder:"FILE" help:"The endorsement key of the device's TPM: TPM2B_PUBLIC as tpm2_createek writes it, or in base64."`
	StorageRootKey string `type:"existingfile" placeholder:"FILE" help:"Its storage root key, likewise: admits the TPM with its present owner only."`
}

func (f tpmFlags) given() bool { return f.EndorsementKey != "" || f.StorageRootKey != "" }

func (f tpmFlags) attestation() (map[string]any, error) {
	if f.EndorsementKey == "" {
		return nil, errors.New("--storage-root-key goes with --endorsement-key")
	}
	public, err := publicFile(f.EndorsementKey)
	if err == nil {
		_, err = tpm.ParseEndorsementKey(public)
	}
	if err != nil {
		return nil, err
	}
	keys := map[string]any{"endorsementKey": base64.StdEncoding.EncodeToString(public)}
	if f.StorageRootKey != "" {
		if public, err = publicFile(f.StorageRootKey); err == nil {
			_, err = tpm.ParseStorageRootKey(public)
		}
		keys["storageRootKey"] = base64.StdEncoding.EncodeToString(public)
	}
	return map[string]any{"type": "tpm", "tpm": keys}, err
}

// publicFile reads a key as the tools write it, or as Azure prints it.
func publicFile(name string) ([]byte, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw))); err == nil {
		return decoded, nil
	}
	return raw, nil
}
