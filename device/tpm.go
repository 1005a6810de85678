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
}

// tpmKeyBlock is the PEM of a key that only its TPM can use.
const tpmKeyBlock = "TSS2 PRIVATE KEY"

var errKeyInTPM = errors.New("device: the key is in a TPM, which is not open")

type tpmBody struct {
	EndorsementKey []byte `json:"endorsementKey,omitempty"`
	StorageRootKey []byte `json:"storageRootKey,omitempty"`
	// Certificates are the manufacturer's for the endorsement key, and above (DER): Muster's alone.
	Certificates [][]byte `json:"endorsementCertificateChain,omitempty"`
	Key          []byte   `json:"authenticationKey,omitempty"` // in answers
}

// challenge has the server ask the TPM to prove itself: it answers 401 with a key that the TPM
// is to sign with from now on (DPS contract section 2.4).
func (c *Client) challenge(ctx context.Context, register []byte) error {
	a, err := c.call(ctx, http.MethodPut, "/register", register, "")
	if err != nil {
		return err
	}
	var asked struct {
		Key []byte `json:"authenticationKey"`
	}
	if a.status != http.StatusUnauthorized || json.Unmarshal(a.body, &asked) != nil || len(asked.Key) == 0 {
		return refusal(a)
	}
	return c.activate(asked.Key)
}

func (c *Client) activate(key []byte) error {
	if err := c.config.Credential.TPM.Activate(key); err != nil {
		return fmt.Errorf("device: the TPM did not take its key: %w", err)
	}
	return nil
}
