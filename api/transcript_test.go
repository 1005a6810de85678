package api_test

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

var update = flag.Bool("update", false, "write the transcripts in testdata/wire anew")

// transcript records what goes over the wire, with all that is random or secret
// replaced, and compares it with a file that is reviewed like code.
type transcript struct {
	*world
	archive txtar.Archive
}

func (tr *transcript) do(client *http.Client, r request) answer {
	tr.t.Helper()
	a := tr.world.do(client, tr.devices, r)
	tr.write("request", r.method+" "+r.path, r.header, r.body)
	header := map[string]string{}
	for name := range a.header {
		if name != "Date" {
			header[name] = a.header.Get(name)
		}
	}
	tr.write("answer", fmt.Sprint(a.status), header, a.body)
	return a
}

func (tr *transcript) write(what, first string, header map[string]string, body string) {
	var text strings.Builder
	fmt.Fprintln(&text, first)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		fmt.Fprintf(&text, "%s: %s\n", name, header[name])
	}
	if body != "" {
		fmt.Fprintf(&text, "\n%s\n", strings.TrimSuffix(body, "\n"))
	}
	name := fmt.Sprintf("%d %s", len(tr.archive.Files)/2+1, what)
	tr.archive.Files = append(tr.archive.Files, txtar.File{Name: name, Data: []byte(blank(text.String()))})
}

// blanks replaces what is another each time.
var blanks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`(sig|se)=[^&\n]+`), "$1=…"},
	{regexp.MustCompile(`(Authorization: Basic )[A-Za-z0-9+/=]+`), "${1}BASE64"},
	{regexp.MustCompile(`([A-Za-z0-9+/]{60,}=*\n?)+`), "BASE64"},
	{regexp.MustCompile(`(?m)(BASE64)+[A-Za-z0-9+/]*=*$`), "BASE64"},
	{regexp.MustCompile(`("serialNumber":")[0-9A-F]+`), "${1}HEX"},
	{regexp.MustCompile(`("sha(1|256)Thumbprint":")(BASE64|[0-9A-F]+)`), "${1}HEX"},
	{regexp.MustCompile(`(operationId":"|operations/)[0-9a-f]{32}`), "${1}OPERATION"},
	{regexp.MustCompile(`(?m)^Content-Length: \d+$`), "Content-Length: N"},
}

func blank(text string) string {
	for _, b := range blanks {
		text = b.pattern.ReplaceAllString(text, b.with)
	}
	return text
}

func (tr *transcript) compare(name string) {
	tr.t.Helper()
	file := filepath.Join("testdata", "wire", name+".txtar")
	if *update {
		check(tr.t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(tr.t, os.WriteFile(file, txtar.Format(&tr.archive), 0o644))
	}
	stored, err := os.ReadFile(file)
	check(tr.t, err)
	if diff := cmp.Diff(string(stored), string(txtar.Format(&tr.archive))); diff != "" {
		tr.t.Errorf("%s is another (-file +now); if that is meant, run with -update:\n%s", file, diff)
	}
}

func TestTranscripts(t *testing.T) {
	w := newWorld(t)
	hub := provisioning.Hub{Name: hubName, Driver: provisioning.BuiltIn, Weight: 1}
	tests := map[string]func(*transcript){
		"register-with-csr": func(tr *transcript) {
			device := w.client(w.deviceCertificate("dev-1"))
			body := fmt.Sprintf(`{"registrationId":"dev-1","csr":%q,"payload":{"model":"pump-7"}}`, csrBase64(t, newKey(), "dev-1"))
			op := read[operation](t, tr.do(device, dps("PUT", "dev-1", "/register"+preview, body)))
			tr.do(device, dps("GET", "dev-1", "/operations/"+op.ID+preview, "{}"))
			tr.do(device, dps("POST", "dev-1", preview, ""))
		},
		"register-with-key": func(tr *transcript) {
			register := dps("PUT", "pump-1", "/register"+stable, `{"registrationId":"pump-1"}`).with("Authorization", w.sas("pump-1"))
			op := read[operation](t, tr.do(w.client(nil), register))
			tr.do(w.client(nil), dps("GET", "pump-1", "/operations/"+op.ID+stable, "").with("Authorization", w.sas("pump-1")))
		},
		"register-failed": func(tr *transcript) {
			hub.Draining = true
			must(w.engine.PutHub(t.Context(), operator, hub, provisioning.Precondition{Any: true}))
			tr.do(w.client(w.deviceCertificate("dev-2")), dps("PUT", "dev-2", "/register"+stable, `{"registrationId":"dev-2"}`))
			hub.Draining = false
			must(w.engine.PutHub(t.Context(), operator, hub, provisioning.Precondition{Any: true}))
		},
		"refused": func(tr *transcript) {
			tr.do(w.client(nil), dps("PUT", "dev-1", "/register"+stable, `{"registrationId":"dev-1"}`))
			tr.do(w.client(nil), dps("PUT", "dev-1", "/register", `{"registrationId":"dev-1"}`))
			tr.do(w.client(nil), enroll("simpleenroll", testkit.CSR(t, newKey(), "dev-1")))
			tr.do(w.client(nil), request{method: "POST", path: "/.well-known/est/simpleenroll", body: "{}"}.with("Content-Type", "application/json"))
		},
		"est-enroll": func(tr *transcript) {
			tr.do(w.client(nil), request{method: "GET", path: "/.well-known/est/" + idScope + "/cacerts"})
			key := newKey()
			first := enroll("simpleenroll", testkit.CSR(t, key, "pump-2")).with("Authorization", basicAuth("pump-2", w.deviceKey("pump-2")))
			issued := certsOnly(t, tr.do(w.client(nil), first))
			renewing := w.client(credential(t, key, issued[0].Raw))
			certsOnly(t, tr.do(renewing, enroll("simplereenroll", testkit.CSR(t, newKey(), "pump-2"))))
		},
	}
	for name, play := range tests {
		t.Run(name, func(t *testing.T) {
			tr := &transcript{world: w}
			play(tr)
			tr.compare(name)
		})
	}
}
