package device

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Folder is the device's directory:
//
//	a/ b/                       two slots, each with key.pem, cert.pem, chain.pem
//	current -> a                the slot in use
//	key.pem -> current/key.pem  and cert.pem, chain.pem alike, for people and programs
//	state.json                  what the device knows beside its credential
//	lock                        held while one process changes the folder
//
// cert.pem is the leaf alone, chain.pem the certificates above it, issuer first.
//
// A key and its certificate change together because the only step that changes the
// credential is one rename of the link `current`: the slot it points to is never
// written. Before that step the new slot is complete and synced. A crash at any
// point leaves the old credential or the new one, and the same call goes on from there.
type Folder struct {
	dir  string
	disk disk
	tpm  TPM
}

// Stored is the credential in one slot ("a" or "b"). Before the first registration
// there is a key and an empty Chain.
type Stored struct {
	Slot  string
	Key   crypto.Signer
	Chain []*x509.Certificate
}

// Leaf is the device's certificate, nil before the first registration.
func (s Stored) Leaf() *x509.Certificate {
	if len(s.Chain) == 0 {
		return nil
	}
	return s.Chain[0]
}

// Credential is what to prove oneself with: the chain without its root, which a
// server must know by itself. It is zero before the first registration.
func (s Stored) Credential() Credential {
	if len(s.Chain) == 0 {
		return Credential{}
	}
	own := &tls.Certificate{PrivateKey: s.Key, Leaf: s.Chain[0]}
	for i, c := range s.Chain {
		if i == 0 || !bytes.Equal(c.RawSubject, c.RawIssuer) {
			own.Certificate = append(own.Certificate, c.Raw)
		}
	}
	return Credential{Certificate: own}
}

const (
	pointer   = "current"
	keyFile   = "key.pem"
	certFile  = "cert.pem"
	chainFile = "chain.pem"
)

var (
	slots           = [2]string{"a", "b"}
	credentialFiles = [3]string{keyFile, certFile, chainFile}
)

// Create makes the folder (its parent must exist) with a key and no certificate. It
// fails with fs.ErrExist when the folder has a key already; after a crash it may be
// called again.
func Create(dir string, key crypto.Signer) (*Folder, error) { return create(dir, key, osDisk{}) }

