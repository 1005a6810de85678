package wire

import (
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// BrokerDevice is the device that a client of an MQTT broker says it is: its client id. A user
// name names the same one, alone or as IoT Hub's clients have it, {hub}/{device}/?api-version=…
//
// Errors: Malformed "device-id-missing", "device-names-differ", and those of ids.
func BrokerDevice(clientID, username string) (verify.RegistrationID, error) {
	if clientID == "" {
		return verify.RegistrationID{}, fault.New(fault.Malformed, "device-id-missing", "The client has no client id.")
	}
	id, err := verify.ParseRegistrationID(clientID)
	if err != nil {
		return id, err
	}
	if _, rest, nested := strings.Cut(username, "/"); nested {
		username, _, _ = strings.Cut(rest, "/")
	}
	if username != "" && !id.Matches(username) {
		return verify.RegistrationID{}, fault.New(fault.Malformed, "device-names-differ", "The user name names another device than the client id.")
	}
	return id, nil
}

// AskAgain is when a broker has to ask again about a client whose credential is good until some
// time, zero where nobody knows: after a while, or with that.
func AskAgain(until, now time.Time, after time.Duration) time.Time {
	if again := now.Add(after); until.IsZero() || again.Before(until) {
		return again
	}
	return until
}
