package azure_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/internal/testkit"
)

// transports are the ways a device reaches the server; each is a client of the page.
var transports = []string{"https", "mqtt", "mqtt-ws"}

// state is what a device is told of its registration.
type state struct {
	RegistrationID string `json:"registrationId"`
	DeviceID       string `json:"deviceId"`
	AssignedHub    string `json:"assignedHub"`
	Status         string `json:"status"`
	Substatus      string `json:"substatus"`
}

var (
	ownKey   = bytes.Repeat([]byte{1}, 32)
	spareKey = bytes.Repeat([]byte{2}, 64)
	groupKey = bytes.Repeat([]byte{3}, 64)
)

func symmetric(primary, secondary []byte) object {
	return object{"type": "symmetricKey", "symmetricKey": object{
		"primaryKey": base64.StdEncoding.EncodeToString(primary), "secondaryKey": base64.StdEncoding.EncodeToString(secondary)}}
}

func clientCertificate(pem string) object {
	return object{"type": "x509", "x509": object{"clientCertificates": object{"primary": object{"certificate": pem}}}}
}

func signingCertificate(pem string) object {
	return object{"type": "x509", "x509": object{"signingCertificates": object{"primary": object{"certificate": pem}}}}
}

// fleet is the devices of the tests, each with the row of the page it is there for.
type fleet struct {
	admitted []admitted
	refused  []refused
	polls    []admitted
}

type admitted struct {
	what     string
	as       object
	deviceID string
}

// refused is a device that is turned away: how over HTTPS, and how over MQTT.
type refused struct {
	what        string
	as          object
	https, mqtt answer
}

type answer struct {
	status int
	as     string
}

// unauthorized is what every device is told that is refused, whatever the reason. MQTT
// says it in its CONNACK.
var (
	unauthorized = answer{http.StatusUnauthorized, "UnauthorizedError"}
	notConnected = answer{5, "Error"}
)

// furnish enrolls the fleet.
func (w *world) furnish(t *testing.T) fleet {
	t.Helper()
	w.admin(t, "PUT", "/enrollments/press-key", object{"attestation": symmetric(ownKey, spareKey), "deviceId": "pump-0001"})
	w.admin(t, "PUT", "/groups/line-3", object{"attestation": symmetric(groupKey, spareKey)})
	w.admin(t, "PUT", "/enrollments/press-off", object{"attestation": symmetric(ownKey, spareKey), "provisioningStatus": "disabled"})
	w.admin(t, "PUT", "/enrollments/press-late", object{"attestation": symmetric(ownKey, spareKey), "deviceId": "pump-0001"})

	self := testkit.SelfSigned(t, "press-self")
	w.admin(t, "PUT", "/enrollments/press-self", object{"attestation": clientCertificate(string(self.PEM()))})
	works := testkit.Chain(t, "works > plant > hall > press-chain")
	w.admit(t, "works", authorityOf(t, works.Get("works")))
	bash, windows, rival := newFactory(t, certGen), newFactory(t, powerShell), newFactory(t, powerShell)
	w.admit(t, "certgen", bash.root(t))
	w.admit(t, "powershell", windows.root(t))

	chain := identityOf(t, works.Get("press-chain"))
	alone := identity("press-chain", string(works.Get("press-chain").PEM()), chain["certKey"].(string))
	elsewhere := withKey("press-key", ownKey)
	elsewhere["idScope"] = "0neFFFFFFFF"
	withPayload := withKey("press-key", ownKey)
	withPayload["payload"] = object{"model": "pump-7"}
	return fleet{
		admitted: []admitted{
			{"register: symmetric key of an enrollment", withKey("press-key", ownKey), "pump-0001"},
			{"register: its secondary key", withKey("press-key", spareKey), "pump-0001"},
			{"register: with a payload", withPayload, "pump-0001"},
			{"register: key derived from a group's", derived(groupKey, "line-3-press"), "line-3-press"},
			{"register: self-signed certificate of an enrollment", identityOf(t, self), "press-self"},
			{byCertificate, chain, "press-chain"},
			{"register: certificate as certGen makes it", bash.device(t, "press-bash"), "press-bash"},
			{"register: certificate as PowerShell makes it", windows.device(t, "press-windows"), "press-windows"},
		},
		polls: []admitted{
			{"operation status: symmetric key", withKey("press-key", ownKey), "pump-0001"},
			{"operation status: certificate", chain, "press-chain"},
		},
		refused: []refused{
			{"refused: another key", withKey("press-key", groupKey), unauthorized, notConnected},
			{"refused: a group's own key", withKey("line-3-press", groupKey), unauthorized, notConnected},
			{"refused: nobody's registration id", withKey("stranger", ownKey), unauthorized, notConnected},
			{disabled, withKey("press-off", ownKey), unauthorized, notConnected},
			{"refused: certificate without its intermediates", alone, unauthorized, notConnected},
			{"refused: certificate of another CA by the same name", rival.device(t, "press-rival"), unauthorized, notConnected},
			{"refused: CA certificate as a device's", identity("gateway", bash.edgeCA(t, "gateway"), bash.read(t, "device.key")), unauthorized, notConnected},
			{"refused: unknown id scope", elsewhere, answer{http.StatusNotFound, "Error"}, notConnected},
			{"refused: registration id that ends in a dot", withKey("press.", ownKey), answer{http.StatusBadRequest, "ArgumentError"}, answer{4, "Error"}},
		},
	}
}

// register has each device of the fleet do what it is there for, over one transport.
func (w *world) register(t *testing.T, f fleet, transport string) {
	for _, d := range f.admitted {
		t.Run(d.what, func(t *testing.T) {
			var s state
			w.device(t, transport, d.what, d.as).gives(&s)
			if s.Status != "assigned" || s.DeviceID != d.deviceID || s.RegistrationID != d.as["registrationId"] || s.AssignedHub == "" {
				t.Errorf("it was told %+v", s)
			}
		})
	}
	for _, d := range f.polls {
		t.Run(d.what, func(t *testing.T) {
			var operation struct {
				Status string `json:"status"`
				State  state  `json:"registrationState"`
			}
			w.device(t, transport, d.what, with(d.as, "call", "poll")).gives(&operation)
			if operation.Status != "assigned" || operation.State.DeviceID != d.deviceID {
				t.Errorf("it was told %+v", operation)
			}
		})
	}
	for _, d := range f.refused {
		t.Run(d.what, func(t *testing.T) {
			want := d.https
			if transport != "https" {
				want = d.mqtt
			}
			w.device(t, transport, d.what, d.as).fails(want.status, want.as)
		})
	}
	t.Run("its device id belongs to another", func(t *testing.T) {
		w.takesNoOthersPlace(t, transport, withKey("press-late", ownKey))
	})
}

// with is a copy of o with one more member.
func with(o object, name string, value any) object {
	out := object{name: value}
	for n, v := range o {
		if n != name {
			out[n] = v
		}
	}
	return out
}

// derived is a device with the key that its group's key gives it.
func derived(groupKey []byte, id string) object { return withKey(id, device.DeriveKey(groupKey, id)) }
