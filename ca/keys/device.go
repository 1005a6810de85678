package keys

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.step.sm/crypto/kms"
	kmsapi "go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/uri"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

const (
	// callLimit bounds how long a caller waits for a device: a signature that takes longer
	// is of no use to the client that asked for it.
	callLimit = 10 * time.Second
	// callsAtOnce bounds the calls under way, stuck ones included: no more goroutines than
	// these ever wait for a device.
	callsAtOnce = 64
	// reopenAfter is the least time between two attempts to connect.
	reopenAfter = time.Second
)

// Device keeps keys that never leave it: an HSM (PKCS#11), a TPM, or the key manager of a
// cloud. It is safe for concurrent use, and there is one for each module in a process:
// a PKCS#11 module recovers only when every connection to it has ended.
//
// A device may be away. Whatever then needs it is fault.Unavailable, and the first call
// after it is back connects anew.
type Device struct {
	kind  string
	where string // the URI without secrets
	pin   string // file; "" = none
	calls chan struct{}

	problem atomic.Pointer[fault.Error] // of the last call; nil: it went well

	mu      sync.Mutex // held while connecting
	manager kmsapi.KeyManager
	opened  int       // counts connections
	tried   time.Time // to connect, the last time
	failed  error     // how that ended
	refused error     // the PIN is wrong: another attempt could lock the device
}

// drivers are the kinds of devices, with the program that has them. Which of them this
// one has is decided by build tags (see pkcs11.go and the like).
var drivers = map[string]string{
	"pkcs11":   "muster-cgo (make build-cgo)",
	"awskms":   "a muster built with -tags awskms",
	"cloudkms": "a muster built with -tags cloudkms",
	"azurekms": "a muster built with -tags azurekms",
	"tpmkms":   "a muster built with -tags tpmkms",
}

// OpenDevice names a device by its URI (RFC 7512 for PKCS#11, and alike) and the file of
// its PIN. It does not connect. Malformed: "key-uri", "key-device-unsupported" when this
// program was built without the driver, and "key-pin" when the URI holds a PIN or the file
// cannot be read.
func OpenDevice(where, pinFile string) (*Device, error) {
	u, err := uri.Parse(where)
	if err != nil || drivers[u.Scheme] == "" {
		return nil, fault.New(fault.Malformed, "key-uri", "Keys are kept in pkcs11:…, awskms:…, cloudkms:…, azurekms:… or tpmkms:…, and in files unless something is named.")
	}
	if u.Has("pin-value") || u.Has("pin-source") || u.Has("pin-prompt") {
		return nil, fault.New(fault.Malformed, "key-pin", "The PIN of the key device goes into a file that pinFile names, not into its URI.")
	}
	if _, built := kmsapi.LoadKeyManagerNewFunc(kmsapi.Type(u.Scheme)); !built {
		return nil, fault.New(fault.Malformed, "key-device-unsupported", "This program was built without %s: use %s.", u.Scheme, drivers[u.Scheme])
	}
	d := &Device{kind: u.Scheme, where: where, pin: pinFile, calls: make(chan struct{}, callsAtOnce)}
	_, err = d.readPIN()
	return d, err
}

func (d *Device) readPIN() (string, error) {
	if d.pin == "" {
		return "", nil
	}
	raw, err := os.ReadFile(d.pin)
	if err != nil {
		return "", fault.New(fault.Malformed, "key-pin", "The file with the PIN of the key device cannot be read.").About(d.pin).Because(err)
	}
	return string(bytes.TrimRight(raw, "\r\n")), nil
}

// Create implements ca.Keys. It makes a key that cannot be taken out of the device.
// "key-type-not-allowed" says that the device makes none of this type.
func (d *Device) Create(ctx context.Context, name string, kt policies.KeyType) (string, crypto.Signer, error) {
	alg, bits, ok := algorithm(kt)
	if !ok {
		return "", nil, fault.New(fault.Malformed, "key-type-not-allowed", "There are no issuer keys of the type %q.", kt)
	}
	made, err := call(d, func() (*kmsapi.CreateKeyResponse, error) {
		manager, _, err := d.connected(0)
		if err != nil {
			return nil, err
		}
		made, err := manager.CreateKey(&kmsapi.CreateKeyRequest{Name: d.nameOf(name), SignatureAlgorithm: alg, Bits: bits})
		if err != nil && strings.Contains(err.Error(), "not support") {
			err = fault.New(fault.Malformed, "key-type-not-allowed", "The key device makes no keys of the type %s.", kt).Because(err)
		}
		return made, err
	})
	if err != nil {
		return "", nil, err
	}
	uri := d.kind + ":" + strings.TrimPrefix(made.Name, d.kind+":")
	signer, err := d.Open(ctx, uri)
	return uri, signer, err
}

