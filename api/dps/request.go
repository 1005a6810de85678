package dps

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// maxBody is the limit of the Azure-shaped doors (INV-R1).
const maxBody = 128 << 10

// asked is what the body of register or of a status lookup says (§2.1).
type asked struct {
	named   bool   // a registrationId was there, and is the path's
	csr     []byte // DER; nil: none, or a version that does not know it
	payload []byte // a JSON object; nil: none
}

type requestBody struct {
	RegistrationID *string         `json:"registrationId"`
	TPM            json.RawMessage `json:"tpm"`
	CSR            json.RawMessage `json:"csr"`
	Payload        json.RawMessage `json:"payload"`
}

func (k call) readBody(r *http.Request) (asked, error) {
	text, err := wire.ReadBody(r, maxBody, wire.MediaTypeJSON)
	if err != nil || text == nil {
		return asked{}, err
	}
	return decode(text, k.version, k.id)
}

// decode reads a body, syntax alone: all that a device may learn before it has proved
// who it is. A field that is null is not there.
func decode(text []byte, v version, id verify.RegistrationID) (asked, error) {
	var body requestBody
	if err := wire.DecodeJSON(text, &body); err != nil {
		return asked{}, err
	}
	var a asked
	if body.RegistrationID != nil {
		if !id.Matches(*body.RegistrationID) {
			return asked{}, fault.New(fault.Malformed, "registration-id-differs", "The registrationId in the body is not the one in the address.")
		}
		a.named = true
	}
	if given(body.TPM) {
		return asked{}, fault.New(fault.Malformed, "tpm-not-supported", "TPM attestation is not supported yet.")
	}
	if given(body.Payload) {
		if body.Payload[0] != '{' {
			return asked{}, fault.New(fault.Malformed, "payload", "The payload is not a JSON object.")
		}
		a.payload = body.Payload
	}
	if given(body.CSR) && v.carriesCSR() {
		var err error
		if a.csr, err = decodeCSR(body.CSR); err != nil {
			return asked{}, err
		}
	}
	return a, nil
}

// given tells a field that is there from one that is absent or null.
func given(field json.RawMessage) bool { return len(field) > 0 && string(field) != "null" }

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

func notBase64(cause error) error {
	return fault.New(fault.Malformed, "csr-not-base64", "The csr is not a text of base64 (DER, without PEM lines).").Because(cause)
}

func (a asked) checkRegister() error {
	if !a.named {
		return fault.New(fault.Malformed, "registration-id-missing", "The body has no registrationId.")
	}
	return nil
}

func (a asked) checkLookup() error {
	if a.csr != nil {
		return fault.New(fault.Malformed, "csr-in-lookup", "A status lookup takes no csr; register with it.")
	}
	return nil
}
