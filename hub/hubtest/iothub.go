package hubtest

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/provisioning"
)

// IoTHub is a small Azure IoT Hub, written after its registry API (contract §8): it checks tokens
// itself, keeps its devices in a map, and is throttled. Where Azure's own answer is not known it
// takes the harsher: a PUT replaces all of a device, keys that are left out are made anew, ids differ by case.
type IoTHub struct {
	*httptest.Server
	t      testing.TB
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) bool
	calls  map[string]int // by method and kind of path

	devices  map[string]stored
	written  int               // for ETags
	index    map[string]stored // what queries see; nil: the devices
	capacity int               // devices; 0: any number
	timid    bool              // a bulk ends at its first error

	clock             func() time.Time
	identity, queries *bucket // nil: not throttled
}

// hubHost is the name that its tokens are for.
const hubHost = "hub-1.example.net"

// policies are shared access policies: their keys and rights.
var policies = map[string]struct {
	key                  string
	read, write, service bool
}{
	"iothubowner":       {"b3duZXIga2V5IG9mIHR3ZW50eS1mb3VyIG9jdGV0cw==", true, true, true},
	"registryReadWrite": {"cmVnaXN0cnkga2V5IHRoYXQgbWF5IHdyaXRl", true, true, false},
	"registryRead":      {"cmVnaXN0cnkga2V5IHRoYXQgbWF5IHJlYWQ=", true, false, false},
}

// NewIoTHub opens a hub.
func NewIoTHub(t testing.TB) *IoTHub {
	h := &IoTHub{t: t, calls: map[string]int{}, devices: map[string]stored{}, clock: time.Now}
	h.Server = httptest.NewTLSServer(h)
	t.Cleanup(h.Close)
	return h
}

// Roots vouch for it.
func (h *IoTHub) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(h.Certificate())
	return pool
}

// Connection is the connection string of a policy.
func (h *IoTHub) Connection(policy string) string {
	return "HostName=" + hubHost + ";SharedAccessKeyName=" + policy + ";SharedAccessKey=" + policies[policy].key +
		";GatewayHostName=" + strings.TrimPrefix(h.URL, "https://")
}

// Access is how the hub is reached, by its owner.
func (h *IoTHub) Access() provisioning.HubAccess {
	return provisioning.HubAccess{IDScope: "0neTEST", Hub: hubHost, URL: h.Connection("iothubowner")}
}

// Answers has it answer something of its own, after it has looked at the token; nil ends that.
func (h *IoTHub) Answers(answer func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// Throttled lets so many calls for identities through in a minute, and a fifth of that for queries.
func (h *IoTHub) Throttled(perMinute int, clock func() time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = clock
	h.identity, h.queries = newBucket(perMinute, clock()), newBucket(max(1, perMinute/5), clock())
}

// Full bounds how many devices it has.
func (h *IoTHub) Full(capacity int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.capacity = capacity
}

// Lags has queries answer what it has now.
func (h *IoTHub) Lags() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index = map[string]stored{}
	for id, d := range h.devices {
		h.index[id] = d
	}
}

// Timid has a bulk end at its first error, and say nothing of the rest.
func (h *IoTHub) Timid() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timid = true
}

// Calls counts what was called and not throttled: "PUT /devices/", "POST /devices".
func (h *IoTHub) Calls(kind string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[kind]
}

// ServeHTTP is the registry API.
func (h *IoTHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone
	}
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	who, ok := admit(r.Header.Get("Authorization"), time.Now())
	if !ok {
		fail(w, errUnauthorized)
		return
	}
	if answer != nil && answer(w, r) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if problem := h.serve(w, r, who, body); problem != nil {
		fail(w, problem)
	}
}

func (h *IoTHub) serve(w http.ResponseWriter, r *http.Request, who rights, body []byte) *problem {
	if r.URL.Query().Get("api-version") == "" {
		return badArgument("api-version")
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	id, single := strings.CutPrefix(path, "/devices/")
	kind, throttle, may := r.Method+" "+path, h.identity, who.write
	switch {
	case kind == "POST /devices/query":
		throttle, may = h.queries, who.service
	case r.Method == http.MethodGet:
		may = who.read
	}
	if !may {
		return errUnauthorized
	}
	if wait := throttle.take(h.clock()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		return &problem{http.StatusTooManyRequests, "ThrottlingException", "429001"}
	}
	if single && kind != "POST /devices/query" {
		kind = r.Method + " /devices/"
	}
	h.calls[kind]++
	switch kind {
	case "GET /devices/":
		return h.get(w, id)
	case "PUT /devices/":
		return h.put(w, id, r.Header.Get("If-Match"), body)
	case "DELETE /devices/":
		return h.delete(w, id, r.Header.Get("If-Match"))
	case "POST /devices":
		return h.bulk(w, body)
	case "POST /devices/query":
		return h.query(w, r, body)
	}
	return &problem{http.StatusNotFound, "ResourceNotFound", "404000"}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that has gone is nobody's error
}

// problem is an error as a hub tells it.
type problem struct {
	status int
	word   string
	code   string
}

var (
	errUnauthorized = &problem{http.StatusUnauthorized, "IotHubUnauthorizedAccess", "401002"}
	errNoDevice     = &problem{http.StatusNotFound, "DeviceNotFound", "404001"}
	errThere        = &problem{http.StatusConflict, "DeviceAlreadyExists", "409001"}
	errETag         = &problem{http.StatusPreconditionFailed, "PreconditionFailed", "412001"}
	errFull         = &problem{http.StatusForbidden, "TooManyDevices", "403004"}
)

func badArgument(what string) *problem {
	return &problem{http.StatusBadRequest, "ArgumentInvalid", "400004 " + what}
}

func fail(w http.ResponseWriter, p *problem) {
	w.Header().Set("iothub-errorcode", p.word)
	reply(w, p.status, map[string]string{"Message": "ErrorCode:" + p.word + ";" + p.code, "ExceptionMessage": "Tracking ID:0"})
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