// nameOf is what a new key is to be called.
func (d *Device) nameOf(name string) string {
	label := "muster-" + name
	switch d.kind {
	case "pkcs11":
		return "pkcs11:id=" + name + ";object=" + label
	case "tpmkms":
		return "tpmkms:name=" + label
	case "azurekms":
		return "azurekms:name=" + label
	case "cloudkms":
		_, ring, _ := strings.Cut(strings.SplitN(d.where, "?", 2)[0], ":")
		return "cloudkms:" + strings.Trim(ring, "/") + "/cryptoKeys/" + label
	}
	return label // awskms: an alias
}

// Open implements ca.Keys. Besides Unavailable, rule "key-device-unavailable", it is
// NotFound, rule "key-missing", when the device is there and the key is not, and
// Malformed, rule "key-pin", when the device refuses the PIN: it is not tried again, as
// that would lock the device.
func (d *Device) Open(_ context.Context, uri string) (crypto.Signer, error) {
	return call(d, func() (crypto.Signer, error) {
		s := &deviceKey{device: d, uri: uri}
		err := s.find(0)
		if fault.Is(err, fault.NotFound) {
			// A module may say so of a token that was taken out: asked anew it knows.
			err = s.find(d.distrust())
		}
		return s, err
	})
}

// distrust is the connection that shall not be used again, however new it is.
func (d *Device) distrust() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried = time.Time{}
	return d.opened
}

// Problem is why the last call of the device failed; nil when it went well.
func (d *Device) Problem() error {
	if f := d.problem.Load(); f != nil {
		return f
	}
	return nil
}

// Retry connects again where the last call failed.
func (d *Device) Retry() error {
	if d.Problem() == nil {
		return nil
	}
	_, err := call(d, func() (struct{}, error) {
		d.mu.Lock()
		broken := d.opened
		d.mu.Unlock()
		_, _, err := d.connected(broken)
		return struct{}{}, err
	})
	return err
}

// Close ends the connection after the calls that are under way, or gives up on them.
func (d *Device) Close() error {
	_, err := call(d, func() (struct{}, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return struct{}{}, d.disconnect()
	})
	return err
}

func (d *Device) disconnect() error {
	if d.manager == nil {
		return nil
	}
	manager := d.manager
	d.manager = nil
	return manager.Close()
}

// connected is the connection, made where there is none or where a caller found the
// not-th one broken.
func (d *Device) connected(not int) (kmsapi.KeyManager, int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.manager != nil && d.opened != not {
		return d.manager, d.opened, nil
	}
	if d.refused != nil {
		return nil, 0, d.refused
	}
	if !d.tried.IsZero() && time.Since(d.tried) < reopenAfter {
		if d.manager != nil {
			return d.manager, d.opened, nil // it was made a moment ago: another one is no better
		}
		return nil, 0, d.failed
	}
	// What became of the broken one matters to nobody.
	_ = d.disconnect()
	d.manager, d.failed = d.connect()
	d.tried = time.Now()
	if d.failed != nil {
		d.manager = nil
		if strings.Contains(d.failed.Error(), "CKR_PIN_") {
			d.refused = fault.New(fault.Malformed, "key-pin", "The key device refuses the PIN; it is tried again after a restart.").Because(d.failed)
			return nil, 0, d.refused
		}
		return nil, 0, d.failed
	}
	d.opened++
	return d.manager, d.opened, nil
}

func (d *Device) connect() (kmsapi.KeyManager, error) {
	pin, err := d.readPIN()
	if err != nil {
		return nil, err
	}
	return kms.New(context.Background(), kmsapi.Options{URI: d.options(), Pin: pin})
}

// options is the URI that the driver is given. A key ring of Google's is part of the names
// of keys, not of the connection.
func (d *Device) options() string {
	if d.kind != "cloudkms" {
		return d.where
	}
	if _, query, found := strings.Cut(d.where, "?"); found {
		return "cloudkms:?" + query
	}
	return "cloudkms:"
}

// call runs f within the limits of a device.
func call[T any](d *Device, f func() (T, error)) (T, error) {
	var zero T
	limit := time.NewTimer(callLimit)
	defer limit.Stop()
	select {
	case d.calls <- struct{}{}:
	case <-limit.C:
		return zero, d.settle(errors.New("too many calls of the key device are under way"))
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-d.calls }()
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, d.settle(r.err)
	case <-limit.C:
		return zero, d.settle(fmt.Errorf("the key device did not answer within %s", callLimit))
	}
}

// settle remembers how a call ended, and says it as a fault.
func (d *Device) settle(err error) error {
	if err == nil {
		d.problem.Store(nil)
		return nil
	}
	known := fault.As(err)
	if known == nil {
		known = fault.New(fault.Unavailable, "key-device-unavailable", "The key device cannot be used now.").About(d.kind).Because(err)
	}
	if known.Rule != "key-missing" && known.Rule != "key-type-not-allowed" { // those are answers
		d.problem.Store(known)
	}
	return known
}
