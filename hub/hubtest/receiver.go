package hubtest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Receiver is a hub behind a webhook, written after docs/reference/hub-webhook.md: it checks
// signatures with the standard's own library and keeps its devices in a map.
type Receiver struct {
	*httptest.Server
	t       testing.TB
	mu      sync.Mutex
	key     []byte
	devices map[string]received
	answer  func(w http.ResponseWriter) bool // says whether it has answered; nil: it has not
	posts   int                              // identities that came, taken or not
}

// received is a device; one that was removed is kept for its generation.
type received struct {
	Device
	present    bool
	generation int64
}

// NewReceiver opens a hub. Until it is told another, its key is one of 32 zeros.
func NewReceiver(t testing.TB) *Receiver {
	r := &Receiver{t: t, key: make([]byte, 32), devices: map[string]received{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// Access is how the hub is reached.
func (r *Receiver) Access() provisioning.HubAccess {
	r.mu.Lock()
	defer r.mu.Unlock()
	return provisioning.HubAccess{IDScope: "0neTEST", Hub: "hub-1.example.net", URL: r.URL, Key: verify.NewSecret(r.key)}
}

// SignedWith tells it the key that it was linked with.
func (r *Receiver) SignedWith(key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key = key
}

// Answers has it answer something of its own; nil ends that.
func (r *Receiver) Answers(answer func(w http.ResponseWriter) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// Posts counts the identities that came.
func (r *Receiver) Posts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.posts
}

// Device is what it holds of a device.
func (r *Receiver) Device(id string) (Device, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.devices[strings.ToLower(id)]
	return d.Device, d.present
}

type posted struct {
	Type string `json:"type"`
	Data struct {
		DeviceID       string `json:"deviceId"`
		Generation     int64  `json:"generation"`
		Present        bool   `json:"present"`
		Enabled        bool   `json:"enabled"`
		IoTEdge        bool   `json:"iotEdge"`
		Authentication struct {
			Type         string `json:"type"`
			SymmetricKey *struct {
				Primary   string `json:"primaryKey"`
				Secondary string `json:"secondaryKey"`
			} `json:"symmetricKey"`
			Thumbprints struct {
				Primary   string `json:"primaryThumbprint"`
				Secondary string `json:"secondaryThumbprint"`
			} `json:"x509Thumbprint"`
		} `json:"authentication"`
	} `json:"data"`
}

// ServeHTTP takes what is posted.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller has gone
	}
	hook, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(r.key))
	if err == nil {
		err = hook.Verify(body, req.Header)
	}
	var said posted
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err != nil {
		r.t.Errorf("what was posted is not signed, or not JSON: %v: %s", err, body)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if said.Type == "hub.identity" {
		r.posts++
	}
	if r.answer != nil && r.answer(w) {
		return
	}
	if said.Type == "hub.identity" {
		r.take(said)
	}
	w.WriteHeader(http.StatusNoContent)
}

// take does as it is told, unless it was told something later already.
func (r *Receiver) take(said posted) {
	id, d := strings.ToLower(said.Data.DeviceID), said.Data
	was := r.devices[id]
	if d.Generation <= was.generation {
		return
	}
	is := received{generation: d.Generation, present: d.Present}
	if d.Present {
		a := d.Authentication
		is.Device = Device{Enabled: d.Enabled, IoTEdge: d.IoTEdge, Type: provisioning.HubAuthType(a.Type), Thumbprints: [2]string{a.Thumbprints.Primary, a.Thumbprints.Secondary}}
		if is.Type == provisioning.HubSAS {
			is.Keys = was.Keys
			if a.SymmetricKey != nil {
				is.Keys = [2]string{a.SymmetricKey.Primary, a.SymmetricKey.Secondary}
			}
		}
	}
	r.devices[id] = is
}
