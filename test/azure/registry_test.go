package azure_test

import (
	"slices"
	"strings"
	"testing"
)

// manageHub calls everything of the registry client that the built-in hub has.
func (w *world) manageHub(t *testing.T) {
	t.Run("a device is made, read, changed and deleted", func(t *testing.T) {
		w.registry(t, "get", "hub-one").fails(404, "DeviceNotFoundError")
		var made, changed hubDevice
		w.registry(t, "create", object{"deviceId": "hub-one", "status": "enabled"}).gives(&made)
		if made.Authentication.Type != "sas" || made.Authentication.SymmetricKey.PrimaryKey == "" {
			t.Errorf("made %+v", made)
		}
		w.registry(t, "create", object{"deviceId": "hub-one"}).fails(409, "DeviceAlreadyExistsError")
		w.registry(t, "update", object{"deviceId": "hub-one", "status": "disabled", "statusReason": "lost"}).gives(&changed)
		if changed.Status != "disabled" || changed.StatusReason != "lost" || changed.Authentication.SymmetricKey != made.Authentication.SymmetricKey {
			t.Errorf("changed %+v into %+v", made, changed)
		}
		w.registry(t, "update", object{"deviceId": "hub-nobody", "status": "disabled"}).fails(404, "DeviceNotFoundError")
		w.registry(t, "delete", "hub-one").gives(nil)
		w.registry(t, "delete", "hub-one").fails(404, "DeviceNotFoundError")
	})
	t.Run("thumbprints make a device with certificates", func(t *testing.T) {
		var made hubDevice
		print := strings.Repeat("AB", 20)
		w.registry(t, "create", object{"deviceId": "hub-x509", "authentication": object{"x509Thumbprint": object{"primaryThumbprint": print}}}).gives(&made)
		if made.Authentication.Type != "selfSigned" || made.Authentication.X509Thumbprint.Primary != print {
			t.Errorf("made %+v", made)
		}
		w.registry(t, "delete", "hub-x509").gives(nil)
	})
	t.Run("devices in bulk", func(t *testing.T) { w.manageHubInBulk(t) })
	t.Run("twins, queries and statistics", func(t *testing.T) { w.manageTwins(t) })
	t.Run("what a registry of devices does not have is not found", func(t *testing.T) {
		w.registry(t, "listJobs").fails(404, "Error")
		w.registry(t, "getModulesOnDevice", "hub-one").fails(404, "Error")
		w.registry(t, "getConfigurations").fails(404, "Error")
	})
	t.Run("a stranger is refused", func(t *testing.T) {
		stranger := strangersKey(w.env["MUSTER_HUB_CONNECTION_STRING"])
		w.registryAs(t, stranger, "get", "hub-one").fails(401, "UnauthorizedError")
		w.registryAs(t, stranger, "list").fails(401, "UnauthorizedError")
	})
}

type hubDevice struct {
	DeviceID       string `json:"deviceId"`
	Status         string `json:"status"`
	StatusReason   string `json:"statusReason"`
	ETag           string `json:"etag"`
	Authentication struct {
		Type         string `json:"type"`
		SymmetricKey struct {
			PrimaryKey   string `json:"primaryKey"`
			SecondaryKey string `json:"secondaryKey"`
		} `json:"symmetricKey"`
		X509Thumbprint struct {
			Primary string `json:"primaryThumbprint"`
		} `json:"x509Thumbprint"`
	} `json:"authentication"`
	Capabilities struct {
		IotEdge bool `json:"iotEdge"`
	} `json:"capabilities"`
}

type hubTwin struct {
	DeviceID   string `json:"deviceId"`
	ETag       string `json:"etag"`
	Tags       object `json:"tags"`
	Properties struct {
		Desired object `json:"desired"`
	} `json:"properties"`
}

func (w *world) manageHubInBulk(t *testing.T) {
	one, two := object{"deviceId": "bulk-a", "status": "enabled"}, object{"deviceId": "bulk-b", "status": "enabled"}
	run := func(good bool, method string, args ...any) {
		t.Helper()
		var out bulkResult
		w.registry(t, method, args...).gives(&out)
		if out.IsSuccessful != good {
			t.Errorf("%s: %+v", method, out)
		}
	}
	run(true, "addDevices", []object{one, two})
	w.registry(t, "addDevices", []object{one}).fails(400, "ArgumentError")
	run(true, "updateDevices", []object{with(one, "status", "disabled")}, true)
	var devices []hubDevice
	w.registry(t, "list").gives(&devices)
	at := slices.IndexFunc(devices, func(d hubDevice) bool { return d.DeviceID == "bulk-a" })
	if at < 0 || devices[at].Status != "disabled" {
		t.Fatalf("listed %+v", devices)
	}
	stale := with(one, "etag", "c3RhbGU=")
	w.registry(t, "updateDevices", []object{stale}, false).fails(400, "ArgumentError")
	run(true, "updateDevices", []object{with(one, "etag", devices[at].ETag)}, false)
	w.registry(t, "removeDevices", []object{stale}, false).fails(400, "ArgumentError")
	run(true, "removeDevices", []object{one, two}, true)
}

func (w *world) manageTwins(t *testing.T) {
	w.registry(t, "create", object{"deviceId": "twin-a"}).gives(nil)
	w.registry(t, "getTwin", "twin-nobody").fails(404, "DeviceNotFoundError")
	var twin, changed hubTwin
	w.registry(t, "getTwin", "twin-a").gives(&twin)
	patch := object{"tags": object{"floor": 3}, "properties": object{"desired": object{"period": 5}}}
	w.registry(t, "updateTwin", "twin-a", patch, twin.ETag).gives(&changed)
	if changed.Tags["floor"] != 3.0 || changed.Properties.Desired["period"] != 5.0 {
		t.Errorf("changed into %+v", changed)
	}
	w.registry(t, "updateTwin", "twin-a", patch, twin.ETag).fails(412, "InvalidEtagError")
	w.registry(t, "updateTwin", "twin-nobody", patch, "*").fails(404, "DeviceNotFoundError")
	w.registry(t, "create", object{"deviceId": "twin-b"}).gives(nil)
	var pages [][]hubTwin
	w.registry(t, "createQuery", "SELECT * FROM devices", 1).gives(&pages)
	var got []string
	for _, page := range pages {
		for _, d := range page {
			got = append(got, d.DeviceID)
		}
	}
	if !slices.Contains(got, "twin-a") || !slices.Contains(got, "twin-b") {
		t.Errorf("the query gives %v", got)
	}
	w.registry(t, "createQuery", "SELECT", 1).fails(400, "ArgumentError")
	var count struct {
		Total    int `json:"totalDeviceCount"`
		Enabled  int `json:"enabledDeviceCount"`
		Disabled int `json:"disabledDeviceCount"`
	}
	w.registry(t, "getRegistryStatistics").gives(&count)
	if count.Total != len(got) || count.Enabled+count.Disabled != count.Total {
		t.Errorf("counted %+v, the query gives %d", count, len(got))
	}
	for _, id := range []string{"twin-a", "twin-b"} {
		w.registry(t, "delete", id).gives(nil)
	}
}
