package hub

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// never is the time of what does not happen at a registry: devices do not connect to it.
const never = "0001-01-01T00:00:00Z"

const (
	enabled      = "enabled"
	disabled     = "disabled"
	disconnected = "Disconnected"
)

// device is a device as it is answered (§8).
type device struct {
	DeviceID                   string         `json:"deviceId"`
	GenerationID               string         `json:"generationId"`
	ETag                       string         `json:"etag"`
	ConnectionState            string         `json:"connectionState"`
	Status                     string         `json:"status"`
	StatusReason               *string        `json:"statusReason"`
	ConnectionStateUpdatedTime string         `json:"connectionStateUpdatedTime"`
	StatusUpdatedTime          string         `json:"statusUpdatedTime"`
	LastActivityTime           string         `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int            `json:"cloudToDeviceMessageCount"`
	Capabilities               capabilities   `json:"capabilities"`
	Authentication             authentication `json:"authentication"`
}

type capabilities struct {
	IoTEdge bool `json:"iotEdge"`
}

// authentication is how a device proves itself. Of an answer both parts are always there,
// null where there is nothing.
type authentication struct {
	Type           string      `json:"type"`
	SymmetricKey   keys        `json:"symmetricKey"`
	X509Thumbprint thumbprints `json:"x509Thumbprint"`
}

type keys struct {
	Primary   *string `json:"primaryKey"`
	Secondary *string `json:"secondaryKey"`
}

type thumbprints struct {
	Primary   *string `json:"primaryThumbprint"`
	Secondary *string `json:"secondaryThumbprint"`
}

func deviceOf(d provisioning.HubDevice) device {
	return device{
		DeviceID: d.DeviceID, GenerationID: strconv.FormatInt(d.Created.UnixMicro(), 10), ETag: etag(d.Version),
		ConnectionState: disconnected, Status: statusOf(d), StatusReason: orNull(d.StatusReason),
		ConnectionStateUpdatedTime: never, StatusUpdatedTime: azure.Stamp(d.StatusAt), LastActivityTime: never,
		Capabilities: capabilities{d.IoTEdge},
		Authentication: authentication{
			Type:           string(d.Auth.Type),
			SymmetricKey:   keys{keyText(d.Auth.Keys[rotation.Primary]), keyText(d.Auth.Keys[rotation.Secondary])},
			X509Thumbprint: thumbprintsOf(d),
		},
	}
}

func thumbprintsOf(d provisioning.HubDevice) thumbprints {
	return thumbprints{orNull(d.Auth.Thumbprints[rotation.Primary]), orNull(d.Auth.Thumbprints[rotation.Secondary])}
}

func statusOf(d provisioning.HubDevice) string {
	if d.Enabled {
		return enabled
	}
	return disabled
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func keyText(key verify.Secret) *string {
	return orNull(base64.StdEncoding.EncodeToString(key.Reveal()))
}

// deviceBody is a device as clients send it: what they read, changed, with fields that are
// read-only and fields nobody knows. ID is what a bulk calls the device.
type deviceBody struct {
	ID             *string       `json:"id"`
	DeviceID       *string       `json:"deviceId"`
	ETag           string        `json:"etag"`
	ImportMode     string        `json:"importMode"`
	Status         *string       `json:"status"`
	StatusReason   *string       `json:"statusReason"`
	Capabilities   *edgeBody     `json:"capabilities"`
	Authentication *authenticate `json:"authentication"`
}

type edgeBody struct {
	IoTEdge *bool `json:"iotEdge"`
}

type authenticate struct {
	Type           string       `json:"type"`
	SymmetricKey   *keys        `json:"symmetricKey"`
	X509Thumbprint *thumbprints `json:"x509Thumbprint"`
}

// draft is what a body asks for, of the device that an address or a bulk names.
func (b deviceBody) draft(hub, spelled string) (provisioning.HubDraft, error) {
	d := provisioning.HubDraft{Hub: hub, Spelled: spelled, Reason: b.StatusReason}
	var err error
	if d.ID, err = parseID(spelled); err != nil {
		return d, err
	}
	if b.DeviceID != nil && !d.ID.Matches(*b.DeviceID) {
		return d, fault.New(fault.Malformed, "device-id-differs", "The deviceId in the body is not the one in the address.")
	}
	if b.Status != nil {
		on := strings.EqualFold(*b.Status, enabled)
		if !on && !strings.EqualFold(*b.Status, disabled) {
			return d, fault.New(fault.Malformed, "device-status", "A device's status is enabled or disabled.")
		}
		d.Enabled = &on
	}
	if b.Capabilities != nil {
		d.IoTEdge = b.Capabilities.IoTEdge
	}
	if b.Authentication != nil {
		d.Auth, err = b.Authentication.auth()
	}
	return d, err
}

// types are the types of authentication; clients differ in the case of the words.
var types = []provisioning.HubAuthType{
	provisioning.HubSAS, provisioning.HubSelfSigned, provisioning.HubCertificateAuthority, provisioning.HubNoAuth,
}

func (a authenticate) auth() (*provisioning.HubAuth, error) {
	out := provisioning.HubAuth{Type: provisioning.HubAuthType(a.Type)}
	for _, t := range types {
		if strings.EqualFold(a.Type, string(t)) {
			out.Type = t
		}
	}
	if a.SymmetricKey != nil {
		for slot, text := range []*string{a.SymmetricKey.Primary, a.SymmetricKey.Secondary} {
			if text == nil || *text == "" {
				continue
			}
			key, err := base64.StdEncoding.DecodeString(*text)
			if err != nil {
				return nil, fault.New(fault.Malformed, "symmetric-key", "A symmetric key is base64.").Because(err)
			}
			out.Keys[slot] = verify.NewSecret(key)
		}
	}
	if a.X509Thumbprint != nil {
		for slot, text := range []*string{a.X509Thumbprint.Primary, a.X509Thumbprint.Secondary} {
			if text != nil {
				out.Thumbprints[slot] = *text
			}
		}
	}
	return &out, nil
}

// parseID reads a device id, which has the grammar of registration ids (INV-P3).
func parseID(text string) (verify.RegistrationID, error) {
	id, err := verify.ParseRegistrationID(text)
	if err != nil {
		return id, fault.New(fault.Malformed, "device-id",
			"A device id has 1 to 128 letters, digits and the characters - . _ : and ends with a letter, a digit or a dash.").Because(err)
	}
	return id, nil
}
