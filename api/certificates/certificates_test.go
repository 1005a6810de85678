package certificates_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/api/certificates"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

func TestAnUploadedCertificateAsItsClientsReadIt(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	root := w.factory.Get("root")
	got := as[certificate](t, w.ask("PUT", folder+"/Root.1"+version, w.security, upload(root.Base64(), false)), 200)
	if want := folder + "/Root.1"; got.ID != want || got.Name != "Root.1" || got.Type != "Microsoft.Devices/ProvisioningServices/Certificates" {
		t.Errorf("it is %q, %q, of type %q", got.ID, got.Name, got.Type)
	}
	p := got.Properties
	if p.Subject != "CN=root" || p.IsVerified || p.VerificationCode != "" || !bytes.Equal(p.Certificate, root.Cert.Raw) {
		t.Errorf("properties %+v", p)
	}
	if len(p.Thumbprint) != 40 || p.Thumbprint != strings.ToUpper(p.Thumbprint) {
		t.Errorf("thumbprint %q", p.Thumbprint)
	}
	for text, want := range map[string]time.Time{p.Created: w.now, p.Updated: w.now, p.Expiry: root.Cert.NotAfter} {
		if got, err := time.Parse(time.RFC1123, text); err != nil || !got.Equal(want) || !strings.HasSuffix(text, " GMT") {
			t.Errorf("date %q (%v), want %s", text, err, want)
		}
	}
	if raw, err := base64.StdEncoding.DecodeString(got.ETag); err != nil || len(raw) != 8 {
		t.Errorf("etag %q is not bare base64", got.ETag)
	}
	again := as[certificate](t, w.ask("GET", strings.ToUpper(folder)+"/Root.1/"+version, w.reader, ""), 200)
	if diff := cmp.Diff(got.Properties, again.Properties); diff != "" || again.ETag != got.ETag {
		t.Errorf("read again it is %+v", again)
	}
}

func TestCertificatesAreReadInEverySpelling(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	root := w.factory.Get("root")
	for name, text := range map[string]string{
		"base64 of DER": root.Base64(),
		"base64 of PEM": base64.StdEncoding.EncodeToString(root.PEM()),
		"plain PEM":     string(root.PEM()),
	} {
		t.Run(name, func(t *testing.T) {
			path := folder + "/" + strings.ReplaceAll(name, " ", "-")
			got := as[certificate](t, w.ask("PUT", path+version, w.security, upload(text, false)), 200)
			got = as[certificate](t, w.ask("POST", path+"/generateVerificationCode"+version, w.security, "", "If-Match", got.ETag), 200)
			proof := root.Prove(t, got.Properties.VerificationCode)
			spelled := map[string]string{
				"base64 of DER": base64.StdEncoding.EncodeToString(proof.Raw),
				"base64 of PEM": base64.StdEncoding.EncodeToString(testkit.PEM(proof)),
				"plain PEM":     string(testkit.PEM(proof)),
			}[name]
			body := string(must(json.Marshal(map[string]string{"certificate": spelled})))
			if got = as[certificate](t, w.ask("POST", path+"/verify"+version, w.security, body, "If-Match", got.ETag), 200); !got.Properties.IsVerified || got.Properties.VerificationCode != "" {
				t.Errorf("after the proof: %+v", got.Properties)
			}
		})
	}
}

