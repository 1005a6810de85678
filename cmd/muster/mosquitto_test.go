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
	write := func(cn string) {
		e := testkit.SelfSigned(t, cn)
		for name, text := range map[string][]byte{"control.pem": e.PEM(), "control.key": testkit.KeyPEM(t, e.Key)} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	const broker = "mqtt.example.net"
	config := mosquittoConfig{broker: {Certificate: filepath.Join(dir, "control.pem"), Key: filepath.Join(dir, "control.key")}}
	write("muster~control")
	got, err := config.open("", true)
	if err != nil {
		t.Fatal(err)
	}
	write("muster~renewed")
	pair, err := got[broker].Certificate()
	if err != nil || pair.Leaf.Subject.CommonName != "muster~renewed" {
		t.Errorf("it was renewed, and is %v (%v)", pair, err)
	}
	write("control")
	if _, err := got[broker].Certificate(); fault.RuleOf(err) != "config" {
		t.Errorf("a name that a device could have: %v", err)
	}
	if _, err := config.open("", true); fault.RuleOf(err) != "config" {
		t.Errorf("a name that a device could have, at start: %v", err)
	}
}
