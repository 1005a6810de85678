package check

import (
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
)

// The results that EMQX knows; the third, "ignore", leaves the client to the next authenticator.
const (
	allow = "allow"
	deny  = "deny"
)

// emqxRequest is the body that docs/how-to/brokers-that-ask.md configures. EMQX fills in
// ${cert_pem} as base64 of the certificate's DER, and nothing where there is none; older
// releases wrote "undefined".
type emqxRequest struct {
	Hub         string `json:"hub"`
	ClientID    string `json:"clientid"`
	Username    string `json:"username"`
	Password    string `json:"password"`
	Certificate string `json:"cert_pem"`
}

func (q *emqxRequest) client() (hub string, c provisioning.HubClient, err error) {
	for _, field := range []*string{&q.Username, &q.Password, &q.Certificate} {
		if *field == "undefined" {
			*field = ""
		}
	}
	if c.Device, err = wire.BrokerDevice(q.ClientID, q.Username); err != nil {
		return "", c, err
	}
	if q.Certificate != "" {
		if c.Chain, err = readChain(q.Certificate); err != nil {
			return "", c, err
		}
	}
	if q.Password != "" {
		token, err := readToken(q.Password)
		if err == nil {
			c.Token = token
		} else if q.Certificate == "" { // beside a certificate a password may be anything
			return "", c, err
		}
	}
	return q.Hub, c, nil
}

// emqxAnswer is an answer to EMQX, which reads the first three; the rest is for people.
type emqxAnswer struct {
	Result      string `json:"result"`
	IsSuperuser bool   `json:"is_superuser"`
	ExpireAt    int64  `json:"expire_at,omitempty"` // seconds since 1970: the client is dropped, and comes again
	Reason      string `json:"reason,omitempty"`
	Detail      string `json:"detail,omitempty"`
	TraceID     string `json:"traceId,omitempty"`
}

func emqxAnswerOf(v provisioning.HubVerdict) emqxAnswer {
	if v.Reason != "" {
		return emqxAnswer{Result: deny, Reason: v.Reason}
	}
	return emqxAnswer{Result: allow, ExpireAt: v.Until.Unix()}
}
