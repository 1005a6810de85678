package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

// What Azure shows by thumbprint alone is found in a folder, beside keys and other things.
func TestCertificatesThatAzureDoesNotShowAreFoundInAFolder(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1; root > dev-2")
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		"root.pem": f.Get("root").PEM(), "line/dev-1.der": f.Get("dev-1").Cert.Raw, "dev-1.key": testkit.KeyPEM(t, f.Get("dev-1").Key), "notes.txt": []byte("x"),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shelf, err := readShelf(dir)
	if err != nil || len(shelf) != 4 {
		t.Fatalf("%d thumbprints, %v", len(shelf), err)
	}
	thumb := func(name string) string {
		return strings.ToUpper(verify.ThumbprintOf(f.Get(name).Cert.Raw).String())
	}
	slot := func(name string) string {
		return `{"certificate":null,"info":{"sha256Thumbprint":"` + thumb(name) + `"}}`
	}
	for name, c := range map[string]struct{ slots, member, note, wrong string }{
		"both":            {`{"clientCertificates":{"primary":` + slot("dev-1") + `,"secondary":null}}`, "clientCertificates", "", ""},
		"one of two":      {`{"signingCertificates":{"primary":` + slot("root") + `,"secondary":` + slot("dev-2") + `}}`, "signingCertificates", "without the secondary certificate", ""},
		"none":            {`{"clientCertificates":{"primary":` + slot("dev-2") + `}}`, "", "", "thumbprint"},
		"an empty pair":   {`{"clientCertificates":{}}`, "", "", "no certificate"},
		"nothing":         {`{}`, "", "", "attest"},
		"an anchor named": {`{"caReferences":{"primary":"root","secondary":null}}`, "caReferences", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := parseAzure([]byte(`{"registrationId":"dev-1","attestation":{"type":"x509","x509":` + c.slots + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			made, err := objects[0].translate(shelf, "")
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v", err)
				}
				return
			}
			attestation, _ := made.body["attestation"].(map[string]any)
			x509, _ := attestation["x509"].(map[string]any)
			pair, _ := x509[c.member].(map[string]any)
			if err != nil || len(x509) != 1 || len(pair) != 1 || !strings.HasPrefix(made.note, c.note) || (c.note == "") != (made.note == "") {
				t.Errorf("%v, %+v", err, made)
			}
		})
	}
}

func TestTwinsLoseWhatClientsAdd(t *testing.T) {
	for text, want := range map[string]string{
		`null`: `{}`, `{}`: `{}`, `{"tags":null,"properties":null}`: `{}`, `{"tags":5,"properties":[]}`: `{}`,
		`{"tags":{"version":2,"a":1},"properties":{"desired":{"$version":1}}}`:                                                                `{"tags":{"a":1,"version":2}}`,
		`{"properties":{"desired":{"additionalProperties":{"a":1},"count":null,"metadata":null,"version":null},"additionalProperties":null}}`: `{"properties":{"desired":{"a":1}}}`,
		`{"tags":{"n":12345678901234567890}}`: `{"tags":{"n":12345678901234567890}}`,
	} {
		objects, err := parseAzure([]byte(`[{"registrationId":"a","attestation":{},"initialTwin":` + text + `}]`))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := json.Marshal(objects[0].twin())
		if d := cmp.Diff(want, string(got)); d != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, d)
		}
	}
}

func FuzzAzureFile(f *testing.F) {
	for _, seed := range []string{
		`[]`, `{"value":[]}`, `{"value":[{"name":"a","properties":{"thumbprint":"00"}}]}`, `[{"name":"h","allocationWeight":1}]`, `[null]`,
		`{"registrationId":"a","attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"info":{}}}}}}`, `[`, `7`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		objects, err := parseAzure(raw)
		if err != nil && !fault.Is(err, fault.Malformed) {
			t.Fatal(err)
		}
		for _, o := range objects {
			if made, err := o.translate(shelf{}, ""); err == nil && (len(made.at) != 2 || made.body == nil) {
				t.Errorf("%+v", made)
			}
		}
	})
}
