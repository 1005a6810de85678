package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	headerXKey = "Nats-Server-Xkey"
	// audience is that of every question.
	audience = "nats-authorization-request"
)

// answer judges the client of a question. An error is about the question, which is not answered then.
func (o *Callout) answer(ctx context.Context, serverXKey string, sealed []byte) ([]byte, error) {
	q, err := o.open(serverXKey, sealed)
	if err != nil {
		return nil, err
	}
	out := jwt.NewAuthorizationResponseClaims(q.UserNkey)
	out.Audience = q.Server.ID
	v := o.judge(ctx, q)
	if out.Error = v.Reason; v.Reason == "" {
		if out.Jwt, err = o.user(q.UserNkey, v).Encode(o.Issuer); err != nil {
			return nil, err
		}
	}
	text, err := out.Encode(o.Issuer)
	if err != nil || o.XKey == nil {
		return []byte(text), err
	}
	return o.XKey.Seal([]byte(text), serverXKey)
}

// open reads a question, and holds it to be a server's.
func (o *Callout) open(serverXKey string, sealed []byte) (*jwt.AuthorizationRequestClaims, error) {
	if o.XKey != nil {
		opened, err := o.XKey.Open(sealed, serverXKey)
		if err != nil {
			return nil, fmt.Errorf("it is not sealed for the xkey: %w", err)
		}
		sealed = opened
	}
	q, err := jwt.DecodeAuthorizationRequestClaims(string(sealed)) // checks the signature
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no request, or it is sealed and there is no xkey here: %w", err)
	case q.Audience != audience || !nkeys.IsValidPublicServerKey(q.Issuer) || q.Issuer != q.Server.ID:
		return nil, errors.New("it is signed by no server")
	case !nkeys.IsValidPublicUserKey(q.UserNkey):
		return nil, errors.New("it is about no user")
	case o.XKey != nil && q.Server.XKey != serverXKey:
		return nil, errors.New("it is sealed by another than signed it")
	}
	return q, nil
}

// judge asks about the client of a question.
func (o *Callout) judge(ctx context.Context, q *jwt.AuthorizationRequestClaims) (v provisioning.HubVerdict) {
	c, err := clientOf(q)
	if err == nil {
		var list []provisioning.HubVerdict
		if list, err = o.Engine.CheckHub(ctx, o.Hub, c); err != nil {
			o.Log.Error("a client of NATS could not be judged", "door", "nats", "problem", err)
			return provisioning.HubVerdict{Reason: "unavailable"}
		}
		v = list[0]
		o.Checked("nats", v.Reason)
	} else {
		v.Reason = cmp.Or(fault.RuleOf(err), "refused") // never none
	}
	if v.Reason != "" {
		o.Log.Debug("client of a broker refused", "door", "nats", "deviceId", c.Device.String(), "reason", v.Reason)
	}
	return v
}

// clientOf is who is asked about.
func clientOf(q *jwt.AuthorizationRequestClaims) (c provisioning.HubClient, err error) {
	if q.ClientInformation.Kind != "Client" {
		return c, fault.New(fault.Malformed, "not-a-client", "Devices are no leaf nodes.")
	}
	if c.Chain, err = chainOf(q.TLS); err == nil {
		c.Device, err = deviceOf(q, c.Chain)
	}
	return c, err
}

// chainOf is what the client showed in its TLS handshake, nil where that was nothing.
func chainOf(t *jwt.ClientTLS) (verify.Chain, error) {
	if t == nil {
		return nil, nil
	}
	shown := t.Certs
	if len(t.VerifiedChains) > 0 {
		shown = t.VerifiedChains[0]
	}
	if len(shown) == 0 {
		return nil, nil
	}
	certs, err := verify.ParseCertificates([]byte(strings.Join(shown, "")))
	if err != nil {
		return nil, err
	}
	return verify.ReadChain(certs)
}

// deviceOf is the device that a client says it is: by its MQTT client id, its user name, or its
// certificate's common name.
func deviceOf(q *jwt.AuthorizationRequestClaims, chain verify.Chain) (verify.RegistrationID, error) {
	name := q.ConnectOptions.Username
	switch {
	case q.ClientInformation.MQTT != "":
		return wire.BrokerDevice(q.ClientInformation.MQTT, name)
	case name == "" && len(chain) > 0:
		name = chain.Leaf().Cert.Subject.CommonName
	}
	return wire.BrokerDevice(name, "")
}
