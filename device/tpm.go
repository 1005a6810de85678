package device

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// TPM is a device's TPM 2.0, which package device/tpm opens. It proves who the device is, and
// keeps its keys: they are made in it and do not leave it.
type TPM interface {
	// EndorsementKey and StorageRootKey are its public keys (TPM2B_PUBLIC).
	EndorsementKey() []byte
	StorageRootKey() []byte
	// Activate takes a key that was wrapped for it; MAC signs with that (HMAC-SHA256).
	Activate(blob []byte) error
	MAC(text []byte) ([]byte, error)
	// NewKey makes a key that writes itself (MarshalPEM), and ParseKey reads what it wrote:
	// the TPM alone can use it.
	NewKey() (crypto.Signer, error)
	ParseKey(text []byte) (crypto.Signer, error)
	// AttestationKey (TPM2B_PUBLIC) vouches for the keys that NewKey makes: Attest answers a
	// challenge about one with TPM2B_ATTEST, TPMT_SIGNATURE and the key's TPM2B_PUBLIC.
	AttestationKey() ([]byte, error)
	Attest(challenge []byte, key crypto.Signer) (certifyInfo, signature, keyPublic []byte, err error)
}

// tpmKeyBlock is the PEM of a key that only its TPM can use.
const tpmKeyBlock = "TSS2 PRIVATE KEY"

var errKeyInTPM = errors.New("device: the key is in a TPM, which is not open")

type tpmBody struct {
	EndorsementKey []byte `json:"endorsementKey,omitempty"`
	StorageRootKey []byte `json:"storageRootKey,omitempty"`
	// Certificates are the manufacturer's for the endorsement key, and above (DER): Muster's own, as
	// AttestationKey. Azure knows neither.
	Certificates   [][]byte         `json:"endorsementCertificateChain,omitempty"`
	AttestationKey *attestationBody `json:"attestationKey,omitempty"`
	Key            []byte           `json:"authenticationKey,omitempty"` // in answers
}

type attestationBody struct {
	Public      []byte `json:"public"`
	CertifyInfo []byte `json:"certifyInfo,omitempty"`
	Signature   []byte `json:"signature,omitempty"`
	KeyPublic   []byte `json:"keyPublic,omitempty"`
}

// prove has the server ask the TPM to prove itself: it answers 401 with a key that the TPM
// is to sign with from now on (DPS contract section 2.4). With a key of the TPM's own the body
// then says where that is, if the server asks for that too.
func (c *Client) prove(ctx context.Context, asked registerBody, key crypto.Signer) (body []byte, err error) {
	chip := c.config.Credential.TPM
	asked.TPM = &tpmBody{EndorsementKey: chip.EndorsementKey(), StorageRootKey: chip.StorageRootKey(), Certificates: c.config.Credential.EndorsementCertificates}
	if key != nil {
		public, err := chip.AttestationKey()
		if err != nil {
			return nil, fmt.Errorf("device: the TPM has no attestation key: %w", err)
		}
		asked.TPM.AttestationKey = &attestationBody{Public: public}
	}
	if body, err = asked.marshal(); err != nil {
		return nil, err
	}
	a, err := c.call(ctx, http.MethodPut, "/register", body, "")
	if err != nil {
		return nil, err
	}
	var challenge struct {
		Key         []byte `json:"authenticationKey"`
		Attestation []byte `json:"attestationChallenge"`
	}
	if a.status != http.StatusUnauthorized || json.Unmarshal(a.body, &challenge) != nil || len(challenge.Key) == 0 {
		return nil, refusal(a)
	}
	if err := c.activate(challenge.Key); err != nil || key == nil || len(challenge.Attestation) == 0 {
		return body, err
	}
	own := asked.TPM.AttestationKey
	if own.CertifyInfo, own.Signature, own.KeyPublic, err = chip.Attest(challenge.Attestation, key); err != nil {
		return nil, fmt.Errorf("device: the TPM does not vouch for the key: %w", err)
	}
	return asked.marshal()
}

func (c *Client) activate(key []byte) error {
	if err := c.config.Credential.TPM.Activate(key); err != nil {
		return fmt.Errorf("device: the TPM did not take its key: %w", err)
	}
	return nil
}
