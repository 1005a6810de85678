package instance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// ServiceToken is an Authorization header for the service API, good for so long: a shared
// access signature by the policy and key of the connection string (protocols/dps.md §1.2).
func (i *Instance) ServiceToken(life time.Duration) (string, error) { return token(i.Service, life) }

// HubToken is the same for the hub registry.
func (i *Instance) HubToken(life time.Duration) (string, error) { return token(i.Hub, life) }

func token(connection string, life time.Duration) (string, error) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(connection, ";") {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	key, err := base64.StdEncoding.DecodeString(fields["SharedAccessKey"])
	if err != nil {
		return "", fmt.Errorf("a connection string: %w", err)
	}
	resource, expiry := url.QueryEscape(fields["HostName"]), fmt.Sprint(time.Now().Add(life).Unix())
	h := hmac.New(sha256.New, key)
	h.Write([]byte(resource + "\n" + expiry))
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(h.Sum(nil)))
	return "SharedAccessSignature sr=" + resource + "&sig=" + signature + "&se=" + expiry + "&skn=" + fields["SharedAccessKeyName"], nil
}
