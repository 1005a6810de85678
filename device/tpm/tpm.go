package tpm

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// The handles of Azure's clients, and one of our own beside them.
const (
	endorsementHandle = tpm2.TPMHandle(0x81010001)
	storageHandle     = tpm2.TPMHandle(0x81000001)
	identityHandle    = tpm2.TPMHandle(0x81000100) // the key that the provisioning service gave
)

// TPM is an open TPM. It is safe for concurrent use, but others had best not have it open.
type TPM struct {
	mu        sync.Mutex // one command at a time
	transport transport.TPMCloser
	ek, srk   *object
}

// object is a key that the TPM keeps.
type object struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public []byte // TPM2B_PUBLIC
}

// auth uses the key with its password, which is empty.
func (o *object) auth(s ...tpm2.Session) tpm2.AuthHandle {
	session := tpm2.PasswordAuth(nil)
	if len(s) > 0 {
		session = s[0]
	}
	return tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: session}
}

// Open opens a TPM: a device such as /dev/tpmrm0, or the unix socket of swtpm. Its
// endorsement key and storage root key are made if they are not there.
func Open(path string) (*TPM, error) { return OpenAs(path, tpm2.RSAEKTemplate) }

// OpenAs is Open with a template of the endorsement key, should it have to be made.
func OpenAs(path string, endorsement tpm2.TPMTPublic) (*TPM, error) {
	opened, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the TPM %s: %w", path, err)
	}
	t := &TPM{transport: opened}
	if t.ek, err = t.keep(endorsementHandle, tpm2.TPMRHEndorsement, endorsement); err == nil {
		t.srk, err = t.keep(storageHandle, tpm2.TPMRHOwner, tpm2.RSASRKTemplate)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close lets others have the TPM.
func (t *TPM) Close() error { return t.transport.Close() }

// EndorsementKey is who the TPM is, a TPM2B_PUBLIC.
func (t *TPM) EndorsementKey() []byte { return t.ek.public }

// StorageRootKey is what imported keys are kept under, a TPM2B_PUBLIC.
func (t *TPM) StorageRootKey() []byte { return t.srk.public }

// RegistrationID is the one that Azure's clients give a TPM that has no other.
func (t *TPM) RegistrationID() string {
	sum := sha256.Sum256(t.ek.public)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// keep finds a key at its handle, or makes it there in a hierarchy.
func (t *TPM) keep(at, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) (*object, error) {
	if o, err := t.find(at); err == nil || !errors.Is(err, errAbsent) {
		return o, err
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(t.transport)
	if err != nil {
		return nil, fmt.Errorf("making the key %#x: %w", uint32(at), err)
	}
	defer t.flush(made.ObjectHandle)
	if err := t.persist(at, made.ObjectHandle, made.Name); err != nil {
		return nil, err
	}
	return t.find(at)
}

var errAbsent = errors.New("the TPM holds no such key")

// find reads the key at a handle; errAbsent if there is none.
func (t *TPM) find(at tpm2.TPMHandle) (*object, error) {
	read, err := tpm2.ReadPublic{ObjectHandle: at}.Execute(t.transport)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key %#x: %w", uint32(at), err)
	}
	return &object{at, read.Name, tpm2.Marshal(read.OutPublic)}, nil
}

// persist has the TPM keep a loaded key at a handle, in place of what is there.
func (t *TPM) persist(at, loaded tpm2.TPMHandle, name tpm2.TPM2BName) error {
	if err := t.forget(at); err != nil {
		return err
	}
	_, err := tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: loaded, Name: name}, PersistentHandle: at}.Execute(t.transport)
	if err != nil {
		return fmt.Errorf("keeping the key %#x: %w", uint32(at), err)
	}
	return nil
}

// forget takes away what the TPM keeps at a handle.
func (t *TPM) forget(at tpm2.TPMHandle) error {
	o, err := t.find(at)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err == nil {
		_, err = tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: at, Name: o.name}, PersistentHandle: at}.Execute(t.transport)
	}
	return err
}

// flush makes room again. What fails here fails at the next command.
func (t *TPM) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(t.transport)
}
