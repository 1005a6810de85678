//go:build cgo

package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
)

func token(t *testing.T, hsm *testkit.SoftHSM) *keys.Device {
	t.Helper()
	d, err := keys.OpenDevice(hsm.URI, hsm.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// signs says whether a key signs so that its public half agrees.
func signs(key crypto.Signer) error {
	digest := sha256.Sum256([]byte("to be signed"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	good := true
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(public, digest[:], signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	}
	if !good {
		return fault.New(fault.Internal, "bad-signature", "The signature does not verify.")
	}
	return nil
}

func TestKeysAreMadeInAnHSMAndFoundAgain(t *testing.T) {
	hsm := testkit.NewSoftHSM(t)
	d := token(t, hsm)
	made := map[string]crypto.Signer{}
	for id, kt := range map[string]policies.KeyType{
		"00000000000000a1": policies.KeyECP256, "00000000000000a2": policies.KeyECP384,
		"00000000000000a3": policies.KeyECP521, "00000000000000a4": policies.KeyRSA2048,
	} {
		uri, key, err := d.Create(t.Context(), id, kt)
		if err != nil {
			t.Fatalf("%s: %v", kt, err)
		}
		if uri != "pkcs11:id="+id+";object=muster-"+id {
			t.Errorf("a row would hold %s", uri)
		}
		if got, err := policies.KeyTypeOf(key.Public()); err != nil || got != kt {
			t.Errorf("made a key of the type %s, %v; want %s", got, err, kt)
		}
		if err := signs(key); err != nil {
			t.Errorf("%s: %v", kt, err)
		}
		made[uri] = key
	}
	if err := d.Close(); err != nil { // another process has only the token
		t.Fatal(err)
	}
	d = token(t, hsm)
	for uri, key := range made {
		again, err := d.Open(t.Context(), uri)
		if err != nil || !same(key, again) || signs(again) != nil {
			t.Errorf("%s is not found again: %v", uri, err)
		}
	}
}

func TestWhatAnHSMCannotDoSaysWhy(t *testing.T) {
	hsm := testkit.NewSoftHSM(t)
	d := token(t, hsm)
	if _, _, err := d.Create(t.Context(), "00000000000000b1", policies.KeyEd25519); fault.RuleOf(err) != "key-type-not-allowed" {
		t.Errorf("a key type that it does not make: %v", err)
	}
	if _, err := d.Open(t.Context(), "pkcs11:id=00b2;object=nobody"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	if d.Problem() != nil {
		t.Errorf("the token is there: %v", d.Problem())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hsm.PINFile, []byte("99999999"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = token(t, hsm)
	for range 12 { // SoftHSM does not lock, but others do
		_, err := d.Open(t.Context(), "pkcs11:id=00b2;object=nobody")
		if fault.RuleOf(err) != "key-pin" || strings.Contains(err.Error(), "99999999") {
			t.Fatalf("a wrong PIN: %v", err)
		}
	}
}

// TestSigningResumesWhenTheHSMIsBack uses real time: the module is a C library.
func TestSigningResumesWhenTheHSMIsBack(t *testing.T) {
	hsm := testkit.NewSoftHSM(t)
	d := token(t, hsm)
	_, first, err := d.Create(t.Context(), "00000000000000c1", policies.KeyECP256)
	if err != nil {
		t.Fatal(err)
	}
	uri, second, err := d.Create(t.Context(), "00000000000000c2", policies.KeyECP256)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it comes back, and again
		hsm.TakeAway(t)
		for _, key := range []crypto.Signer{first, second} {
			if err := signs(key); fault.RuleOf(err) != "key-device-unavailable" || !fault.Is(err, fault.Unavailable) {
				t.Fatalf("without the token: %v", err)
			}
		}
		if _, err := d.Open(t.Context(), uri); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("opening without the token: %v", err)
		}
		if d.Problem() == nil {
			t.Fatal("the device does not say that it is away")
		}
		hsm.BringBack(t)
		deadline := time.Now().Add(30 * time.Second)
		for err := d.Retry(); err != nil; err = d.Retry() {
			if time.Now().After(deadline) {
				t.Fatalf("the token is back: %v", err)
			}
			time.Sleep(50 * time.Millisecond) // attempts are a second apart
		}
		var all sync.WaitGroup
		for range 8 {
			for _, key := range []crypto.Signer{first, second} {
				all.Go(func() {
					if err := signs(key); err != nil {
						t.Errorf("the token is back: %v", err)
					}
				})
			}
		}
		all.Wait()
		if d.Problem() != nil {
			t.Fatalf("after it came back: %v", d.Problem())
		}
	}
}
