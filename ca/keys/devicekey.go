package keys

import (
	"crypto"
	"errors"
	"io"
	"strings"
	"sync"

	kmsapi "go.step.sm/crypto/kms/apiv1"

	"github.com/passmuster/muster/internal/fault"
)

// deviceKey is one key in a device. It outlives connections.
type deviceKey struct {
	device *Device
	uri    string

	mu     sync.Mutex
	public crypto.PublicKey
	signer crypto.Signer // of the connection opened
	opened int
}

// Public implements crypto.Signer.
func (k *deviceKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer, within the device's limits. A connection that fails is
// made anew once.
func (k *deviceKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return call(k.device, func() ([]byte, error) {
		signer, opened := k.current()
		signature, err := signer.Sign(random, digest, opts)
		if err == nil {
			return signature, nil
		}
		switch again := k.find(opened); {
		case fault.Is(again, fault.NotFound):
			return nil, errors.New("the key is no longer in the key device") // which may be another one for now
		case again != nil:
			return nil, again
		}
		signer, _ = k.current()
		return signer.Sign(random, digest, opts)
	})
}

func (k *deviceKey) current() (crypto.Signer, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.signer, k.opened
}

// find looks the key up over another connection than the not-th.
func (k *deviceKey) find(not int) error {
	manager, opened, err := k.device.connected(not)
	if err != nil {
		return err
	}
	signer, err := manager.CreateSigner(&kmsapi.CreateSignerRequest{SigningKey: k.uri})
	if err != nil && strings.Contains(err.Error(), "not found") { // an error without a type
		return fault.New(fault.NotFound, "key-missing", "The key is not in the key device.").About(k.uri).Because(err)
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.public == nil {
		k.public = signer.Public()
	} else if !k.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
		return fault.New(fault.Conflict, "issuer-key-mismatch", "Another key is now in the key's place.").About(k.uri)
	}
	k.signer, k.opened = signer, opened
	return nil
}
