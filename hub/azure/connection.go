package azure

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// connection is what the connection string of a shared access policy says.
type connection struct {
	host   string // what tokens are for
	at     string // where the hub is called: the same, unless there is a gateway in front of it
	policy string
	key    verify.Secret
}

const (
	minKey = 16 // octets
	// tokenLife bounds what a token that leaks is worth, and how far the two clocks may differ.
	tokenLife = time.Hour
)

// parseConnection reads HostName=…;SharedAccessKeyName=…;SharedAccessKey=…, in any order, and
// GatewayHostName where the hub is called elsewhere. No error repeats any of it: a key may stand
// where it should not.
//
// Errors: Malformed "connection-string", at "/url".
func parseConnection(text string) (connection, error) {
	parts := map[string]string{"HostName": "", "SharedAccessKeyName": "", "SharedAccessKey": "", "GatewayHostName": ""}
	for part := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(part, "=")
		before, known := parts[name]
		switch {
		case !ok || !known:
			return connection{}, badConnection("it has a part that is none of HostName, SharedAccessKeyName, SharedAccessKey and GatewayHostName")
		case value == "" || before != "":
			return connection{}, badConnection(name + " is empty or stands twice")
		}
		parts[name] = value
	}
	for _, name := range []string{"HostName", "SharedAccessKeyName", "SharedAccessKey"} {
		if parts[name] == "" {
			return connection{}, badConnection(name + " is missing")
		}
	}
	c := connection{host: strings.ToLower(parts["HostName"]), at: strings.ToLower(parts["GatewayHostName"]), policy: parts["SharedAccessKeyName"]}
	if c.at == "" {
		c.at = c.host
	}
	if !isHost(c.host) || strings.Contains(c.host, ":") {
		return connection{}, badConnection("HostName is no host name; a port belongs into GatewayHostName")
	}
	if !isHost(c.at) {
		return connection{}, badConnection("GatewayHostName is no host name, with a port or without")
	}
	key, err := base64.StdEncoding.DecodeString(parts["SharedAccessKey"])
	if err != nil || len(key) < minKey {
		return connection{}, badConnection("SharedAccessKey is no key in base64")
	}
	c.key = verify.NewSecret(key)
	return c, nil
}

func badConnection(why string) error {
	return fault.New(fault.Malformed, "connection-string",
		"an Azure IoT Hub is linked by a connection string, HostName=…;SharedAccessKeyName=…;SharedAccessKey=…: %s", why).At("/url")
}

// isHost says whether text is all of an address but its scheme.
func isHost(text string) bool {
	u, err := url.Parse("https://" + text)
	return err == nil && u.Host == text && u.Hostname() != ""
}

func (c connection) origin() string { return "https://" + c.at }

// token signs for the whole hub (contract §1.2). It costs less than keeping one would.
func (c connection) token(now time.Time) string {
	resource, expiry := url.QueryEscape(c.host), strconv.FormatInt(now.Add(tokenLife).Unix(), 10)
	mac := hmac.New(sha256.New, c.key.Reveal())
	mac.Write([]byte(resource + "\n" + expiry))
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return "SharedAccessSignature sr=" + resource + "&sig=" + signature + "&se=" + expiry + "&skn=" + url.QueryEscape(c.policy)
}