func TestPossessionIsProved(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	root := w.factory.Get("root")
	path := folder + "/root"
	was := as[certificate](t, w.ask("PUT", path+version, w.security, upload(root.Base64(), false)), 200)
	coded := as[certificate](t, w.ask("POST", path+"/generateVerificationCode"+version+"&certificate.name=x&certificate.hasPrivateKey=true", w.security, "", "If-Match", was.ETag), 200)
	code := coded.Properties.VerificationCode
	if len(code) != 48 || coded.ETag == was.ETag {
		t.Fatalf("code %q, etag %q after %q", code, coded.ETag, was.ETag)
	}
	if got := as[certificate](t, w.ask("GET", path+version, w.security, ""), 200); got.Properties.VerificationCode != "" {
		t.Error("the code can be read again")
	}
	prove := func(proof []byte, etag string) answer {
		body := fmt.Sprintf(`{"certificate":%q}`, base64.StdEncoding.EncodeToString(proof))
		return w.ask("POST", path+"/verify"+version, w.security, body, "If-Match", etag)
	}
	bad := map[string]struct {
		proof  []byte
		etag   string
		status int
	}{
		"for another code":        {root.Prove(t, strings.Repeat("A", 48)).Raw, coded.ETag, 400},
		"signed by another key":   {w.factory.Get("other-root").Prove(t, code).Raw, coded.ETag, 400},
		"the CA itself":           {root.Cert.Raw, coded.ETag, 400},
		"no certificate":          {[]byte("x"), coded.ETag, 400},
		"of a version gone by":    {root.Prove(t, code).Raw, was.ETag, 412},
		"of no version":           {root.Prove(t, code).Raw, "", 412},
		"of a version of nowhere": {root.Prove(t, code).Raw, "1", 412},
	}
	for name, tt := range bad {
		t.Run(name, func(t *testing.T) {
			if a := prove(tt.proof, tt.etag); a.status != tt.status || a.code() != map[int]string{400: "BadRequest", 412: "PreconditionFailed"}[tt.status] {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	got := as[certificate](t, prove(root.Prove(t, code).Raw, coded.ETag), 200)
	if !got.Properties.IsVerified || got.ETag == coded.ETag {
		t.Errorf("after the proof: %+v", got)
	}
	if a := prove(root.Prove(t, code).Raw, got.ETag); a.status != 400 {
		t.Errorf("the code could be used twice: %d", a.status)
	}
}

func TestWritesAreConditional(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	one, two := upload(w.factory.Get("root").Base64(), false), upload(w.factory.Get("other-root").Base64(), false)
	stale := as[certificate](t, w.ask("PUT", folder+"/ca"+version, w.security, one), 200).ETag
	now := as[certificate](t, w.ask("POST", folder+"/ca/generateVerificationCode"+version, w.security, "", "If-Match", stale), 200).ETag
	tests := []struct {
		name, method, path, body, ifMatch string
		status                            int
	}{
		{"no version", "PUT", "/ca", two, "", 412},
		{"no version, for the very same bytes", "PUT", "/ca", one, "", 412},
		{"another version, for the very same bytes", "PUT", "/ca", one, stale, 412},
		{"the current version, for the very same bytes", "PUT", "/ca", one, now, 200},
		{"another version", "PUT", "/ca", two, stale, 412},
		{"text that is no etag", "PUT", "/ca", two, "AAAA", 412},
		{"a version of something that is not there", "PUT", "/new", two, now, 412},
		{"anything, where nothing is", "PUT", "/new", two, "*", 412},
		{"an empty etag, where nothing is", "PUT", "/new", two, `""`, 412},
		{"deleting an empty etag", "DELETE", "/ca", "", `""`, 412},
		{"deleting no version", "DELETE", "/ca", "", "", 412},
		{"deleting another version", "DELETE", "/ca", "", stale, 412},
		{"a code for no version", "POST", "/ca/generateVerificationCode", "", "", 412},
		{"a code for another version", "POST", "/ca/generateVerificationCode", "", stale, 412},
		{"a code for nothing", "POST", "/new/generateVerificationCode", "", "*", 404},
		{"deleting nothing", "DELETE", "/new", "", "*", 404},
		{"the current version, in quotes", "PUT", "/ca", two, `"` + now + `"`, 200},
		{"any version, in quotes", "PUT", "/ca", one, `"*"`, 200},
		{"any version", "DELETE", "/ca", "", "*", 204},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.ifMatch != "" {
				header = []string{"If-Match", tt.ifMatch}
			}
			if a := w.ask(tt.method, folder+tt.path+version, w.security, tt.body, header...); a.status != tt.status {
				t.Errorf("got %d, want %d: %s", a.status, tt.status, a.body)
			}
		})
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	body := upload(w.factory.Get("root").Base64(), false)
	revoked := w.token(w.engine, "eve", "read security")
	if err := w.engine.RevokeToken(t.Context(), "operator:test", "eve"); err != nil {
		t.Fatal(err)
	}
	as[certificate](t, w.ask("PUT", folder+"/root"+version, w.security, body), 200)
	calls := []struct{ method, path, body string }{
		{"GET", "", ""}, {"GET", "/root", ""}, {"GET", "/nothing", ""}, {"PUT", "/new", body}, {"PUT", "/new", "{"}, {"DELETE", "/root", ""},
		{"POST", "/root/generateVerificationCode", ""}, {"POST", "/root/verify", `{"certificate":"x"}`},
	}
	for name, token := range map[string]string{
		"nobody": "", "a token of nobody": "mst_" + idScope + "_" + strings.Repeat("A", 43), "a revoked one": revoked, "no token of ours": "eyJhbGciOi",
	} {
		first := ""
		for _, call := range calls {
			a := w.ask(call.method, folder+call.path+version, token, call.body, "If-Match", "*")
			if first == "" {
				first = a.body
			}
			if a.status != 401 || a.body != first || a.code() != "AuthenticationFailed" || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s %s: %d %s", name, call.method, call.path, a.status, a.body)
			}
		}
	}
	for _, call := range calls[3:] {
		a := w.ask(call.method, folder+call.path+version, w.reader, call.body, "If-Match", "*")
		if a.status != 403 || a.code() != "AuthorizationFailed" {
			t.Errorf("a reader, %s %s: %d %s", call.method, call.path, a.status, a.body)
		}
		last := w.lastEvent()
		if last.Actor != "operator:rita" || last.Action != "act.refused" {
			t.Errorf("on record is %s by %s", last.Action, last.Actor)
		}
	}
	if a := w.ask("GET", folder+version, "", "", "Authorization", "SharedAccessSignature "+w.security); a.status != 401 {
		t.Errorf("another scheme: %d", a.status)
	}
}

func TestATokenIsGoodInItsOwnIDScopeOnly(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	as[certificate](t, w.ask("PUT", folder+"/root"+version, w.security, upload(w.factory.Get("root").Base64(), false)), 200)
	other := w.open("0neOTHER")
	stranger := w.token(other, "ann", "read security")
	if a := w.ask("GET", folder+version, stranger, ""); a.status != 401 {
		t.Errorf("a token of an id scope that is not here: %d", a.status)
	}
	w.serve(certificates.Options{}, wire.Tenant{Engine: other}, wire.Tenant{Engine: w.engine})
	if a := w.ask("GET", folder+version, stranger, ""); a.status != 200 || a.body != `{"value":[]}` {
		t.Errorf("a token of one id scope shows the certificates of another: %d %s", a.status, a.body)
	}
	if a := w.ask("DELETE", folder+"/root"+version, stranger, "", "If-Match", "*"); a.status != 404 {
		t.Errorf("a token of one id scope reaches another: %d", a.status)
	}
	renamed := strings.Replace(stranger, "0neOTHER", idScope, 1)
	if a := w.ask("GET", folder+version, renamed, ""); a.status != 401 {
		t.Errorf("a token that names another id scope than its own: %d", a.status)
	}
	as[certificate](t, w.ask("GET", folder+"/root"+version, w.security, ""), 200)
}

func (w *world) lastEvent() audit.Entry {
	w.t.Helper()
	list, err := w.engine.Ledger(w.t.Context(), provisioning.LedgerFilter{Limit: 1})
	if err != nil || len(list) == 0 {
		w.t.Fatal(err)
	}
	return list[0]
}

func TestAnOperatorsWord(t *testing.T) {
	t.Run("is refused, and that is on record", func(t *testing.T) {
		w := newWorld(t, certificates.Options{})
		body := upload(w.factory.Get("root").Base64(), true)
		if a := w.ask("PUT", folder+"/root"+version, w.security, body); a.status != 403 || a.code() != "AuthorizationFailed" {
			t.Fatalf("got %d %s", a.status, a.body)
		}
		if last := w.lastEvent(); last.Actor != "operator:ann" || last.Action != "act.refused" {
			t.Errorf("on record is %s by %s", last.Action, last.Actor)
		}
		if a := w.ask("GET", folder+"/root"+version, w.security, ""); a.status != 404 {
			t.Errorf("it was written all the same: %d", a.status)
		}
	})
	t.Run("is not asked for again where possession was proved", func(t *testing.T) {
		w := newWorld(t, certificates.Options{})
		root := w.factory.Get("root")
		if _, err := w.engine.UploadAnchor(t.Context(), "operator:test", "root", root.PEM(), true, provisioning.Precondition{}); err != nil {
			t.Fatal(err)
		}
		was := as[certificate](t, w.ask("GET", folder+"/root"+version, w.security, ""), 200)
		now := as[certificate](t, w.ask("PUT", folder+"/root"+version, w.security, upload(root.Base64(), true), "If-Match", was.ETag), 200)
		if !now.Properties.IsVerified || now.ETag != was.ETag {
			t.Errorf("what was read and put back became %+v", now)
		}
		other := upload(w.factory.Get("other-root").Base64(), true)
		if a := w.ask("PUT", folder+"/root"+version, w.security, other, "If-Match", was.ETag); a.status != 403 {
			t.Errorf("other bytes were taken at his word: %d", a.status)
		}
	})
	t.Run("is taken where policy allows it, and is on record as his", func(t *testing.T) {
		w := newWorld(t, certificates.Options{AllowUnproven: true})
		got := as[certificate](t, w.ask("PUT", folder+"/root"+version, w.security, upload(w.factory.Get("root").Base64(), true)), 200)
		last := w.lastEvent()
		if !got.Properties.IsVerified || last.Actor != "operator:ann" || !strings.Contains(string(last.Body), `"verifiedBy":"operator:ann"`) {
			t.Errorf("verified %v; on record %s by %s: %s", got.Properties.IsVerified, last.Action, last.Actor, last.Body)
		}
		if a := w.ask("PUT", folder+"/two"+version, w.reader, upload(w.factory.Get("root").Base64(), true)); a.status != 403 {
			t.Errorf("a reader's word: %d", a.status)
		}
	})
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	good := upload(w.factory.Get("root").Base64(), false)
	tests := map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		"no api-version":                {"GET", folder, "", nil, 400, "BadRequest"},
		"an api-version that is none":   {"GET", folder + "?api-version=latest", "", nil, 400, "BadRequest"},
		"nothing of that name":          {"GET", folder + "/nothing" + version, "", nil, 404, "ResourceNotFound"},
		"a name that none can have":     {"GET", folder + "/a%2Fb" + version, "", nil, 404, "ResourceNotFound"},
		"a bad name":                    {"PUT", folder + "/a%20b" + version, good, nil, 400, "BadRequest"},
		"a name of 65 characters":       {"PUT", folder + "/" + strings.Repeat("a", 65) + version, good, nil, 400, "BadRequest"},
		"no body":                       {"PUT", folder + "/x" + version, "", nil, 400, "BadRequest"},
		"no certificate":                {"PUT", folder + "/x" + version, `{"properties":{}}`, nil, 400, "BadRequest"},
		"no JSON":                       {"PUT", folder + "/x" + version, `{"properties"`, nil, 400, "BadRequest"},
		"properties of another type":    {"PUT", folder + "/x" + version, `{"properties":[]}`, nil, 400, "BadRequest"},
		"the certificate of a device":   {"PUT", folder + "/x" + version, upload(w.factory.Get("dev-1").Base64(), false), nil, 400, "BadRequest"},
		"a body of another type":        {"PUT", folder + "/x" + version, good, []string{"Content-Type", "text/plain"}, 415, "UnsupportedMediaType"},
		"a body that is too large":      {"PUT", folder + "/x" + version, strings.Repeat(" ", 129<<10), nil, 413, "RequestEntityTooLarge"},
		"a method that is not there":    {"PATCH", folder + "/x" + version, "{}", nil, 405, "MethodNotAllowed"},
		"another resource":              {"GET", strings.TrimSuffix(folder, "/certificates") + version, "", nil, 404, "ResourceNotFound"},
		"another act":                   {"POST", folder + "/x/rename" + version, "", nil, 404, "ResourceNotFound"},
		"another provider":              {"GET", strings.Replace(folder, "Devices", "Storage", 1) + version, "", nil, 404, "ResourceNotFound"},
		"fields that nobody knows here": {"PUT", folder + "/y" + version, strings.Replace(good, `{`, `{"tags":{},`, 1), nil, 200, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := w.ask(tt.method, tt.path, w.security, tt.body, tt.header...)
			if a.status != tt.status || tt.code != "" && a.code() != tt.code {
				t.Errorf("got %d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
				t.Errorf("of type %q", got)
			}
		})
	}
}

func TestTheListIsOnePage(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	if a := w.ask("GET", folder+version, w.reader, ""); a.body != `{"value":[]}` {
		t.Errorf("an empty list is %s", a.body)
	}
	const many = 101 // more than are read at once
	for n := range many {
		if _, err := w.engine.UploadAnchor(t.Context(), "operator:test", fmt.Sprintf("ca-%03d", n), w.factory.Get("root").PEM(), false, provisioning.Precondition{}); err != nil {
			t.Fatal(err)
		}
	}
	got := as[struct{ Value []certificate }](t, w.ask(http.MethodGet, folder+"/"+version, w.reader, ""), 200).Value
	if len(got) != many || got[0].Name != "ca-000" || got[many-1].Name != "ca-100" {
		t.Errorf("%d are listed", len(got))
	}
}

func FuzzUpload(f *testing.F) {
	w := newWorld(f, certificates.Options{})
	f.Add(upload(w.factory.Get("root").Base64(), false), "")
	f.Add(`{"properties":{"certificate":"MIIB","isVerified":true}}`, `"*"`)
	f.Add(`{"properties":null}`, "AAAAAAExpTQ=")
	f.Fuzz(func(t *testing.T, body, ifMatch string) {
		ifMatch = strings.Map(func(r rune) rune { // what a header can hold
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, ifMatch)
		here := *w
		here.t = t
		a := here.ask("PUT", folder+"/fuzz"+version, w.security, body, "If-Match", ifMatch)
		if a.status >= 500 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}
