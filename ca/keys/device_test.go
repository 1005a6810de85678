//go:build !awskms

package keys_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	kmsapi "go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

var _ ca.Keys = (*keys.Keeper)(nil)

// cloud stands for the key manager of a cloud: keys in memory, and as slow as a test wants.
type cloud struct {
	mu      sync.Mutex
	keys    map[string]crypto.Signer
	hold    chan struct{} // while it is there signatures wait for it
	down    bool
	waiting int
	most    int
}

var theCloud = &cloud{keys: map[string]crypto.Signer{}}

func init() {
	kmsapi.Register(kmsapi.AmazonKMS, func(context.Context, kmsapi.Options) (kmsapi.KeyManager, error) { return connection{theCloud}, nil })
}

func (c *cloud) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

type connection struct{ *cloud }

func (c connection) Close() error { return nil }

func (c connection) GetPublicKey(*kmsapi.GetPublicKeyRequest) (crypto.PublicKey, error) {
	return nil, errors.New("nobody asks")
}

func (c connection) CreateKey(r *kmsapi.CreateKeyRequest) (*kmsapi.CreateKeyResponse, error) {
	made, err := new(softkms.SoftKMS).CreateKey(r)
	if err != nil {
		return nil, err
	}
	c.change(func() { c.keys["awskms:key-id="+r.Name] = made.CreateSignerRequest.Signer })
	return &kmsapi.CreateKeyResponse{Name: "awskms:key-id=" + r.Name}, nil
}

func (c connection) CreateSigner(r *kmsapi.CreateSignerRequest) (s crypto.Signer, err error) {
	c.change(func() {
		if s = c.keys[r.SigningKey]; s == nil {
			err = errors.New("the key was not found")
		}
	})
	return slowKey{s, c.cloud}, err
}

type slowKey struct {
	crypto.Signer
	cloud *cloud
}

func (k slowKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	var hold chan struct{}
	var down bool
	k.cloud.change(func() {
		hold, down = k.cloud.hold, k.cloud.down
		k.cloud.waiting++
		k.cloud.most = max(k.cloud.most, k.cloud.waiting)
	})
	defer k.cloud.change(func() { k.cloud.waiting-- })
	if hold != nil {
		<-hold
	}
	if down {
		return nil, errors.New("503 from the cloud")
	}
	return k.Signer.Sign(random, digest, opts)
}

func TestASlowDeviceHoldsNobodyUpForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := keys.OpenDevice("awskms:region=eu-central-1", "")
		if err != nil {
			t.Fatal(err)
		}
		uri, key, err := d.Create(t.Context(), "00000000000000d1", policies.KeyECP256)
		if err != nil || uri != "awskms:key-id=muster-00000000000000d1" {
			t.Fatalf("%s, %v", uri, err)
		}
		hold := make(chan struct{})
		theCloud.change(func() { theCloud.hold, theCloud.most = hold, 0 })
		began := time.Now()
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				if err := sign(key); !fault.Is(err, fault.Unavailable) {
					t.Errorf("a stuck signature: %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("500 callers waited for %s", took)
		}
		theCloud.change(func() {
			if theCloud.most > 64 {
				t.Errorf("%d goroutines were stuck", theCloud.most)
			}
			theCloud.hold = nil
		})
		if d.Problem() == nil {
			t.Error("the device does not say that it is stuck")
		}
		close(hold)
		synctest.Wait()
		if err := sign(key); err != nil {
			t.Errorf("it answers again: %v", err)
		}
		theCloud.change(func() { theCloud.down = true })
		if err := sign(key); !fault.Is(err, fault.Unavailable) {
			t.Errorf("it answers with an error: %v", err)
		}
		theCloud.change(func() { theCloud.down = false })
		if err := sign(key); err != nil {
			t.Errorf("and is well again: %v", err)
		}
	})
}

func sign(key crypto.Signer) error {
	_, err := key.Sign(nil, make([]byte, 32), crypto.SHA256)
	return err
}

func TestADeviceIsNamedWithoutSecrets(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ uri, pin, rule string }{
		"a device":                           {"awskms:region=x", "", ""},
		"a device with a PIN":                {"awskms:region=x", pin, ""},
		"a PIN in the URI":                   {"awskms:region=x?pin-value=1234", "", "key-pin"},
		"a PIN file in the URI":              {"awskms:region=x?pin-source=/pin", "", "key-pin"},
		"a PIN file that is not there":       {"awskms:region=x", pin + "-gone", "key-pin"},
		"a driver this program has not":      {"tpmkms:", "", "key-device-unsupported"},
		"another driver that it has not":     {"azurekms:vault=x", "", "key-device-unsupported"},
		"files, which are no device":         {"softkms:", "", "key-uri"},
		"a kind that nobody knows":           {"yubikey:", "", "key-uri"},
		"no URI":                             {"hello", "", "key-uri"},
		"something that is no URI, but long": {"pkcs11:%zz", "", "key-uri"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := keys.OpenDevice(tt.uri, tt.pin)
			if fault.RuleOf(err) != tt.rule || err != nil && strings.Contains(err.Error(), "1234") {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
}

func TestAKeyIsOpenedWhereItsURISaysItIs(t *testing.T) {
	files := folder(t, t.TempDir(), "")
	inFile, _, err := keys.Keep(files, nil).Create(t.Context(), "00000000000000e1", policies.KeyECP256)
	if err != nil {
		t.Fatal(err)
	}
	d, err := keys.OpenDevice("awskms:region=x", "")
	if err != nil {
		t.Fatal(err)
	}
	both := keys.Keep(files, d)
	inDevice, _, err := both.Create(t.Context(), "00000000000000e2", policies.KeyECP256)
	if err != nil || !strings.HasPrefix(inDevice, "awskms:") {
		t.Fatalf("made %s: %v", inDevice, err)
	}
	tests := map[string]struct {
		keeper    *keys.Keeper
		uri, rule string
	}{
		"a file's":                             {both, inFile, ""},
		"the device's":                         {both, inDevice, ""},
		"a file's, without a device":           {keys.Keep(files, nil), inFile, ""},
		"the device's, without one":            {keys.Keep(files, nil), inDevice, "key-device-missing"},
		"another device's":                     {both, "tpmkms:name=x", "key-device-missing"},
		"a key that the device does not have":  {both, "awskms:key-id=x", "key-missing"},
		"a kind that nobody knows":             {both, "yubikey:slot=9c", "key-uri"},
		"a file outside of the folder":         {both, "softkms:../kek.pem", "key-uri"},
		"a file that is not there, beside one": {both, "softkms:x.pem", "key-missing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := tt.keeper.Open(t.Context(), tt.uri); fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
}

func TestTheDriversBehindTagsBuild(t *testing.T) {
	if out, err := exec.Command("go", "vet", "-tags", "awskms,cloudkms,azurekms,tpmkms", ".").CombinedOutput(); err != nil {
		t.Fatalf("go vet: %v\n%s", err, out)
	}
}
