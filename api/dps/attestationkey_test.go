package dps

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
)

func TestTheKeysOfATPMAreReadEachAsItsSort(t *testing.T) {
	t.Parallel()
	chip, err := tpm.Open(testkit.NewSWTPM(t).Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = chip.Close() }()
	by, err := chip.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString
	ek, srk, ak := text(chip.EndorsementKey()), text(chip.StorageRootKey()), text(by)
	keys := func(more string) string {
		return fmt.Sprintf(`{"endorsementKey":%q,"storageRootKey":%q%s}`, ek, srk, more)
	}
	for name, c := range map[string]struct{ body, rule string }{
		"without":                         {keys(``), ""},
		"null":                            {keys(`,"attestationKey":null`), ""},
		"an attestation key":              {keys(`,"attestationKey":{"public":"` + ak + `"}`), ""},
		"and what it says":                {keys(`,"attestationKey":{"public":"` + ak + `","certifyInfo":"AA==","signature":"AA==","keyPublic":"AA=="}`), ""},
		"a storage key in its place":      {keys(`,"attestationKey":{"public":"` + srk + `"}`), "attestation-key"},
		"an attestation key cut short":    {keys(`,"attestationKey":{"public":"` + text(by[:len(by)-1]) + `"}`), "attestation-key"},
		"no attestation key":              {keys(`,"attestationKey":{}`), "attestation-key"},
		"no base64":                       {keys(`,"attestationKey":{"public":"%"}`), "tpm"},
		"no object":                       {keys(`,"attestationKey":"` + ak + `"`), "tpm"},
		"an attestation key for a TPM's":  {strings.Replace(keys(``), ek, ak, 1), "endorsement-key"},
		"an attestation key for a root's": {strings.Replace(keys(``), srk, ak, 1), "storage-root-key"},
	} {
		shown, err := decodeTPM([]byte(c.body))
		if fault.RuleOf(err) != c.rule || err != nil && !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (shown.By.IsZero() != !strings.Contains(c.body, ak) || shown.Attestation.IsZero() == strings.Contains(c.body, "certifyInfo")) {
			t.Errorf("%s: read as %+v", name, shown)
		}
	}
}
