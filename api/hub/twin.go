package hub

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/query"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// twin is a twin as it is answered. Reported properties are a device's to write, and
// devices do not connect to a registry: there are none.
type twin struct {
	DeviceID                  string          `json:"deviceId"`
	ETag                      string          `json:"etag"`
	DeviceETag                string          `json:"deviceEtag"`
	Status                    string          `json:"status"`
	StatusReason              *string         `json:"statusReason,omitempty"`
	StatusUpdateTime          string          `json:"statusUpdateTime"`
	ConnectionState           string          `json:"connectionState"`
	LastActivityTime          string          `json:"lastActivityTime"`
	CloudToDeviceMessageCount int             `json:"cloudToDeviceMessageCount"`
	AuthenticationType        string          `json:"authenticationType"`
	X509Thumbprint            thumbprints     `json:"x509Thumbprint"`
	Version                   int64           `json:"version"`
	Tags                      json.RawMessage `json:"tags"`
	Properties                properties      `json:"properties"`
	Capabilities              capabilities    `json:"capabilities"`
}

type properties struct {
	Desired  json.RawMessage `json:"desired"`
	Reported json.RawMessage `json:"reported"`
}

func twinOf(d provisioning.HubDevice) (twin, error) {
	desired, err := collection(d.Twin.Desired, azure.Stamp(d.Twin.Updated), d.Twin.DesiredVersion)
	if err != nil {
		return twin{}, err
	}
	reported, err := collection(nil, never, 1)
	return twin{
		DeviceID: d.DeviceID, ETag: etag(d.TwinVersion), DeviceETag: etag(d.Version), Status: statusOf(d), StatusReason: orNull(d.StatusReason),
		StatusUpdateTime: azure.Stamp(d.StatusAt), ConnectionState: disconnected, LastActivityTime: never,
		AuthenticationType: string(d.Auth.Type), X509Thumbprint: thumbprintsOf(d), Version: d.Twin.Version,
		Tags: d.Twin.Tags, Properties: properties{desired, reported}, Capabilities: capabilities{d.IoTEdge},
	}, err
}

// collection writes properties with what clients expect beside them: a version and when
// they were changed last, as a whole.
func collection(stored []byte, updated string, version int64) (json.RawMessage, error) {
	object := map[string]any{}
	if stored != nil {
		parts := map[string]json.RawMessage{}
		if err := json.Unmarshal(stored, &parts); err != nil {
			return nil, err
		}
		for name, part := range parts {
			object[name] = part
		}
	}
	object["$metadata"] = map[string]any{"$lastUpdated": updated, "$lastUpdatedVersion": version}
	object["$version"] = version
	return json.Marshal(object)
}

func getTwin(k call) error {
	id, err := k.id()
	if err != nil {
		return err
	}
	d, err := k.engine.HubDevice(k.ctx(), k.hub, id, "")
	if err != nil {
		return err
	}
	return k.replyTwin(d)
}

func (k call) replyTwin(d provisioning.HubDevice) error {
	t, err := twinOf(d)
	if err != nil {
		return err
	}
	return k.replyTagged(d.TwinVersion, t)
}

func patchTwin(k call) error { return changeTwin(k, false) }

func replaceTwin(k call) error { return changeTwin(k, true) }

// twinBody is what may be changed of a twin; a part that is null is emptied.
type twinBody struct {
	DeviceID   *string         `json:"deviceId"`
	Tags       json.RawMessage `json:"tags"`
	Properties struct {
		Desired json.RawMessage `json:"desired"`
	} `json:"properties"`
}

func changeTwin(k call, replace bool) error {
	id, err := k.id()
	if err != nil {
		return err
	}
	pre, err := k.ifMatch()
	if err != nil {
		return err
	}
	var body twinBody
	if err := k.read(maxBody, &body); err != nil {
		return err
	}
	if body.DeviceID != nil && !id.Matches(*body.DeviceID) {
		return fault.New(fault.Malformed, "device-id-differs", "The deviceId in the body is not the one in the address.")
	}
	d, err := k.engine.ChangeTwin(k.ctx(), k.actor, provisioning.TwinDraft{
		Hub: k.hub, ID: id, Tags: body.Tags, Desired: body.Properties.Desired, Replace: replace,
	}, pre)
	if err != nil {
		return err
	}
	return k.replyTwin(d)
}

// queryTwins answers twins (§8, §4.5).
func queryTwins(k call) error {
	q, err := query.Read(k.c.Request, "devices", "")
	if err != nil {
		return err
	}
	page, err := query.Answer(k.ctx(), k.engine, q, query.Listing[provisioning.HubDevice]{
		Name: "hub|" + k.hub,
		Item: "Twin",
		Read: k.devicesAfter,
		ID:   func(d provisioning.HubDevice) verify.RegistrationID { return d.ID },
		View: func(d provisioning.HubDevice) (any, error) { return twinOf(d) },
		Key:  "deviceId",
		One: func(ctx context.Context, id verify.RegistrationID) (provisioning.HubDevice, error) {
			return k.engine.HubDevice(ctx, k.hub, id, "")
		},
	})
	if err != nil {
		return err
	}
	maps.Copy(k.c.Writer.Header(), page.Header)
	k.write(http.StatusOK, page.Body)
	return nil
}
