package dps

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// MaxBody is the limit of the Azure-shaped doors (INV-R1).
const MaxBody = 128 << 10

// Request is what the body of register or of a status lookup says (§2.1). The zero value
// asks for nothing but to be provisioned.
type Request struct {
	named   bool   // a registrationId was there, and is the address's
	csr     []byte // DER; nil: none, or a version that does not know it
	payload []byte // a JSON object; nil: none
	tpm     *provisioning.ShownTPM
}

type requestBody struct {
	RegistrationID *string         `json:"registrationId"`
	TPM            json.RawMessage `json:"tpm"`
	CSR            json.RawMessage `json:"csr"`
	OldCSR         json.RawMessage `json:"clientCertificateCsr"`
	Payload        json.RawMessage `json:"payload"`
}

// ReadRegister reads the body of register, which names the registration once more; nil is
// none. Errors are Malformed.
//
// It is what any transport carries: the keys of a TPM come over HTTPS alone (§2.4).
func (k Call) ReadRegister(text []byte) (Request, error) {
	r, err := k.readRegister(text)
	if err == nil && r.tpm != nil {
		err = fault.New(fault.Malformed, "tpm-transport", "A device with a TPM registers over HTTPS.")
	}
	return r, err
}

func (k Call) readRegister(text []byte) (Request, error) {
	r, err := k.read(text)
	if err == nil && !r.named {
		err = fault.New(fault.Malformed, "registration-id-missing", "The body has no registrationId.")
	}
	return r, err
}

// checkLookup reads the body of a status lookup, which changes nothing.
func (k Call) checkLookup(text []byte) error {
	r, err := k.read(text)
	if err == nil && r.csr != nil {
		err = fault.New(fault.Malformed, "csr-in-lookup", "A status lookup takes no csr; register with it.")
	}
	return err
}

func (k Call) read(text []byte) (Request, error) {
	if text == nil {
		return Request{}, nil
	}
	return decode(text, k.version, k.id)
}

// decode reads a body, syntax alone: all that a device may learn before it has proved
// who it is. A field that is null is not there.
func decode(text []byte, v version, id verify.RegistrationID) (Request, error) {
	var body requestBody
	if err := wire.DecodeJSON(text, &body); err != nil {
		return Request{}, err
	}
	var r Request
	if body.RegistrationID != nil {
		if !id.Matches(*body.RegistrationID) {
			return Request{}, fault.New(fault.Malformed, "registration-id-differs", "The registrationId in the body is not the one in the address.")
		}
		r.named = true
	}
	if wire.Given(body.TPM) {
		var err error
		if r.tpm, err = decodeTPM(body.TPM); err != nil {
			return Request{}, err
		}
	}
	if wire.Given(body.Payload) {
		if body.Payload[0] != '{' {
			return Request{}, fault.New(fault.Malformed, "payload", "The payload is not a JSON object.")
		}
		r.payload = body.Payload
	}
	var err error
	switch {
	case wire.Given(body.CSR) && v.carriesCSR():
		r.csr, err = decodeCSR(body.CSR)
	case wire.Given(body.OldCSR) && v.carriesOldCSR():
		r.csr, err = decodeOldCSR(body.OldCSR)
	}
	return r, err
}

// decodeTPM reads the keys of a TPM, and takes none that is not of its sort.
func decodeTPM(field json.RawMessage) (*provisioning.ShownTPM, error) {
	var keys struct {
		EndorsementKey []byte          `json:"endorsementKey"`
		StorageRootKey []byte          `json:"storageRootKey"`
		Certificates   [][]byte        `json:"endorsementCertificateChain"` // ours, as the next: Azure has no groups of TPMs
		AttestationKey *attestationKey `json:"attestationKey"`
	}
	if err := json.Unmarshal(field, &keys); err != nil {
		return nil, fault.New(fault.Malformed, "tpm", "The tpm is no object with endorsementKey and storageRootKey in base64.").Because(err)
	}
	ek, err := tpm.ParseEndorsementKey(keys.EndorsementKey)
	if err != nil {
		return nil, err
	}
	srk, err := tpm.ParseStorageRootKey(keys.StorageRootKey)
	if err != nil {
		return nil, err
	}
	shown := &provisioning.ShownTPM{Endorsement: ek, StorageRoot: srk}
	if len(keys.Certificates) > 0 {
		if shown.Certificates, err = decodeChain(keys.Certificates); err != nil {
			return nil, err
		}
	}
	if keys.AttestationKey != nil {
		err = keys.AttestationKey.read(shown)
	}
	return shown, err
}

// decodeChain reads certificates in DER, leaf first.
func decodeChain(ders [][]byte) (verify.Chain, error) {
	var certs []*x509.Certificate
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault.New(fault.Malformed, "endorsement-certificate", "A member of endorsementCertificateChain is no X.509 certificate in base64 DER.").Because(err)
		}
		certs = append(certs, cert)
	}
	return verify.ReadChain(certs)
}

func decodeCSR(field json.RawMessage) ([]byte, error) {
	var text string
	if err := json.Unmarshal(field, &text); err != nil {
		return nil, notBase64(err)
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, notBase64(err)
	}
	return der, nil
}

// decodeOldCSR reads PEM, or base64 as decodeCSR.
func decodeOldCSR(field json.RawMessage) ([]byte, error) {
	var text string
	if err := json.Unmarshal(field, &text); err != nil {
		return nil, notBase64(err)
	}
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return block.Bytes, nil
	}
	return decodeCSR(field)
}

func notBase64(cause error) error {
	return fault.New(fault.Malformed, "csr-not-base64", "The csr is not a text of base64 (DER, without PEM lines).").Because(cause)
}
