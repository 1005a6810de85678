package tpm

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// attestationKey is the template of the key that vouches for others. It is made anew each time
// and is always the same, as its hierarchy and its template are: nothing is kept of it.
var attestationKey = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		CurveID: tpm2.TPMECCNistP256,
	}),
}

// AttestationKey is the key by which the TPM vouches for others, a TPM2B_PUBLIC.
func (t *TPM) AttestationKey() (public []byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err = t.attesting(func(_ tpm2.AuthHandle, ak []byte) error {
		public = ak
		return nil
	})
	return public, err
}

// attesting loads the attestation key for one use.
func (t *TPM) attesting(use func(key tpm2.AuthHandle, public []byte) error) error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(attestationKey)}.Execute(t.transport)
	if err != nil {
		return fmt.Errorf("making the attestation key: %w", err)
	}
	defer t.flush(made.ObjectHandle)
	return use(tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth(nil)}, tpm2.Marshal(made.OutPublic))
}

// Attest has the TPM vouch for a key of its own. The challenge is a secret, wrapped so that the
// TPM opens it only if the endorsement key and the attestation key are both in it; it stands in
// what the TPM then signs. That is TPM2B_ATTEST, TPMT_SIGNATURE, and the key as TPM2B_PUBLIC.
func (t *TPM) Attest(challenge []byte, key crypto.Signer) (certifyInfo, signature, keyPublic []byte, err error) {
	own, ok := key.(*Key)
	if !ok || own.tpm != t {
		return nil, nil, nil, errors.New("the key is not in this TPM")
	}
	credential, secret, err := splitCredential(challenge)
	if err != nil {
		return nil, nil, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err = t.attesting(func(ak tpm2.AuthHandle, _ []byte) error {
		nonce, err := t.activate(ak, credential, secret)
		if err != nil {
			return fmt.Errorf("activating the credential: %w", err)
		}
		loaded, err := own.load()
		if err != nil {
			return err
		}
		defer t.flush(loaded.Handle)
		certified, err := tpm2.Certify{
			ObjectHandle: loaded, SignHandle: ak, QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		}.Execute(t.transport)
		if err != nil {
			return fmt.Errorf("certifying the key: %w", err)
		}
		certifyInfo, signature = tpm2.Marshal(certified.CertifyInfo), tpm2.Marshal(certified.Signature)
		return nil
	})
	return certifyInfo, signature, own.public, err
}

// splitCredential reads the two structures of a credential.
func splitCredential(challenge []byte) (credential, secret []byte, err error) {
	var parts [2][]byte
	for i := range parts {
		if len(challenge) < 2 || len(challenge)-2 < int(binary.BigEndian.Uint16(challenge)) {
			return nil, nil, errors.New("the attestation challenge ends too early")
		}
		size := int(binary.BigEndian.Uint16(challenge))
		parts[i], challenge = challenge[2:2+size], challenge[2+size:]
	}
	if len(challenge) > 0 {
		return nil, nil, errors.New("the attestation challenge goes on behind its end")
	}
	return parts[0], parts[1], nil
}
