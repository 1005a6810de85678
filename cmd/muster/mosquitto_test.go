package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
)

func TestABrokersFilesAreOfOneIDScope(t *testing.T) {
	b := mosquittoConfig{
		"own.example.net":    {CRLFile: "own.pem", PIDFile: "own.pid"},
		"tenant.example.net": {IDScope: "0neTENANT1", CRLFile: "tenant.pem", PIDFile: "tenant.pid"},
	}
	for _, c := range []struct {
		idScope string
		own     bool
		hub     string
	}{{"0neOWN00001", true, "own.example.net"}, {"0netenant1", false, "tenant.example.net"}, {"0neOTHER001", false, ""}} {
		got, err := b.open(c.idScope, c.own)
		if _, there := got[c.hub]; err != nil || there != (c.hub != "") || len(got) > 1 {
			t.Errorf("%s has %v, %v", c.idScope, got, err)
		}
	}
}

func TestACertificateForABrokerIsNoDevices(t *testing.T) {
	dir := t.TempDir()
	open := func(cn string) error {
		e := testkit.SelfSigned(t, cn)
		for name, text := range map[string][]byte{"control.pem": e.PEM(), "control.key": testkit.KeyPEM(t, e.Key)} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := mosquittoConfig{"mqtt.example.net": {Certificate: filepath.Join(dir, "control.pem"), Key: filepath.Join(dir, "control.key")}}.open("", true)
		return err
	}
	if err := open("muster~control"); err != nil {
		t.Error(err)
	}
	if err := open("control"); fault.RuleOf(err) != "config" {
		t.Errorf("a name that a device could have: %v", err)
	}
}
