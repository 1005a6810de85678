package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Activate has the TPM take the key that a provisioning service wrapped for it, in place of
// the one before: six structures, one after the other.
func (t *TPM) Activate(blob []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	parts, err := split(blob)
	if err != nil {
		return err
	}
	innerKey, err := t.activate(t.srk.auth(), parts[0], parts[1])
	if err != nil {
		return fmt.Errorf("activating the credential: %w", err)
	}
	public := tpm2.BytesAs2B[tpm2.TPMTPublic](parts[4])
	imported, err := tpm2.Import{
		ParentHandle: t.srk.auth(), EncryptionKey: tpm2.TPM2BData{Buffer: innerKey}, ObjectPublic: public,
		Duplicate: tpm2.TPM2BPrivate{Buffer: parts[2]}, InSymSeed: tpm2.TPM2BEncryptedSecret{Buffer: parts[3]},
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(8*len(innerKey))),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
	}.Execute(t.transport)
	if err != nil {
		return fmt.Errorf("importing the key: %w", err)
	}
	loaded, err := tpm2.Load{ParentHandle: t.srk.auth(), InPrivate: imported.OutPrivate, InPublic: public}.Execute(t.transport)
	if err != nil {
		return fmt.Errorf("loading the key: %w", err)
	}
	defer t.flush(loaded.ObjectHandle)
	return t.persist(identityHandle, loaded.ObjectHandle, loaded.Name)
}

// activate opens a credential that was made for the TPM's endorsement key and names another
// key of it.
func (t *TPM) activate(named tpm2.AuthHandle, credential, secret []byte) ([]byte, error) {
	public := tpm2.BytesAs2B[tpm2.TPMTPublic](t.ek.public[2:])
	ek, err := public.Contents()
	if err != nil {
		return nil, err
	}
	key := t.ek.auth()
	if !ek.ObjectAttributes.UserWithAuth {
		key = t.ek.auth(tpm2.Policy(ek.NameAlg, 16, endorsementPolicy))
	}
	opened, err := tpm2.ActivateCredential{
		ActivateHandle: named, KeyHandle: key,
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: secret},
	}.Execute(t.transport)
	if err != nil {
		return nil, err
	}
	return opened.CertInfo.Buffer, nil
}

// endorsementPolicy is PolicyA of the TCG's EK profile: the endorsement hierarchy's password.
func endorsementPolicy(tpm transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Name: tpm2.HandleName(tpm2.TPMRHEndorsement), Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session, NonceTPM: nonce,
	}.Execute(tpm)
	return err
}

// split reads the structures of an activation blob.
func split(blob []byte) (parts [6][]byte, err error) {
	for i := range parts {
		if len(blob) < 2 || len(blob)-2 < int(binary.BigEndian.Uint16(blob)) {
			return parts, errors.New("the activation blob ends too early")
		}
		size := int(binary.BigEndian.Uint16(blob))
		parts[i], blob = blob[2:2+size], blob[2+size:]
	}
	if len(blob) > 0 {
		return parts, errors.New("the activation blob goes on behind its end")
	}
	return parts, nil
}

// MAC is HMAC-SHA256 of a text under the key that was activated last.
func (t *TPM) MAC(text []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, err := t.find(identityHandle)
	if err != nil {
		return nil, err
	}
	mac, err := tpm2.Hmac{Handle: key.auth(), Buffer: tpm2.TPM2BMaxBuffer{Buffer: text}, HashAlg: tpm2.TPMAlgSHA256}.Execute(t.transport)
	if err != nil {
		return nil, fmt.Errorf("signing a token: %w", err)
	}
	return mac.OutHMAC.Buffer, nil
}
