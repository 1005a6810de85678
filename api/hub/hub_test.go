package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// The requests are those that azure-iothub's Registry was seen to send (protocols/dps.md §8, §9.1).
func TestARegistryClientAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const blank = `"authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}`

	made := w.object("PUT", "/devices/Pump%3A1", `{"deviceId":"Pump:1","status":"enabled",`+blank+`}`)
	for path, want := range map[string]any{
		"deviceId": "Pump:1", "status": "enabled", "statusReason": nil, "connectionState": "Disconnected", "lastActivityTime": "0001-01-01T00:00:00Z",
		"capabilities.iotEdge": false, "authentication.type": "sas", "authentication.x509Thumbprint.primaryThumbprint": nil, "cloudToDeviceMessageCount": 0.0,
	} {
		if got := at(made, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	key, _ := at(made, "authentication.symmetricKey.primaryKey").(string)
	if len(key) != 44 || w.header.Get("ETag") != `"`+made["etag"].(string)+`"` || !strings.HasPrefix(w.header.Get("Content-Type"), "application/json") {
		t.Errorf("key %q, etag %v in the body and %s in the header", key, made["etag"], w.header.Get("ETag"))
	}

	if status, body := w.ask("PUT", "/devices/pump:1", `{"deviceId":"pump:1",`+blank+`}`); status != 409 || w.header.Get("iothub-errorcode") != "DeviceAlreadyExists" {
		t.Errorf("creating it again: %d %s", status, body)
	}
	off := w.object("PUT", "/devices/Pump:1", `{"deviceId":"Pump:1","status":"disabled","statusReason":"stolen","capabilities":{"iotEdge":true},`+blank+`}`, "If-Match", `"*"`)
	if off["status"] != "disabled" || off["statusReason"] != "stolen" || at(off, "capabilities.iotEdge") != true || at(off, "authentication.symmetricKey.primaryKey") != key {
		t.Errorf("updated: %v", off)
	}
	if got := w.object("GET", "/devices/pump:1", ""); fmt.Sprint(got) != fmt.Sprint(off) {
		t.Errorf("read: %v, want %v", got, off)
	}
	if status, body := w.ask("PUT", "/devices/pump:1", `{}`, "If-Match", `"`+made["etag"].(string)+`"`); status != 412 || w.header.Get("iothub-errorcode") != "PreconditionFailed" {
		t.Errorf("with an old etag: %d %s", status, body)
	}
	if status, body := w.ask("PUT", "/devices/pump:1", `{"deviceId":"pump:1"}`, "If-Match", `W/"`+off["etag"].(string)+`"`); status != 200 || !strings.Contains(body, `"stolen"`) {
		t.Errorf("with its etag: %d %s", status, body)
	}

	status, list := w.ask("GET", "/devices/", "")
	if status != 200 || !strings.HasPrefix(list, `[{"deviceId":"Pump:1"`) {
		t.Errorf("the list: %d %s", status, list)
	}
	if status, _ := w.ask("DELETE", "/devices/Pump%3A1", "", "If-Match", `"*"`); status != http.StatusNoContent {
		t.Errorf("deleting it: %d", status)
	}
	status, body := w.ask("GET", "/devices/Pump:1", "")
	var failure struct{ Message, ExceptionMessage string }
	check(t, json.Unmarshal([]byte(body), &failure))
	if status != 404 || !strings.HasPrefix(failure.Message, "ErrorCode:DeviceNotFound;") || !strings.HasPrefix(failure.ExceptionMessage, "Tracking ID:") ||
		w.header.Get("iothub-errorcode") != "DeviceNotFound" {
		t.Errorf("it is gone: %d %s", status, body)
	}
	for _, method := range []string{"DELETE", "PUT"} {
		if status, _ := w.ask(method, "/devices/pump:1", `{}`, "If-Match", `"*"`); status != 404 {
			t.Errorf("%s of what is not there: %d", method, status)
		}
	}
}

func TestADeviceThatRegisteredIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secrets := w.register("dev-1")
	d := w.object("GET", "/devices/dev-1", "")
	if at(d, "authentication.symmetricKey.primaryKey") != encoded(secrets[0]) || at(d, "authentication.symmetricKey.secondaryKey") != encoded(secrets[1]) {
		t.Errorf("its keys are not those it attests with: %v", d["authentication"])
	}
	d["status"], d["statusReason"] = "disabled", "certificate compromised"
	body := string(must(json.Marshal(d)))
	if got := w.object("PUT", "/devices/dev-1", body, "If-Match", `"`+d["etag"].(string)+`"`); got["status"] != "disabled" {
		t.Errorf("disabled: %v", got)
	}
	w.registerAgain("dev-1", secrets[0])
	if got := w.object("GET", "/devices/dev-1", ""); got["status"] != "disabled" || got["statusReason"] != "certificate compromised" {
		t.Errorf("registering again enabled it: %v", got)
	}
	if got := w.object("GET", "/statistics/devices", ""); got["totalDeviceCount"] != 1.0 || got["enabledDeviceCount"] != 0.0 || got["disabledDeviceCount"] != 1.0 {
		t.Errorf("statistics: %v", got)
	}
	if status, _ := w.ask("DELETE", "/devices/dev-1", ""); status != 204 {
		t.Errorf("deleting it: %d", status)
	}
	w.registerAgain("dev-1", secrets[0])
	if got := w.object("GET", "/devices/dev-1", ""); got["status"] != "enabled" {
		t.Errorf("back again: %v", got)
	}
}

