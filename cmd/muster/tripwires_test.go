package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/provisioning"
)

func TestWhatTripwiresHoldIsConfigured(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "muster.yaml")
	read := func(text string) (config, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		c.dev = true
		return c.checked()
	}
	c, err := read("tripwires: {window: 2h, hold: [shared-key, two-chains]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Tripwires.rule(); r.Window != 2*time.Hour || !slices.Equal(r.Hold, []provisioning.TripwireKind{provisioning.SharedKey, provisioning.TwoChains}) {
		t.Errorf("the rule is %+v", r)
	}
	if tenant := c.tenant("0neABC"); len(tenant.Tripwires.Hold) != 2 {
		t.Errorf("another id scope has %+v", tenant.Tripwires)
	}
	if c, err = read("{}\n"); err != nil || c.Tripwires.rule().Hold != nil {
		t.Errorf("unless named: %+v, %v", c.Tripwires, err)
	}
	for text, wanted := range map[string]string{
		"tripwires: {hold: [everything]}\n": "tripwires.hold",
		"tripwires: {window: 1s}\n":         "tripwires.window",
		"tripwires: {window: 9000h}\n":      "tripwires.window",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
