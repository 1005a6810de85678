package stepca

import (
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
)

func config(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := testkit.Chain(t, `root`).Get("root").Cert
	return Config{
		URL: "https://127.0.0.1:9", Provisioner: "muster", PasswordFile: write("password", "secret\n"),
		CAFile: write("root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))),
	}
}

func TestConfigurationsThatCannotWork(t *testing.T) {
	if _, err := config(t).Open(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no address":                   func(c *Config) { c.URL = "" },
		"plain HTTP":                   func(c *Config) { c.URL = "http://ca.example" },
		"no provisioner":               func(c *Config) { c.Provisioner = "" },
		"no root":                      func(c *Config) { c.CAFile = "" },
		"two roots":                    func(c *Config) { c.Fingerprint = strings.Repeat("00", 32) },
		"half a fingerprint":           func(c *Config) { c.CAFile, c.Fingerprint = "", "00ff" },
		"a root that is none":          func(c *Config) { c.CAFile = c.PasswordFile },
		"no password and no other key": func(c *Config) { c.PasswordFile = "" },
	} {
		c := config(t)
		change(&c)
		if _, err := c.Open(); fault.RuleOf(err) != "config" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a running step-ca answers is tested in test/upstream.
func TestAStepCAThatIsNotThereHasSignedNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := config(t)
	c.URL = "https://" + l.Addr().String()
	_ = l.Close()
	u, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Sign(t.Context(), ca.UpstreamRequest{}); !errors.Is(err, ca.ErrNotSigned) {
		t.Error(err)
	}
	if err := u.Revoke(t.Context(), ca.UpstreamRevocation{Serial: "ff"}); err == nil || errors.Is(err, ca.ErrNotRevoked) {
		t.Errorf("%v, want an error that is no answer", err)
	}
}
