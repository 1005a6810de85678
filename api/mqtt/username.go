package mqtt

import (
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// username is what the user name of a CONNECT says (§3).
type username struct{ idScope, registrationID, apiVersion string }

// parseUsername reads {idScope}/registrations/{id}/api-version=V&ClientVersion=C: parameters
// of any case, in any order, unknown ones passed over. A clients' version may hold anything.
// It is Malformed, rule "username"; the parts are not looked into.
func parseUsername(text string) (username, error) {
	parts := strings.SplitN(text, "/", 4)
	if len(parts) != 4 || !strings.EqualFold(parts[1], "registrations") {
		return username{}, badUsername()
	}
	u := username{idScope: parts[0], registrationID: parts[2]}
	for parameter := range strings.SplitSeq(parts[3], "&") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(name, "api-version") {
			continue
		}
		if u.apiVersion != "" {
			return username{}, badUsername()
		}
		u.apiVersion = value
	}
	if u.apiVersion == "" {
		return username{}, badUsername()
	}
	return u, nil
}

func badUsername() error {
	return fault.New(fault.Malformed, "username", "The user name is not {idScope}/registrations/{id}/api-version={version}.")
}
