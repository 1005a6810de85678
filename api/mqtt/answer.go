package mqtt

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/passmuster/muster/api/dps"
	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// publish acknowledges a request and answers it.
func (s *session) publish(pk packets.Packet) error {
	r, ok := parseTopic(pk.TopicName)
	switch {
	case !ok:
		return ended("another topic")
	case pk.FixedHeader.Qos > 1:
		return ended("a message of QoS 2")
	case pk.FixedHeader.Retain:
		return ended("a retained message")
	case pk.PublishValidate(0) != packets.CodeSuccess:
		return ended("a malformed message")
	case len(s.unacked) >= maxUnacknowledged:
		return ended("answers are not acknowledged")
	}
	if pk.FixedHeader.Qos == 1 {
		if err := s.acknowledge(packets.Puback, packets.Packet{PacketID: pk.PacketID}); err != nil {
			return err
		}
	}
	return s.answer(r, pk.Payload)
}

// answer asks the engine, which decides anew who is speaking, and answers this client alone.
// A client that has not subscribed hears nothing.
func (s *session) answer(r request, payload []byte) error {
	began, trace := time.Now(), wire.NewTraceID()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	var a dps.Answer
	var err error
	op := "register"
	if r.poll {
		op = "poll"
		a, err = s.poll(ctx, r.operationID)
	} else {
		a, err = s.register(ctx, payload)
	}
	if err != nil {
		a = failure(err, trace, s.server.settings.Now())
	}
	s.done("PUBLISH", op, trace, began, a.Status, err)
	if !s.subscribed {
		return nil
	}
	out := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: s.qos},
		TopicName:   r.answerTopic(a.Status, a.RetryAfter),
		Payload:     a.Body,
	}
	if s.qos > 0 {
		out.PacketID = s.nextPacketID()
	}
	return s.client.WritePacket(out)
}

// register takes an empty payload too: CONNECT has named the registration already.
func (s *session) register(ctx context.Context, payload []byte) (dps.Answer, error) {
	var r dps.Request
	if len(bytes.TrimSpace(payload)) > 0 {
		var err error
		if r, err = s.call.ReadRegister(payload); err != nil {
			return dps.Answer{}, s.call.Misread(s.attempt, err)
		}
	}
	a, err := s.call.Register(ctx, s.attempt, r)
	// What CONNECT verified was worth keeping until now. Devices register once and then idle;
	// the facts of that would be a quarter of what such a connection costs.
	s.attempt.Evidence.Connection = nil
	return a, err
}

// poll is not given the payload: clients send what they like (§3).
func (s *session) poll(ctx context.Context, operationID string) (dps.Answer, error) {
	if operationID == "" {
		return dps.Answer{}, fault.New(fault.Malformed, "operation-id-missing", "The topic has no operationId.")
	}
	return s.call.Poll(ctx, s.attempt, operationID)
}

// failure answers an error as over HTTP (§1.1).
func failure(err error, trace string, now time.Time) (a dps.Answer) {
	a.Status, a.Body = azure.Error(err, trace, now)
	advice := make(http.Header)
	wire.Advise(advice, a.Status, err)
	a.RetryAfter = advice.Get("Retry-After")
	return a
}

// nextPacketID is one that no unacknowledged answer has.
func (s *session) nextPacketID() uint16 {
	s.packetID++
	for s.packetID == 0 || slices.Contains(s.unacked, s.packetID) {
		s.packetID++
	}
	s.unacked = append(s.unacked, s.packetID)
	return s.packetID
}

// done tells log and metrics of a request that was answered, as the doors of HTTP do.
func (s *session) done(method, op, trace string, began time.Time, code int, err error) {
	if err != nil {
		code = azure.CodeOf(err) / 1000
	}
	set, took := s.server.settings, time.Since(began)
	switch fault.KindOf(err) {
	case fault.Unavailable:
		set.Log.Warn("request not served", "door", doorName, "traceId", trace, "error", err)
	case fault.Internal:
		if err != nil {
			set.Log.Error("request failed", "door", doorName, "traceId", trace, "error", err)
		}
	}
	set.Log.Debug("request", "door", doorName, "op", op, "method", method, "code", code, "dur", took, "traceId", trace, "address", s.address)
	if set.Observe != nil {
		set.Observe(wire.Observation{Door: doorName, Method: method, Code: code, Duration: took})
	}
}
