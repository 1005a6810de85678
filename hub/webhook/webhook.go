// Package webhook is the driver of hubs that are told of their devices by a signed POST: a small
// receiver in front of whatever keeps the devices' identities (docs/reference/hub-webhook.md).
//
// What is posted is the identity as it shall be, and never what has changed; so it may come
// twice, and what comes late is known by its generation. The engine's sweep calls it, outside
// any transaction; whom it may call is package callout's to say.
package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Name is what hubs are linked by.
const Name = "webhook"

// Types of what is posted.
const (
	typeIdentity = "hub.identity"
	typeTest     = "hub.test"
)

// Driver is a provisioning.HubDriver.
type Driver struct {
	http  *http.Client
	local bool
}

// New makes a Driver; local lets hubs be on this host, over plain HTTP.
func New(o callout.Options, local bool) *Driver { return &Driver{http: o.Client(), local: local} }

// Traits are those of signed POSTs, one for each device.
func (*Driver) Traits() provisioning.HubTraits {
	return provisioning.HubTraits{Batch: 1, Signed: true}
}

// Endpoint is the origin of a receiver's address.
func (d *Driver) Endpoint(address string) (string, error) {
	if err := provisioning.CheckWebhookURL(address, "/url", d.local); err != nil {
		return "", err
	}
	return provisioning.WebhookOrigin(address)
}

// message is the shape that Standard Webhooks advise.
type message struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"` // RFC 3339
	Data      any    `json:"data"`
}

// identity is what a hub shall know of a device.
type identity struct {
	IDScope        string          `json:"idScope"`
	Hub            string          `json:"hub"`
	DeviceID       string          `json:"deviceId"`
	RegistrationID string          `json:"registrationId"`
	Generation     int64           `json:"generation"`
	Present        bool            `json:"present"`
	Enabled        bool            `json:"enabled"`
	IoTEdge        bool            `json:"iotEdge"`
	Authentication *authentication `json:"authentication,omitempty"`
}

// authentication has the names of IoT Hub's device identities.
type authentication struct {
	Type         string        `json:"type"`
	SymmetricKey *symmetricKey `json:"symmetricKey,omitempty"`
	Thumbprints  *thumbprints  `json:"x509Thumbprint,omitempty"`
}

type symmetricKey struct {
	Primary   string `json:"primaryKey,omitempty"`
	Secondary string `json:"secondaryKey,omitempty"`
}

type thumbprints struct {
	Primary   string `json:"primaryThumbprint,omitempty"`
	Secondary string `json:"secondaryThumbprint,omitempty"`
}

func identityOf(to provisioning.HubAccess, want provisioning.HubIdentity) identity {
	out := identity{
		IDScope: to.IDScope, Hub: want.Hub, DeviceID: want.DeviceID, RegistrationID: want.RegistrationID.String(),
		Generation: want.Generation, Present: want.Present, Enabled: want.Enabled, IoTEdge: want.IoTEdge,
	}
	if want.Present {
		out.Authentication = authenticationOf(want.Auth)
	}
	return out
}

func authenticationOf(a provisioning.HubAuth) *authentication {
	out := &authentication{Type: string(a.Type)}
	text := func(s verify.Secret) string { return base64.StdEncoding.EncodeToString(s.Reveal()) }
	if k := a.Keys; !k[rotation.Primary].IsZero() || !k[rotation.Secondary].IsZero() {
		out.SymmetricKey = &symmetricKey{Primary: text(k[rotation.Primary]), Secondary: text(k[rotation.Secondary])}
	}
	if a.Thumbprints != [2]string{} {
		out.Thumbprints = &thumbprints{Primary: a.Thumbprints[rotation.Primary], Secondary: a.Thumbprints[rotation.Secondary]}
	}
	return out
}

// Apply posts an identity. Any status of 2xx confirms it; 400, 409, 413 and 422 are about
// the device, anything else about the hub.
//
// Errors: [provisioning.RuleHubRefused]; Unavailable "hub-unreachable" and "hub-unavailable".
func (d *Driver) Apply(ctx context.Context, to provisioning.HubAccess, list []provisioning.HubIdentity) []error {
	answers := make([]error, len(list))
	for i, want := range list {
		answers[i] = d.apply(ctx, to, want)
	}
	return answers
}

func (d *Driver) apply(ctx context.Context, to provisioning.HubAccess, want provisioning.HubIdentity) error {
	return d.post(ctx, to, typeIdentity, to.IDScope+"/"+want.Hub+"/"+strings.ToLower(want.DeviceID)+"/"+strconv.FormatInt(want.Generation, 10), identityOf(to, want))
}

// Test posts a message of nothing, which a receiver takes and passes over.
func (d *Driver) Test(ctx context.Context, to provisioning.HubAccess) error {
	name := to.IDScope + "/" + to.Hub + "/" + time.Now().Format(time.RFC3339Nano)
	return d.post(ctx, to, typeTest, name, map[string]string{"idScope": to.IDScope, "hub": to.Hub})
}

// post sends data under an id that follows from its name.
func (d *Driver) post(ctx context.Context, to provisioning.HubAccess, kind, name string, data any) error {
	body, err := json.Marshal(message{Type: kind, Timestamp: time.Now().UTC().Format(time.RFC3339), Data: data})
	if err != nil {
		return err
	}
	id := sha256.Sum256([]byte(name))
	answer, err := callout.Message{
		URL: to.URL, ContentType: "application/json; charset=utf-8", ID: "msg_" + hex.EncodeToString(id[:16]), Key: to.Key.Reveal(), Body: body,
	}.Post(ctx, d.http)
	switch {
	case errors.Is(err, callout.ErrAddress):
		return fault.New(fault.Unavailable, "hub-unreachable", "the hub is at an address that this server does not call").Because(err)
	case err != nil:
		return fault.New(fault.Unavailable, "hub-unreachable", "the hub could not be reached").Because(err)
	case answer.Taken():
		return nil
	}
	switch answer.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fault.New(fault.Conflict, provisioning.RuleHubRefused, "the hub refused the device: it answered %d", answer.Status).Later(answer.RetryAfter)
	}
	return fault.New(fault.Unavailable, "hub-unavailable", "the hub answered %d", answer.Status).Later(answer.RetryAfter)
}
