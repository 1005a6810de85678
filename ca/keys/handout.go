package keys

import (
	"context"
	"crypto"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Handout writes one key to a file that its owner takes away: the root's, whose key
// does not stay on this host.
type Handout struct {
	path       string
	passphrase []byte
}

// HandOut names the file, which must not exist, and the passphrase that encrypts it.
// No passphrase, no handout: fault.Malformed, rule "key-passphrase".
func HandOut(path string, passphrase []byte) (*Handout, error) {
	if len(passphrase) == 0 {
		return nil, fault.New(fault.Malformed, "key-passphrase", "A key that leaves this host needs a passphrase.").About(path)
	}
	return &Handout{path: path, passphrase: passphrase}, nil
}

// Create implements ca.Keys: the key is durable in the file, and its URI is empty.
func (h *Handout) Create(_ context.Context, _ string, kt policies.KeyType) (string, crypto.Signer, error) {
	signer, err := create(h.path, h.passphrase, kt)
	return "", signer, err
}

// Open implements ca.Keys. What was handed out is not here to be opened.
func (h *Handout) Open(_ context.Context, uri string) (crypto.Signer, error) {
	return nil, fault.New(fault.NotFound, "key-missing", "The key was handed out and is not kept here.").About(uri)
}
