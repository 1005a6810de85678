//go:build tpmkms

package keys_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
)

// Run by scripts/test.sh with the tag.
func TestKeysAreMadeInATPMAndFoundAgain(t *testing.T) {
	chip, folder := testkit.NewSWTPM(t), t.TempDir()
	device := func(socket string) *keys.Device {
		d, err := keys.OpenDevice("tpmkms:device="+socket+";storage-directory="+folder, "")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	kinds := map[string]policies.KeyType{"a1": policies.KeyECP256, "a2": policies.KeyECP384, "a3": policies.KeyRSA2048}
	made := map[string]crypto.Signer{}
	for name, kind := range kinds {
		uri, key, err := device(chip.Socket).Create(t.Context(), name, kind)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := certifies(t, key); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		made[uri] = key
	}
	chip.Restart(t) // a TPM counts that as a wrong password, as keys of this driver are protected against guessing
	other := testkit.NewSWTPM(t)
	for uri, key := range made {
		again, err := device(chip.Socket).Open(t.Context(), uri)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if err := certifies(t, again); err != nil || !same(key, again) {
			t.Errorf("%s after a power cycle: %v", uri, err)
		}
		if stray, err := device(other.Socket).Open(t.Context(), uri); err == nil && certifies(t, stray) == nil {
			t.Errorf("%s signs in another TPM", uri)
		}
	}
	if _, _, err := device(folder+"/nothing").Create(t.Context(), "b1", policies.KeyECP256); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a TPM: %v", err)
	}
	if _, _, err := device(chip.Socket).Create(t.Context(), "b2", policies.KeyEd25519); fault.RuleOf(err) != "key-type-not-allowed" {
		t.Errorf("a key of a type that TPMs have not: %v", err)
	}
}

// certifies has a key sign as an issuer's does: a TPM's signs with one hash only.
func certifies(t *testing.T, key crypto.Signer) error {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	_, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key) // checks the signature
	return err
}
