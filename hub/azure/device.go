package azure

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	enabled  = "enabled"
	disabled = "disabled"
)

// device is what the driver keeps of a device (contract §8).
type device struct {
	Status         string         `json:"status"`
	StatusReason   string         `json:"statusReason"`
	Capabilities   capabilities   `json:"capabilities"`
	Authentication authentication `json:"authentication"`
}

type capabilities struct {
	IoTEdge bool `json:"iotEdge"`
}

// authentication is sent whole: what is left out of it a hub may make anew.
type authentication struct {
	Type         provisioning.HubAuthType `json:"type"`
	SymmetricKey symmetricKey             `json:"symmetricKey"`
	Thumbprints  thumbprints              `json:"x509Thumbprint"`
}

// symmetricKey is in base64; of a device that has none it is null.
type symmetricKey struct {
	Primary   *string `json:"primaryKey"`
	Secondary *string `json:"secondaryKey"`
}

type thumbprints struct {
	Primary   *string `json:"primaryThumbprint"`
	Secondary *string `json:"secondaryThumbprint"`
}

// held is a device that a hub has.
type held struct {
	device
	DeviceID string `json:"deviceId"`
	ETag     string `json:"etag"`
	whole    map[string]json.RawMessage
}

// byline begins the status reason of what Muster wrote.
const byline = "Muster "

// generation is that of what Muster said last; 0 when somebody else has spoken since.
func (d device) generation() int64 {
	text, ok := strings.CutPrefix(d.StatusReason, byline)
	number, _, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return n
}

// deviceOf is what a device shall be on a hub that has it as was; nil: that has not.
//
// A hub has no selfSigned device without a certificate. One that has none left is shut out with
// those it had.
func deviceOf(want provisioning.HubIdentity, was *device) (device, error) {
	d := device{
		Status: enabled, StatusReason: byline + strconv.FormatInt(want.Generation, 10),
		Capabilities: capabilities{want.IoTEdge}, Authentication: authentication{Type: want.Auth.Type},
	}
	if !want.Enabled {
		d.shut("what attested the device is disallowed")
	}
	switch {
	case want.Auth.Type == provisioning.HubSAS:
		d.Authentication.SymmetricKey = keysOf(want.Auth.Keys, was)
	case want.Auth.Type == provisioning.HubSelfSigned && want.Auth.Thumbprints == [2]string{}:
		if was == nil {
			return d, refused("the device has no certificate, and no IoT Hub takes it without")
		}
		d.shut("the device has no certificate")
		d.Authentication = was.Authentication
	case want.Auth.Type == provisioning.HubSelfSigned:
		d.Authentication.Thumbprints = thumbprints{orNull(want.Auth.Thumbprints[0]), orNull(want.Auth.Thumbprints[1])}
	}
	return d, nil
}

func (d *device) shut(why string) {
	d.Status = disabled
	d.StatusReason = fmt.Sprintf("%s: %s", d.StatusReason, why)
}

// keysOf are the keys that are known here, and of others those that the hub has. A new device's
// are "", which asks the hub to make them.
func keysOf(keys [2]verify.Secret, was *device) symmetricKey {
	text := [2]string{}
	if was != nil && was.Authentication.Type == provisioning.HubSAS {
		text = [2]string{orEmpty(was.Authentication.SymmetricKey.Primary), orEmpty(was.Authentication.SymmetricKey.Secondary)}
	}
	for i, key := range keys {
		if !key.IsZero() {
			text[i] = base64.StdEncoding.EncodeToString(key.Reveal())
		}
	}
	return symmetricKey{&text[0], &text[1]}
}

// is says whether a hub that has d is in step with want.
func (d device) is(want device) bool {
	a, b := d.Authentication, want.Authentication
	return d.Status == want.Status && d.StatusReason == want.StatusReason && d.Capabilities == want.Capabilities && a.Type == b.Type &&
		orEmpty(a.SymmetricKey.Primary) == orEmpty(b.SymmetricKey.Primary) && orEmpty(a.SymmetricKey.Secondary) == orEmpty(b.SymmetricKey.Secondary) &&
		strings.EqualFold(orEmpty(a.Thumbprints.Primary), orEmpty(b.Thumbprints.Primary)) &&
		strings.EqualFold(orEmpty(a.Thumbprints.Secondary), orEmpty(b.Thumbprints.Secondary))
}

// over lays d over all that the hub has of a device: its place among edge devices, say, is not
// Muster's to change.
func (d device) over(was *held) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	if was != nil {
		maps.Copy(out, was.whole)
	}
	return out, json.Unmarshal(text, &out)
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
