// Package seal keeps secrets at rest: it wraps them under one key-encryption key (KEK).
//
// What it promises: nothing opens without the KEK, which lives in a file and never in
// the database (INV-K1); a ciphertext opens only for the purpose it was sealed for, so
// one moved to another row stays shut (INV-K2); a sealed value names the KEK that
// sealed it, so that two KEKs can serve side by side while rows are sealed anew
// (INV-K3). Errors never carry secrets (INV-K4).
//
// Called by whoever stores a symmetric key or another secret in a row, and by cmd,
// which keeps the KEKs in a [Shelf]. [WriteFile] is also how ca/keys writes key files.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"

	"github.com/passmuster/muster/internal/fault"
)

// idSize is the length of the KEK's name in front of every sealed value.
const idSize = 8

// KEKID is the public name of a KEK: the first bytes of everything it sealed.
type KEKID [idSize]byte

// String writes the name as file names and logs have it.
func (id KEKID) String() string { return hex.EncodeToString(id[:]) }

// Box seals secrets under one KEK, and opens those of any that it was ever given: a KEK
// that was replaced opens on for as long as the process lives. It is safe for concurrent
// use.
type Box struct {
	keys  atomic.Pointer[ring]
	adds  sync.Mutex // held by Use
	learn func()     // looks for KEKs that are not here yet; nil: there are no others
}

// ring is the KEKs of a Box. It never changes once it is published.
type ring struct {
	sealing *boxKey
	opening []*boxKey // the sealing one among them
}

// boxKey is a KEK in use.
type boxKey struct {
	id   KEKID
	aead cipher.AEAD
	mac  []byte // the key of MAC
}

// NewBox makes the Box of a KEK.
func NewBox(k KEK) *Box {
	b := &Box{}
	b.Use(k)
	return b
}

// Use seals with one KEK from now on, and opens with the others too.
func (b *Box) Use(sealing KEK, opening ...KEK) {
	b.adds.Lock()
	defer b.adds.Unlock()
	next := &ring{}
	if was := b.keys.Load(); was != nil {
		next.opening = append(next.opening, was.opening...)
	}
	for _, k := range append(opening, sealing) {
		if next.find(k.ID()) == nil {
			next.opening = append(next.opening, newBoxKey(k))
		}
	}
	next.sealing = next.find(sealing.ID())
	b.keys.Store(next)
}

func newBoxKey(k KEK) *boxKey {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		panic("internal error: AES-256: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("internal error: GCM: " + err.Error())
	}
	return &boxKey{id: k.ID(), aead: aead, mac: k.macKey()}
}

func (r *ring) find(id KEKID) *boxKey {
	for _, k := range r.opening {
		if k.id == id {
			return k
		}
	}
	return nil
}

// Sealing names the KEK that Seal uses.
func (b *Box) Sealing() KEKID { return b.keys.Load().sealing.id }

// Seal encrypts with AES-256-GCM. The result is the KEK's id (8 bytes), a random nonce
// (12), the ciphertext and its tag (16). The purpose names the one place where the
// secret belongs, "table|id|slot"; it is authenticated, not stored.
func (b *Box) Seal(purpose string, plaintext []byte) []byte {
	k := b.keys.Load().sealing
	return k.aead.Seal(k.id[:], nil, plaintext, k.bind(purpose))
}

// Open decrypts what Seal made for the same purpose. Its errors are internal faults,
// rules "sealed-by-other-key" and "sealed-value-broken": both mean that the database
// and the KEKs do not belong together, or that a row was tampered with.
func (b *Box) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < idSize {
		return nil, fault.New(fault.Internal, "sealed-value-broken", "A sealed value is too short.").About(purpose)
	}
	id := KEKID(sealed[:idSize])
	k := b.keys.Load().find(id)
	if k == nil && b.learn != nil {
		// Somebody else began to seal with a KEK that came after this process did.
		b.learn()
		k = b.keys.Load().find(id)
	}
	if k == nil {
		return nil, fault.New(fault.Internal, "sealed-by-other-key", "A secret was sealed by another key-encryption key.").About(purpose)
	}
	plaintext, err := k.aead.Open(nil, nil, sealed[idSize:], k.bind(purpose))
	if err != nil {
		return nil, fault.New(fault.Internal, "sealed-value-broken", "A sealed value does not open where it stands.").About(purpose)
	}
	return plaintext, nil
}

// bind authenticates the key id too, so that the prefix cannot be swapped.
func (k *boxKey) bind(purpose string) []byte {
	return append(k.id[:], purpose...)
}

// ID is public: it is derived one way and names the key in every sealed value.
func (k KEK) ID() KEKID {
	sum := sha256.Sum256(append([]byte("muster kek id\x00"), k.key[:]...))
	return KEKID(sum[:idSize])
}
