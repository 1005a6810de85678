package hubtest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/passmuster/muster/provisioning"
)

// stored is a device that a hub has.
type stored struct {
	Device
	id, etag, reason, scope string
}

// deviceBody is a device as it is sent and answered.
type deviceBody struct {
	DeviceID     string `json:"deviceId,omitempty"`
	ETag         string `json:"etag,omitempty"`
	Status       string `json:"status,omitempty"`
	StatusReason string `json:"statusReason,omitempty"`
	DeviceScope  string `json:"deviceScope,omitempty"`
	Capabilities struct {
		IoTEdge bool `json:"iotEdge"`
	} `json:"capabilities"`
	Authentication struct {
		Type         provisioning.HubAuthType `json:"type,omitempty"`
		SymmetricKey struct {
			Primary   *string `json:"primaryKey"`
			Secondary *string `json:"secondaryKey"`
		} `json:"symmetricKey"`
		Thumbprints thumbprintBody `json:"x509Thumbprint"`
	} `json:"authentication"`
}

type thumbprintBody struct {
	Primary   *string `json:"primaryThumbprint"`
	Secondary *string `json:"secondaryThumbprint"`
}

// Device is what it holds of a device.
func (h *IoTHub) Device(id string) (Device, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, there := h.devices[id]
	return d.Device, there
}

// Reason is what it says of a device's status.
func (h *IoTHub) Reason(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[id].reason
}

// Scope is a device's place among edge devices.
func (h *IoTHub) Scope(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[id].scope
}

// Change is what its own operator does to a device: it gets an ETag, and no reason but his.
func (h *IoTHub) Change(id, reason string, edit func(*Device)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[id]
	d.id, d.reason, d.etag = id, reason, h.nextETag()
	edit(&d.Device)
	h.devices[id] = d
}

// Place puts a device below an edge device.
func (h *IoTHub) Place(id, scope string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[id]
	d.scope, d.etag = scope, h.nextETag()
	h.devices[id] = d
}

func (h *IoTHub) nextETag() string {
	h.written++
	return encoded(strconv.Itoa(100000 + h.written))
}

func (d stored) body() (b deviceBody) {
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	b.DeviceID, b.ETag, b.Status, b.StatusReason, b.DeviceScope = d.id, d.etag, "disabled", d.reason, d.scope
	if d.Enabled {
		b.Status = "enabled"
	}
	b.Capabilities.IoTEdge, b.Authentication.Type = d.IoTEdge, d.Type
	b.Authentication.SymmetricKey.Primary, b.Authentication.SymmetricKey.Secondary = text(d.Keys[0]), text(d.Keys[1])
	b.Authentication.Thumbprints = thumbprintBody{text(d.Thumbprints[0]), text(d.Thumbprints[1])}
	return b
}

var (
	goodID         = regexp.MustCompile(`^[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}$`)
	goodThumbprint = regexp.MustCompile(`^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$`)
)

// stored reads a device as it is sent: it replaces whatever there was.
func (h *IoTHub) stored(id string, b deviceBody) (stored, *problem) {
	d := stored{id: id, reason: b.StatusReason, scope: b.DeviceScope}
	d.Enabled, d.IoTEdge, d.Type = b.Status != "disabled", b.Capabilities.IoTEdge, b.Authentication.Type
	if !goodID.MatchString(id) || d.Enabled && b.Status != "enabled" && b.Status != "" {
		return d, badArgument("id or status")
	}
	if utf8.RuneCountInString(d.reason) > 128 {
		return d, badArgument("statusReason")
	}
	keys, prints := b.Authentication.SymmetricKey, b.Authentication.Thumbprints
	switch d.Type {
	case "", provisioning.HubSAS:
		d.Type = provisioning.HubSAS
		for i, text := range []*string{keys.Primary, keys.Secondary} {
			d.Keys[i] = encoded("made by the hub " + h.nextETag())
			if text != nil && *text != "" {
				raw, err := base64.StdEncoding.DecodeString(*text)
				if err != nil || len(raw) < 16 || len(raw) > 64 {
					return d, badArgument("symmetricKey")
				}
				d.Keys[i] = *text
			}
		}
	case provisioning.HubSelfSigned:
		for i, text := range []*string{prints.Primary, prints.Secondary} {
			if text != nil && *text != "" {
				if !goodThumbprint.MatchString(*text) {
					return d, badArgument("x509Thumbprint")
				}
				d.Thumbprints[i] = *text
			}
		}
		if d.Thumbprints == [2]string{} {
			return d, badArgument("x509Thumbprint")
		}
	case provisioning.HubCertificateAuthority, provisioning.HubNoAuth:
	default:
		return d, badArgument("authentication.type")
	}
	return d, nil
}

// matches says whether a device is as If-Match wants it; an ETag stands there in quotes.
func (d stored) matches(condition string) bool {
	condition = strings.Trim(condition, `"`)
	return condition == "*" || condition == d.etag
}

func (h *IoTHub) get(w http.ResponseWriter, id string) *problem {
	d, there := h.devices[id]
	if !there {
		return errNoDevice
	}
	h.reply(w, d)
	return nil
}

func (h *IoTHub) reply(w http.ResponseWriter, d stored) {
	w.Header().Set("ETag", strconv.Quote(d.etag))
	reply(w, http.StatusOK, d.body())
}

func (h *IoTHub) put(w http.ResponseWriter, id, condition string, body []byte) *problem {
	var b deviceBody
	if err := json.Unmarshal(body, &b); err != nil || b.DeviceID != id {
		return badArgument("body")
	}
	if p := h.write(id, condition, b); p != nil {
		return p
	}
	h.reply(w, h.devices[id])
	return nil
}

// write creates without a condition, and updates with one.
func (h *IoTHub) write(id, condition string, b deviceBody) *problem {
	was, there := h.devices[id]
	switch {
	case there && condition == "":
		return errThere
	case !there && condition != "":
		return errNoDevice
	case there && !was.matches(condition):
		return errETag
	case !there && h.capacity > 0 && len(h.devices) >= h.capacity:
		return errFull
	}
	d, p := h.stored(id, b)
	if p != nil {
		return p
	}
	d.etag = h.nextETag()
	h.devices[id] = d
	return nil
}

func (h *IoTHub) delete(w http.ResponseWriter, id, condition string) *problem {
	if p := h.remove(id, condition); p != nil {
		return p
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *IoTHub) remove(id, condition string) *problem {
	was, there := h.devices[id]
	switch {
	case !there:
		return errNoDevice
	case condition == "":
		return badArgument("If-Match")
	case !was.matches(condition):
		return errETag
	}
	delete(h.devices, id)
	return nil
}
