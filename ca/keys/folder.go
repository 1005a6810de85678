// Package keys keeps the private keys of issuers in files.
//
// A key file is PKCS#8 in PEM with mode 0600, encrypted where there is a passphrase,
// durable before its key signs anything, and never replaced. No URI holds an absolute
// path, so a folder can move. No key and no passphrase appears in an error (INV-K4).
//
// cmd makes a [Folder] or a [Handout] and gives it to ca, whose Keys they satisfy.
package keys

import (
	"context"
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

const scheme = "softkms:"

// Folder keeps keys in one folder, each as NAME.pem. Its URIs are "softkms:NAME.pem".
type Folder struct {
	dir        string
	passphrase []byte
}

// OpenFolder makes the folder (mode 0700) where there is none. One passphrase encrypts
// all keys; an empty one leaves them plain, which is for development.
func OpenFolder(dir string, passphrase []byte) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Folder{dir: dir, passphrase: passphrase}, nil
}

// Create implements ca.Keys. A name that is taken is fault.Conflict, rule "file-exists".
func (f *Folder) Create(_ context.Context, name string, kt policies.KeyType) (uri string, signer crypto.Signer, err error) {
	uri = scheme + name + ".pem"
	path, err := f.path(uri)
	if err != nil {
		return "", nil, err
	}
	if signer, err = create(path, f.passphrase, kt); err != nil {
		return "", nil, err
	}
	return uri, signer, nil
}

// Open implements ca.Keys. Rules: "key-uri" (not a URI of ours), "key-missing"
// (fault.NotFound), "key-passphrase" and "key-damaged".
func (f *Folder) Open(_ context.Context, uri string) (crypto.Signer, error) {
	path, err := f.path(uri)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "key-missing", "The key file is not there.").About(uri)
	}
	if err != nil {
		return nil, err
	}
	signer, err := read(data, f.passphrase)
	if known := fault.As(err); known != nil {
		return nil, known.About(uri)
	}
	return signer, err
}

// path keeps a URI, which comes out of a row, inside the folder (threat A8).
func (f *Folder) path(uri string) (string, error) {
	file, ok := strings.CutPrefix(uri, scheme)
	if !ok || filepath.Ext(file) != ".pem" || strings.HasPrefix(file, ".") || strings.ContainsAny(file, `/\`) {
		return "", fault.New(fault.Malformed, "key-uri", "A key is named softkms:NAME.pem, without folders.").About(uri)
	}
	return filepath.Join(f.dir, file), nil
}
