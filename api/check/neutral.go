package check

import (
	"encoding/base64"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// neutralRequest has one device, and one thing that it showed.
type neutralRequest struct {
	Hub         string `json:"hub"`
	DeviceID    string `json:"deviceId"`
	Certificate string `json:"certificate"` // PEM, or base64 of DER; leaf first where there are several
	Thumbprint  string `json:"thumbprint"`  // its SHA-256 in hex
	X5tS256     string `json:"x5t#S256"`    // the same in base64url (RFC 7517 §4.9)
	Token       string `json:"token"`       // SharedAccessSignature sr=…
}

func (q *neutralRequest) client() (hub string, c provisioning.HubClient, err error) {
	if q.DeviceID == "" {
		return "", c, fault.New(fault.Malformed, "device-id-missing", "The body has no deviceId.")
	}
	if c.Device, err = verify.ParseRegistrationID(q.DeviceID); err != nil {
		return "", c, err
	}
	shown := 0
	for _, text := range []string{q.Certificate, q.Thumbprint, q.X5tS256, q.Token} {
		if text != "" {
			shown++
		}
	}
	switch {
	case shown > 1:
		return "", c, fault.New(fault.Malformed, "credential-ambiguous", "One of certificate, thumbprint, x5t#S256 and token says what the device showed.")
	case q.Certificate != "":
		c.Chain, err = readChain(q.Certificate)
	case q.Thumbprint != "":
		c.Thumbprint, err = verify.ParseThumbprint(q.Thumbprint)
	case q.X5tS256 != "":
		c.Thumbprint, err = parseX5t(q.X5tS256)
	case q.Token != "":
		c.Token, err = readToken(q.Token)
	}
	return q.Hub, c, err
}

// readChain reads what was shown. That it is no chain is the broker's error here, not a
// device's.
func readChain(text string) (verify.Chain, error) {
	certs, err := verify.ParseCertificates([]byte(text))
	if err != nil {
		return nil, err
	}
	chain, err := verify.ReadChain(certs)
	return chain, malformed(err)
}

func readToken(text string) (*verify.SASToken, error) {
	token, err := verify.ParseSAS(text)
	return &token, malformed(err)
}

// malformed is a refusal of a device as one of a request.
func malformed(err error) error {
	if f := fault.As(err); f != nil {
		return fault.New(fault.Malformed, f.Rule, "%s", f.Detail)
	}
	return err
}

func parseX5t(text string) (x verify.Thumbprint, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != len(x) {
		return x, fault.New(fault.Malformed, "thumbprint", "x5t#S256 is the SHA-256 of the certificate, in base64url without padding.")
	}
	return verify.Thumbprint(raw), nil
}

// neutralAnswer is an answer to anybody. Detail and TraceID are of questions that could not be
// judged.
type neutralAnswer struct {
	Allow          bool   `json:"allow"`
	Reason         string `json:"reason,omitempty"`
	Hub            string `json:"hub,omitempty"`
	DeviceID       string `json:"deviceId,omitempty"`
	RegistrationID string `json:"registrationId,omitempty"`
	Until          string `json:"until,omitempty"` // RFC 3339
	Detail         string `json:"detail,omitempty"`
	TraceID        string `json:"traceId,omitempty"`
}

func neutralAnswerOf(v provisioning.HubVerdict) neutralAnswer {
	out := neutralAnswer{Allow: v.Reason == "", Reason: v.Reason, Hub: v.Hub, DeviceID: v.DeviceID, RegistrationID: v.Registration.String()}
	if out.Allow {
		out.Until = v.Until.UTC().Format(time.RFC3339)
	}
	return out
}
