package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/testkit"
)

func opened(t *testing.T, socket string) *tpm.TPM {
	t.Helper()
	d, err := tpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestItsKeysOutliveAPowerCut(t *testing.T) {
	t.Parallel()
	chip := testkit.NewSWTPM(t)
	before := opened(t, chip.Socket)
	chip.Restart(t)
	after := opened(t, chip.Socket)
	if !bytes.Equal(before.EndorsementKey(), after.EndorsementKey()) || !bytes.Equal(before.StorageRootKey(), after.StorageRootKey()) || len(after.RegistrationID()) != 52 {
		t.Error("the TPM is another after a power cut")
	}
	if bytes.Equal(before.EndorsementKey(), opened(t, testkit.NewSWTPM(t).Socket).EndorsementKey()) {
		t.Error("two TPMs are one")
	}
}

func TestAKeyThatIsKeptOutsideSignsInItsTPMAlone(t *testing.T) {
	t.Parallel()
	chip := testkit.NewSWTPM(t)
	key, err := opened(t, chip.Socket).NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.(*tpm.Key).MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	chip.Restart(t)
	read, err := opened(t, chip.Socket).ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	small, large := sha256.Sum256(text), sha512.Sum384(text)
	for hash, digest := range map[crypto.Hash][]byte{crypto.SHA256: small[:], crypto.SHA384: large[:]} {
		signature, err := read.Sign(rand.Reader, digest, hash)
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature) {
			t.Errorf("a signature over %v does not verify", hash)
		}
	}
	if _, err := read.Sign(rand.Reader, make([]byte, 20), crypto.SHA1); err == nil {
		t.Error("it signs a digest of SHA-1")
	}
	stolen, err := opened(t, testkit.NewSWTPM(t).Socket).ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stolen.Sign(rand.Reader, small[:], crypto.SHA256); err == nil {
		t.Error("another TPM signs with it")
	}
}

func TestWhatIsNoKeyOfItsIsRefused(t *testing.T) {
	t.Parallel()
	d := opened(t, testkit.NewSWTPM(t).Socket)
	if _, err := d.MAC([]byte("text")); err == nil {
		t.Error("it signs before it was sent a key")
	}
	for name, blob := range map[string][]byte{
		"nothing": nil, "one structure": {0, 1, 7}, "six empty ones": make([]byte, 12), "more than six": make([]byte, 14), "one cut short": {0, 9, 1},
	} {
		if err := d.Activate(blob); err == nil {
			t.Errorf("it took %s", name)
		}
	}
	for name, text := range map[string][]byte{"nothing": nil, "another key": testkit.KeyPEM(t, testkit.NewKey(t, "p256"))} {
		if _, err := d.ParseKey(text); err == nil {
			t.Errorf("it read %s", name)
		}
	}
	if _, err := tpm.Open(t.TempDir() + "/none"); err == nil {
		t.Error("it opened what is not there")
	}
}
