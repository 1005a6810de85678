package device

import (
	"crypto/tls"
	"encoding/base64"
	"testing"
	"time"
)

// The expected texts were computed by hand from DPS contract sections 1.2 and 2.4
// with an independent HMAC.
func TestSASTokenIsTheContractsFormulaByteForByte(t *testing.T) {
	key, err := ParseKey(" c2VjcmV0LW9mLWRldi0xIQ==\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Token("0neABC/registrations/Dev:1", "registration", time.Unix(1893456000, 999), signedBy(key))
	if err != nil {
		t.Fatal(err)
	}
	want := "SharedAccessSignature sr=0neABC%2Fregistrations%2FDev%3A1" +
		"&sig=Y8sp7%2BfuaG1xO25VqoI1qyrsAApT%2BlE5TemVzdlCri0%3D&se=1893456000&skn=registration"
	if got != want {
		t.Errorf("token\n %s, want\n %s", got, want)
	}
}

func TestDerivedKeyIsTheContractsFormulaByteForByte(t *testing.T) {
	got := base64.StdEncoding.EncodeToString(DeriveKey([]byte("group secret key"), "Dev:1"))
	if want := "W4M0Axj4LQi6WBlmF6viwMiqXINHZnJY8LGVih8ts5c="; got != want {
		t.Errorf("derived key %s, want %s", got, want)
	}
}

func TestKeysAreWrittenInBase64(t *testing.T) {
	for _, text := range []string{"", "  ", "not base64!", "YQ"} {
		if key, err := ParseKey(text); err == nil {
			t.Errorf("%q was read as %x", text, key)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := Config{URL: "https://dps.example.net:8443/", IDScope: testScope, RegistrationID: testID}
	if _, err := New(good); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	for name, spoil := range map[string]func(*Config){
		"plain http":                    func(c *Config) { c.URL = "http://dps.example.net" },
		"no host":                       func(c *Config) { c.URL = "https://" },
		"no URL":                        func(c *Config) { c.URL = "" },
		"a password in the URL":         func(c *Config) { c.URL = "https://me:secret@dps.example.net" },
		"a query in the URL":            func(c *Config) { c.URL = "https://dps.example.net?x=1" },
		"an id that ends in a dot":      func(c *Config) { c.RegistrationID = "press." },
		"an id that leaves its segment": func(c *Config) { c.RegistrationID = "../a" },
		"no id":                         func(c *Config) { c.RegistrationID = "" },
		"a scope with a slash":          func(c *Config) { c.IDScope = "a/b" },
		"a certificate without its key": func(c *Config) { c.Credential.Certificate = &tls.Certificate{Certificate: [][]byte{{1}}} },
		"a code and a key at once":      func(c *Config) { c.Credential = Credential{SymmetricKey: []byte("k"), Code: testCode} },
		"a certificate and a key at once": func(c *Config) {
			c.Credential = Credential{SymmetricKey: []byte("k"), Certificate: &tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: testKey(t)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			spoil(&config)
			if _, err := New(config); err == nil {
				t.Error("was accepted")
			}
		})
	}
}
