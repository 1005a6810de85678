package mqtt

import (
	"context"
	"net/http"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/passmuster/muster/api/dps"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// connect decides a CONNECT.
func (s *session) connect(pk packets.Packet) error {
	if s.admitted {
		return ended("a second CONNECT")
	}
	if string(pk.Connect.ProtocolName) != "MQTT" || pk.ProtocolVersion != 4 {
		return s.refuseVersion(pk.ProtocolVersion)
	}
	if len(pk.Connect.Password) == 0 {
		pk.Connect.PasswordFlag = false // the check below would not take it, and X.509 has none
	}
	if pk.ConnectValidate() != packets.CodeSuccess {
		return ended("a malformed CONNECT") // no CONNACK: [MQTT-3.1.4-1]
	}
	began, trace := time.Now(), wire.NewTraceID()
	err := s.attest(pk.Connect)
	s.done("CONNECT", "connect", trace, began, http.StatusOK, err)
	if err != nil {
		return s.refuse(connack(err), "refused")
	}
	s.admitted, s.idle = true, idleLimit
	if asked := time.Duration(pk.Connect.Keepalive) * time.Second; asked > 0 {
		s.idle = min(asked*3/2, idleLimit) // [MQTT-3.1.2-24]
	}
	return s.acknowledge(packets.Connack, packets.Packet{})
}

// refuseVersion refuses MQTT 3.1 and 5, the latter in its own words.
func (s *session) refuseVersion(version byte) error {
	code := packets.Err3UnsupportedProtocolVersion
	if version == 5 {
		s.client.Properties.ProtocolVersion = 5
		code = packets.ErrUnsupportedProtocolVersion
	}
	return s.refuse(code, "another version of MQTT")
}

func (s *session) refuse(code packets.Code, why ended) error {
	if err := s.acknowledge(packets.Connack, packets.Packet{ReasonCode: code.Code}); err != nil {
		return err
	}
	return why
}

// ruleClientID is the rule word for a client id that is not the registration's.
const ruleClientID = "client-id"

// attest reads who is calling and asks the engine whether it may.
func (s *session) attest(c packets.ConnectParams) error {
	if c.WillFlag || c.WillQos > 0 || c.WillRetain {
		return fault.New(fault.Unauthenticated, "will", "A will is not taken.")
	}
	u, err := parseUsername(string(c.Username))
	if err != nil {
		return err
	}
	if s.call, err = dps.NewCall(s.server.tenants, u.idScope, u.registrationID, u.apiVersion); err != nil {
		return err
	}
	if !s.call.Names(c.ClientIdentifier) {
		return fault.New(fault.Malformed, ruleClientID, "The client id is not the registration id.")
	}
	shown, err := s.evidence(string(c.Password))
	if err != nil {
		return err
	}
	s.attempt = s.call.Attempt(doorName, s.address, shown)
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	return s.call.Attest(ctx, s.attempt)
}

// evidence is what CONNECT shows. A token counts before a certificate.
func (s *session) evidence(password string) (provisioning.Evidence, error) {
	if password != "" {
		token, err := verify.ParseSAS(password)
		return provisioning.Evidence{Token: &token}, err
	}
	if len(s.chain) == 0 {
		return provisioning.Evidence{}, nil
	}
	chain, err := verify.ReadChain(s.chain)
	return provisioning.Evidence{Chain: chain, Connection: new(provisioning.Connection)}, err
}

// connack is what a refused CONNECT is told: 4 for what cannot be read, 2 for another client id, 5
// for every refusal, an unknown id scope among them, and 3 to come back later.
func connack(err error) packets.Code {
	if fault.RuleOf(err) == ruleClientID {
		return packets.Err3ClientIdentifierNotValid
	}
	switch fault.KindOf(err) {
	case fault.Malformed:
		return packets.ErrMalformedUsernameOrPassword
	case fault.Unauthenticated, fault.NotFound, fault.Disallowed, fault.Forbidden:
		return packets.Err3NotAuthorized
	}
	return packets.Err3ServerUnavailable
}