func TestTwins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object("PUT", "/devices/dev-1", `{}`)
	first := w.object("GET", "/twins/dev-1", "")
	for path, want := range map[string]any{
		"deviceId": "dev-1", "status": "enabled", "authenticationType": "sas", "version": 1.0, "properties.desired.$version": 1.0, "properties.reported.$version": 1.0,
		"properties.reported.$metadata.$lastUpdated": "0001-01-01T00:00:00Z", "connectionState": "Disconnected", "capabilities.iotEdge": false,
	} {
		if got := at(first, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	tag := `"` + first["etag"].(string) + `"`
	if w.header.Get("ETag") != tag {
		t.Errorf("etag %s in the header, %s in the body", w.header.Get("ETag"), tag)
	}
	next := w.object("PATCH", "/twins/dev-1", `{"deviceId":"DEV-1","tags":{"a":{"b":1},"c":2},"properties":{"desired":{"delay":"2","$version":9}}}`, "If-Match", tag)
	if at(next, "tags.a.b") != 1.0 || at(next, "properties.desired.delay") != "2" || at(next, "properties.desired.$version") != 2.0 || next["version"] != 2.0 ||
		at(next, "properties.desired.$metadata.$lastUpdatedVersion") != 2.0 {
		t.Errorf("patched: %v", next)
	}
	if status, body := w.ask("PATCH", "/twins/dev-1", `{"tags":{}}`, "If-Match", tag); status != 412 {
		t.Errorf("with the old etag: %d %s", status, body)
	}
	next = w.object("PATCH", "/twins/dev-1", `{"tags":{"a":null},"properties":{"desired":{"delay":null}}}`, "If-Match", `"*"`)
	if fmt.Sprint(next["tags"]) != "map[c:2]" || at(next, "properties.desired.delay") != nil {
		t.Errorf("null did not delete: %v", next)
	}
	next = w.object("PUT", "/twins/dev-1", `{"properties":{"desired":{"x":1}}}`)
	if fmt.Sprint(next["tags"]) != "map[]" || at(next, "properties.desired.x") != 1.0 || next["version"] != 4.0 {
		t.Errorf("replaced: %v", next)
	}
	for body, want := range map[string]int{
		`{"tags":{"$x":1}}`: 200, `{"tags":{"a":{"$x":1}}}`: 400, `{"tags":[]}`: 400, `{"deviceId":"dev-2"}`: 400, `[]`: 400, `{`: 400,
		`{"tags":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`: 413,
	} {
		if status, answer := w.ask("PATCH", "/twins/dev-1", body); status != want {
			t.Errorf("%.40s: %d %s, want %d", body, status, answer, want)
		}
	}
	if status, _ := w.ask("GET", "/twins/nobody", ""); status != 404 {
		t.Errorf("a twin of nobody: %d", status)
	}
}

func TestBulk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const key = `"authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}`
	step := func(body string, wantStatus int, wantErrors string) {
		t.Helper()
		status, answer := w.ask("POST", "/devices", body)
		var out struct {
			Successful bool `json:"isSuccessful"`
			Errors     []struct{ DeviceID, ErrorCode, ErrorStatus string }
			Warnings   []any
		}
		check(t, json.Unmarshal([]byte(answer), &out))
		var got []string
		for _, e := range out.Errors {
			got = append(got, e.DeviceID+" "+e.ErrorCode)
		}
		if status != wantStatus || out.Successful != (wantStatus == 200) || strings.Join(got, ", ") != wantErrors || out.Warnings == nil {
			t.Errorf("%s\n%d %s", body, status, answer)
		}
	}
	step(`[{"id":"a",`+key+`,"importMode":"create"},{"id":"b",`+key+`,"status":"enabled","importMode":"create"}]`, 200, "")
	step(`[{"id":"a","importMode":"create"},{"id":"c","importMode":"create"}]`, 400, "a DeviceAlreadyExists")
	step(`[{"id":"A","status":"disabled","importMode":"Update"},{"id":"gone","importMode":"Update"}]`, 400, "gone DeviceNotFound")
	tag := w.object("GET", "/devices/a", "")["etag"].(string)
	step(`[{"id":"a","etag":"1","importMode":"UpdateIfMatchETag"},{"id":"a","etag":"\"`+tag+`\"","status":"enabled","importMode":"UpdateIfMatchETag"}]`, 400, "a PreconditionFailed")
	step(`[{"id":"d","importMode":"createOrUpdate"},{"id":"d"}]`, 200, "")
	step(`[{"id":"b","etag":"1","importMode":"DeleteIfMatchETag"}]`, 400, "b PreconditionFailed")
	step(`[{"id":"a","importMode":"Delete"},{"id":"b","importMode":"delete"},{"id":"c","etag":"*","importMode":"deleteIfMatchETag"}]`, 200, "")
	if got := w.object("GET", "/statistics/devices", ""); got["totalDeviceCount"] != 1.0 {
		t.Errorf("left: %v", got)
	}
	many := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"id":"a"},`, n), ",") + "]"
	}
	for body, want := range map[string]int{
		"[]": 400, many(101): 400, `[{"importMode":"create"}]`: 400, `[{"id":"a/b","importMode":"create"}]`: 400, `[{"id":"a","importMode":"upsert"}]`: 400,
		`[{"id":"a","importMode":"createIfMatchETag"}]`: 400, `[{"id":"a","importMode":"updateIfMatchETag"}]`: 400, `{}`: 400, many(100): 200,
	} {
		if status, answer := w.ask("POST", "/devices/", body); status != want {
			t.Errorf("%.60s: %d %s, want %d", body, status, answer, want)
		}
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.object("PUT", fmt.Sprintf("/devices/own-%d", i), `{}`)
		w.object("PATCH", fmt.Sprintf("/twins/own-%d", i), fmt.Sprintf(`{"tags":{"floor":%d}}`, i%2))
	}
	w.register("dev-1")
	w.object("PUT", "/devices/own-3", `{"status":"disabled"}`, "If-Match", "*")
	names := func(text string, header ...string) (ids []string) {
		t.Helper()
		status, answer := w.ask("POST", "/devices/query", string(must(json.Marshal(map[string]string{"query": text}))), header...)
		var list []struct{ DeviceID string }
		if status != 200 || w.header.Get("x-ms-item-type") != "Twin" {
			t.Fatalf("%s: %d %s", text, status, answer)
		}
		check(t, json.Unmarshal([]byte(answer), &list))
		for _, d := range list {
			ids = append(ids, d.DeviceID)
		}
		return ids
	}
	all := []string{"dev-1", "own-0", "own-1", "own-2", "own-3", "own-4"}
	for text, want := range map[string][]string{
		"SELECT * FROM devices":                                  all,
		"select * from Devices":                                  all,
		"SELECT * FROM devices WHERE status = 'disabled'":        {"own-3"},
		"SELECT * FROM devices WHERE tags.floor = 1":             {"own-1", "own-3"},
		"SELECT * FROM devices WHERE deviceId IN ['DEV-1', 'x']": {"dev-1"},
		"SELECT * FROM devices WHERE capabilities.iotEdge=true":  nil,
	} {
		if got := names(text); !slices.Equal(got, want) || w.header.Get("x-ms-continuation") != "" {
			t.Errorf("%s: %v, continuation %q; want %v", text, got, w.header.Get("x-ms-continuation"), want)
		}
	}
	var paged []string
	next := ""
	for range len(all) {
		paged = append(paged, names("SELECT * FROM devices", "x-ms-max-item-count", "2", "x-ms-continuation", next)...)
		if next = w.header.Get("x-ms-continuation"); next == "" {
			break
		}
	}
	if !slices.Equal(paged, all) {
		t.Errorf("in pages: %v", paged)
	}
	names("SELECT * FROM devices", "x-ms-max-item-count", "1")
	next = w.header.Get("x-ms-continuation")
	for _, bad := range [][]string{
		{"SELECT deviceId FROM devices"}, {"SELECT * FROM enrollments"}, {"SELECT * FROM devices WHERE"}, {"DROP TABLE devices"},
		{"SELECT * FROM devices WHERE a = 1", "x-ms-continuation", next}, {"SELECT * FROM devices", "x-ms-continuation", "own-1"},
		{"SELECT * FROM devices", "x-ms-max-item-count", "0"}, {"SELECT * FROM devices", "x-ms-max-item-count", "1001"},
	} {
		body := string(must(json.Marshal(map[string]string{"query": bad[0]})))
		if status, answer := w.ask("POST", "/devices/query", body, bad[1:]...); status != 400 || w.header.Get("iothub-errorcode") != "ArgumentInvalid" {
			t.Errorf("%q: %d %s", bad, status, answer)
		}
	}
}

func TestEveryRouteAsksForItsRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object("PUT", "/devices/dev-1", `{}`)
	const read, write, service = "registryread", "registryreadwrite", "service"
	for _, c := range []struct {
		method, path, body string
		may                []string
	}{
		{"GET", "/devices", "", []string{read, write}},
		{"GET", "/devices/dev-1", "", []string{read, write}},
		{"GET", "/statistics/devices", "", []string{read, write}},
		{"PUT", "/devices/dev-1", `{}`, []string{write}},
		{"POST", "/devices", `[{"id":"dev-2"}]`, []string{write}},
		{"DELETE", "/devices/dev-2", "", []string{write}},
		{"GET", "/twins/dev-1", "", []string{read, write, service}},
		{"POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, []string{read, write, service}},
		{"PATCH", "/twins/dev-1", `{}`, []string{write, service}},
		{"PUT", "/twins/dev-1", `{}`, []string{write, service}},
	} {
		for _, policy := range []string{read, write, service, "device"} {
			status, body := w.askAs(w.token(policy), c.method, c.path, c.body, "If-Match", "*")
			if may := slices.Contains(c.may, policy); may != (status < 300) || !may && (status != 401 || !strings.Contains(body, "needs a shared access policy")) {
				t.Errorf("%s %s by %s: %d %s", c.method, c.path, policy, status, body)
			}
		}
	}
	refused := must(w.engine().Ledger(t.Context(), provisioning.LedgerFilter{Limit: 1, Actor: "policy:hub/device"}))
	if len(refused) != 1 || refused[0].Action != audit.ActRefused || refused[0].Subject != "act:PUT /twins/dev-1" || string(refused[0].Body) != `{"may":"DeviceConnect"}` {
		t.Errorf("the ledger's newest entry of who may do nothing is %+v", refused)
	}
	for policy, shown := range map[string]bool{read: false, write: true, provisioning.HubOwner: true} {
		for _, path := range []string{"/devices/dev-1", "/devices"} {
			if _, body := w.askAs(w.token(policy), "GET", path, ""); strings.Contains(body, `"primaryKey":null`) == shown {
				t.Errorf("GET %s by %s: %s", path, policy, body)
			}
		}
	}
}

// Whoever is not let in learns the same, whatever the reason and whatever there is.
func TestARefusedTokenSaysNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object("PUT", "/devices/dev-1", `{}`)
	key, hour := w.tenants[0].keys[provisioning.HubOwner], w.now.Add(time.Hour)
	sign := func(key []byte, expiry time.Time, options ...testkit.SASOption) string {
		return testkit.SAS(key, "", "", expiry, options...)
	}
	host, owner := testkit.Resource(hubName), testkit.KeyName(provisioning.HubOwner)
	var first string
	for name, token := range map[string]string{
		"none":                       "",
		"another scheme":             "Bearer abc",
		"half of one":                "SharedAccessSignature sr=" + hubName,
		"another key":                sign(make([]byte, 32), hour, host, owner),
		"a policy that is not there": sign(key, hour, host, testkit.KeyName("nobody")),
		"no policy":                  sign(key, hour, host, testkit.KeyName("")),
		"another host":               sign(key, hour, testkit.Resource("hub-2.example.net"), owner),
		"one letter more":            sign(key, hour, testkit.Resource(hubName+"x"), owner),
		"expired":                    sign(key, w.now.Add(-time.Hour), host, owner),
		"without end":                sign(key, w.now.Add(10000*time.Hour), host, owner),
		"for another path":           sign(key, hour, testkit.Resource(hubName+"/devices/dev"), owner),
	} {
		for _, path := range []string{"/devices/dev-1", "/devices/nobody", "/devices/a%2Fb", "/twins/dev-1"} {
			status, body := w.askAs(token, "GET", path, "")
			body, _, _ = strings.Cut(body, "Tracking ID")
			if first == "" {
				first = body
			}
			if status != 401 || body != first || w.header.Get("iothub-errorcode") != "IotHubUnauthorizedAccess" {
				t.Errorf("%s, %s: %d %s", name, path, status, body)
			}
		}
	}
	for name, token := range map[string]string{
		"with a port":         sign(key, hour, testkit.Resource(hubName+":8443"), owner),
		"encoded":             sign(key, hour, testkit.Resource(hubName+"/devices/dev-1"), owner, testkit.Encoded()),
		"for this server":     sign(key, hour, testkit.Resource(server), owner),
		"in another spelling": sign(key, hour, testkit.Resource(strings.ToUpper(hubName)), testkit.KeyName("IoTHubOwner")),
	} {
		if status, body := w.askAs(token, "GET", "/devices/dev-1", ""); status != 200 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestATokenMeansOneHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "0neA", "0neB", "0neC")
	w.link(w.engine(), "hub-2.example.net")
	check(t, w.tenants[2].Engine.DeleteHub(t.Context(), operator, hubName, provisioning.Precondition{Any: true}))
	w.object("PUT", "/devices/dev-1", `{}`)
	for name, c := range map[string]struct {
		tenant int
		host   string
		status int
		word   string
	}{
		"the hub it was made at":                     {0, hubName, 200, ""},
		"another hub of the tenant":                  {0, "hub-2.example.net", 404, "DeviceNotFound"},
		"this server, where there are two hubs":      {0, server, 400, "ArgumentInvalid"},
		"the hub of that name of another tenant":     {1, hubName, 404, "DeviceNotFound"},
		"this server, where there is one hub":        {1, server, 404, "DeviceNotFound"},
		"another tenant's hub":                       {1, "hub-2.example.net", 401, "IotHubUnauthorizedAccess"},
		"this server, where there is no hub":         {2, server, 404, "IotHubNotFound"},
		"a hub where there is none":                  {2, hubName, 401, "IotHubUnauthorizedAccess"},
		"a name that is of no hub and of no server ": {0, "x.example.net", 401, "IotHubUnauthorizedAccess"},
	} {
		status, body := w.askAs(w.tokenFor(c.tenant, provisioning.HubOwner, c.host), "GET", "/devices/dev-1", "")
		if status != c.status || w.header.Get("iothub-errorcode") != c.word {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object("PUT", "/devices/dev-1", `{}`)
	for _, c := range []struct {
		method, path, body string
		status             int
		word               string
	}{
		{"PUT", "/devices/dev-2", `{"deviceId":"dev-3"}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", `{"status":"off"}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", `{"status":1}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", `{"authentication":{"symmetricKey":{"primaryKey":"no base64"}}}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", `{"authentication":{"type":"magic"}}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", `{"authentication":{"type":"selfSigned"}}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", ``, 400, "ArgumentInvalid"},
		{"PUT", "/devices/dev-2", strings.Repeat(" ", 130<<10), 413, "MessageTooLarge"},
		{"PUT", "/devices/a%2Fb", `{}`, 400, "ArgumentInvalid"},
		{"PUT", "/devices/query", `{}`, 400, "ArgumentInvalid"},
		{"GET", "/devices/%00", ``, 400, "ArgumentInvalid"},
		{"GET", "/devices/" + strings.Repeat("a", 129), ``, 400, "ArgumentInvalid"},
		{"GET", "/devices?top=0", ``, 400, "ArgumentInvalid"},
		{"GET", "/devices?top=1001", ``, 400, "ArgumentInvalid"},
		{"GET", "/devices/dev-1/modules", ``, 404, "ResourceNotFound"},
		{"PATCH", "/devices/dev-1", `{}`, 405, "MethodNotAllowed"},
	} {
		if status, body := w.ask(c.method, c.path, c.body); status != c.status || w.header.Get("iothub-errorcode") != c.word {
			t.Errorf("%s %s %.40s: %d %s", c.method, c.path, c.body, status, body)
		}
	}
	if status, _ := w.ask("PUT", "/devices/dev-1", `{}`, "If-Match", "a, b"); status != 400 {
		t.Errorf("several etags: %d", status)
	}
	if status, _ := w.ask("PUT", "/devices/dev-1", `{}`, "If-Match", `"not ours"`); status != 412 {
		t.Errorf("an etag that is not ours: %d", status)
	}
	if status, _ := w.ask("PUT", "/devices/dev-1", `{}`, "Content-Type", "text/plain"); status != 415 {
		t.Errorf("another type: %d", status)
	}
	if status, _ := w.ask("GET", "/DEVICES/dev-1/", ""); status != 200 {
		t.Errorf("words in another case, with a slash: %d", status)
	}
}

func TestKeysAtTheDoorAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := encoded([]byte("0123456789abcdef"))
	d := w.object("PUT", "/devices/dev-1", `{"authentication":{"type":"SAS","symmetricKey":{"primaryKey":"`+key+`"}}}`)
	if at(d, "authentication.symmetricKey.primaryKey") != key {
		t.Errorf("the key given: %v", d["authentication"])
	}
	events := must(w.engine().Ledger(t.Context(), provisioning.LedgerFilter{Limit: 10}))
	for _, e := range events {
		if strings.Contains(string(e.Body), key) {
			t.Errorf("the ledger tells a key: %s", e.Body)
		}
	}
}

func FuzzDevice(f *testing.F) {
	for _, seed := range []string{
		`{"deviceId":"dev-1","status":"disabled","statusReason":"x","authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}}`,
		`{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + strings.Repeat("a", 40) + `"}}}`,
		`{"authentication":{"type":"certificateAuthority"},"capabilities":{"iotEdge":null}}`, `null`, `{"etag":{}}`, `{"status":null}`,
	} {
		f.Add("dev-1", seed)
	}
	f.Add("a%2fb", `{}`)
	w := newWorld(f)
	token := w.token(provisioning.HubOwner)
	f.Fuzz(func(t *testing.T, id, body string) {
		w.t = t
		status, answer := w.askAs(token, "PUT", "/devices/"+url.PathEscape(id), body, "If-Match", "*", "Content-Type", "application/json")
		if status == 404 && body != "" {
			status, answer = w.askAs(token, "PUT", "/devices/"+url.PathEscape(id), body)
		}
		if status >= 500 {
			t.Errorf("%d %s", status, answer)
		}
		if _, err := verify.ParseRegistrationID(id); err != nil && status < 400 {
			t.Errorf("the id %q was taken: %d", id, status)
		}
	})
}