func create(dir string, key crypto.Signer, d disk) (*Folder, error) {
	f := &Folder{dir: dir, disk: d}
	if err := d.Mkdir(dir); err != nil {
		return nil, fmt.Errorf("device: making the folder: %w", err)
	}
	if err := d.Sync(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("device: making the folder: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if slot, err := f.currentSlot(); err == nil {
		return nil, fmt.Errorf("device: %s has a key in slot %s: %w", dir, slot, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f, f.replace(slots[0], key, nil)
}

// Open returns the folder made by Create; fs.ErrNotExist if there is none. It does
// not read the credential: a damaged one is for Current to report and for an Agent
// to replace.
func Open(dir string) (*Folder, error) {
	f := &Folder{dir: dir, disk: osDisk{}}
	if _, err := f.currentSlot(); err != nil {
		return nil, err
	}
	return f, nil
}

// UseTPM says where keys are that the folder holds for a TPM: its key.pem is good for nothing
// without that.
func (f *Folder) UseTPM(chip TPM) { f.tpm = chip }

// Dir is the folder's path.
func (f *Folder) Dir() string { return f.dir }

// Current returns the credential in use, checked: the certificate is the key's.
func (f *Folder) Current() (Stored, error) {
	for {
		slot, err := f.currentSlot()
		if err != nil {
			return Stored{}, err
		}
		stored, err := f.read(slot)
		if again, _ := f.currentSlot(); err != nil && again != slot {
			continue // another process renewed meanwhile
		}
		return stored, err
	}
}

// Previous returns the credential before the current one, if the other slot holds a
// whole one. It lasts until the next Save begins.
func (f *Folder) Previous() (Stored, error) {
	slot, err := f.currentSlot()
	if err != nil {
		return Stored{}, err
	}
	stored, err := f.read(other(slot))
	if err == nil && len(stored.Chain) == 0 {
		err = fmt.Errorf("device: slot %s holds no certificate: %w", stored.Slot, fs.ErrNotExist)
	}
	return stored, err
}

// Save replaces the credential: key and chain (leaf first) go into the slot that is
// not in use, then that slot becomes current. After an error the old credential or
// the new one is in use; Current tells which.
func (f *Folder) Save(key crypto.Signer, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("device: no certificate to save")
	}
	if !certifies(chain[0], key) {
		return errors.New("device: the certificate is for another key")
	}
	unlock, err := lock(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	slot, err := f.currentSlot()
	if err != nil {
		return err
	}
	return f.replace(other(slot), key, chain)
}

// replace fills a slot that is not in use and makes it current. The order is the
// guarantee: all of the slot, then its name and the links, then the switch.
func (f *Folder) replace(slot string, key crypto.Signer, chain []*x509.Certificate) error {
	keyPEM, err := marshalKey(key)
	if err != nil {
		return err
	}
	contents := map[string][]byte{keyFile: keyPEM}
	if len(chain) > 0 {
		contents[certFile] = marshalCertificates(chain[:1])
		contents[chainFile] = marshalCertificates(chain[1:])
	}
	steps := []func() error{func() error { return f.disk.Mkdir(f.path(slot)) }}
	for _, name := range credentialFiles {
		steps = append(steps, func() error { return f.disk.Remove(f.path(slot, name)) })
		if data, ok := contents[name]; ok {
			steps = append(steps,
				func() error { return f.disk.Write(f.path(slot, name), data) },
				func() error { return f.link(name) })
		}
	}
	next := f.path(pointer + ".new")
	steps = append(steps,
		func() error { return f.disk.Sync(f.path(slot)) },
		func() error { return f.disk.Remove(next) },
		func() error { return f.disk.Symlink(slot, next) },
		func() error { return f.disk.Sync(f.dir) },
		func() error { return f.disk.Rename(next, f.path(pointer)) }, // from here on a crash leaves the new credential
		func() error { return f.disk.Sync(f.dir) },
	)
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("device: saving the credential: %w", err)
		}
	}
	return nil
}

// link puts a file of the current slot at the top of the folder, once.
func (f *Folder) link(name string) error {
	err := f.disk.Symlink(filepath.Join(pointer, name), f.path(name))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (f *Folder) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

func (f *Folder) currentSlot() (string, error) {
	slot, err := os.Readlink(f.path(pointer))
	if err != nil {
		return "", fmt.Errorf("device: no credential in %s: %w", f.dir, err)
	}
	if !slices.Contains(slots[:], slot) {
		return "", fmt.Errorf("device: %s points to %q, which is no slot", f.path(pointer), slot)
	}
	return slot, nil
}

func (f *Folder) read(slot string) (Stored, error) {
	stored := Stored{Slot: slot}
	text, err := os.ReadFile(f.path(slot, keyFile))
	if err != nil {
		return Stored{}, fmt.Errorf("device: %w", err)
	}
	if stored.Key, err = parseKey(text, f.tpm); err != nil {
		return Stored{}, err
	}
	for _, name := range []string{certFile, chainFile} {
		text, err := os.ReadFile(f.path(slot, name))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return Stored{}, fmt.Errorf("device: %w", err)
		}
		certs, err := parseCertificates(text)
		if err != nil {
			return Stored{}, err
		}
		if name == certFile && len(certs) != 1 {
			return Stored{}, fmt.Errorf("device: %s holds %d certificates instead of one", f.path(slot, name), len(certs))
		}
		stored.Chain = append(stored.Chain, certs...)
	}
	if len(stored.Chain) > 0 && !certifies(stored.Chain[0], stored.Key) {
		return Stored{}, fmt.Errorf("device: in slot %s the certificate is for another key", slot)
	}
	return stored, nil
}

func other(slot string) string {
	if slot == slots[0] {
		return slots[1]
	}
	return slots[0]
}

// certifies reports whether cert is for key.
func certifies(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}
