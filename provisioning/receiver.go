package provisioning

import (
	"crypto/rand"
	"net/url"
	"time"
)

// receiverKeySize is the length in octets of a key that signs what is sent to a receiver of
// somebody else's: a subscriber, or a hub that lives elsewhere. Standard Webhooks wants 24 to 64.
const receiverKeySize = 32

func newReceiverKey() []byte {
	key := make([]byte, receiverKeySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

// originOf is what may be shown of an address sealed for a purpose.
func (e *Engine) originOf(purpose string, sealed []byte) (string, error) {
	address, err := e.box.Open(purpose, sealed)
	if err != nil {
		return "", err
	}
	return WebhookOrigin(string(address))
}

// WebhookOrigin is what may be shown of a receiver's address: its scheme and host.
func WebhookOrigin(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return u.Scheme + "://" + u.Host, nil
}

// backoff is how long nothing is sent after so many failures in a row: a second, then twice as
// long each time, to an hour.
func backoff(tries int) time.Duration {
	if tries > 12 {
		return time.Hour
	}
	return min(time.Hour, time.Second<<(tries-1))
}
