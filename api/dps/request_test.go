package dps

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func TestVersions(t *testing.T) {
	tests := map[string]struct{ good, csr bool }{
		"2019-03-31":          {true, false},
		"2021-06-01":          {true, false},
		"2021-11-01-preview":  {true, false},
		"2025-06-30":          {true, false},
		"2025-07-01-preview":  {true, true},
		"2025-07-01":          {true, true},
		"2031-01-01":          {true, true},
		"":                    {},
		"latest":              {},
		"2021-13-01":          {},
		"2021-6-1":            {},
		"2021-06-01-beta":     {},
		"2021-06-01-preview ": {},
		"-preview":            {},
	}
	for text, tt := range tests {
		t.Run(text, func(t *testing.T) {
			v, err := parseVersion(text)
			if (err == nil) != tt.good || err != nil && fault.RuleOf(err) != "api-version" {
				t.Errorf("error %v", err)
			}
			if err == nil && v.carriesCSR() != tt.csr {
				t.Errorf("carries a CSR: %t", v.carriesCSR())
			}
		})
	}
}

func TestTheCSROfTheEarlyPreviewsIsPEMOrBase64(t *testing.T) {
	der := testkit.CSR(t, testkit.NewKey(t, "p256"), "dev-1")
	id, err := verify.ParseRegistrationID("dev-1")
	if err != nil {
		t.Fatal(err)
	}
	asPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	for name, tt := range map[string]struct {
		v    version
		text string
		want []byte
		rule string
	}{
		"PEM":                        {"2021-06-01", asPEM, der, ""},
		"base64":                     {"2019-03-31", base64.StdEncoding.EncodeToString(der), der, ""},
		"neither":                    {"2021-06-01", "CSR", nil, "csr-not-base64"},
		"a version that has it not":  {withoutOldCSR, asPEM, nil, ""},
		"a version that has the new": {withCSR, asPEM, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(map[string]string{"registrationId": "dev-1", "clientCertificateCsr": tt.text})
			if err != nil {
				t.Fatal(err)
			}
			r, err := decode(body, tt.v, id)
			if fault.RuleOf(err) != tt.rule || !bytes.Equal(r.csr, tt.want) {
				t.Errorf("read %d octets, error %v", len(r.csr), err)
			}
		})
	}
}

func FuzzBody(f *testing.F) {
	csr := base64.StdEncoding.EncodeToString(testkit.CSR(f, testkit.NewKey(f, "p256"), "dev-1"))
	for _, seed := range []string{
		`{"registrationId":"dev-1"}`,
		`{"registrationId":"DEV-1","csr":"` + csr + `","payload":{"model":"pump-7"}}`,
		`{"registrationId":null,"csr":null,"tpm":null,"payload":null}`,
		`{"registrationId":"dev-1","tpm":{}}`,
		`{"registrationId":"dev-1","payload":[{"a":[[[[]]]]}]}`,
		`{"registrationId":"dev-1","csr":{"\u0000":"` + "\xff" + `"}}`,
		`[`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	id, err := verify.ParseRegistrationID("dev-1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte, preview bool) {
		v := version(withoutOldCSR) // neither the old nor the new one
		if preview {
			v = withCSR
		}
		a, err := decode(text, v, id)
		switch {
		case err != nil && !fault.Is(err, fault.Malformed):
			t.Errorf("error %v is not the caller's", err)
		case err != nil:
		case !json.Valid(text):
			t.Error("it read what is not JSON")
		case a.csr != nil && !preview:
			t.Error("it read a csr that the version does not know")
		case a.payload != nil && (!json.Valid(a.payload) || a.payload[0] != '{'):
			t.Errorf("the payload %q is no object", a.payload)
		}
	})
}
