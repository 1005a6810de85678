// Package seal keeps secrets at rest: it wraps them under one key-encryption key (KEK).
//
// What it promises: nothing opens without the KEK, which lives in a file and never in
// the database (INV-K1); a ciphertext opens only for the purpose it was sealed for, so
// one moved to another row stays shut (INV-K2); a sealed value names the KEK that
// sealed it, so that two KEKs can serve side by side while rows are sealed anew
// (INV-K3). Errors never carry secrets (INV-K4).
//
// Called by whoever stores a symmetric key or another secret in a row, and by cmd,
// which makes and loads the KEK. [WriteFile] is also how ca/keys writes key files.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/passmuster/muster/internal/fault"
)

// idSize is the length of the KEK's name in front of every sealed value.
const idSize = 8

// Box seals and opens secrets under one KEK. It is safe for concurrent use.
type Box struct {
	id   [idSize]byte
	aead cipher.AEAD
	mac  []byte // the key of MAC
}

// NewBox makes the Box of a KEK.
func NewBox(k KEK) *Box {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		panic("internal error: AES-256: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("internal error: GCM: " + err.Error())
	}
	return &Box{id: k.id(), aead: aead, mac: k.macKey()}
}

// Seal encrypts with AES-256-GCM. The result is the KEK's id (8 bytes), a random nonce
// (12), the ciphertext and its tag (16). The purpose names the one place where the
// secret belongs, "table|id|slot"; it is authenticated, not stored.
func (b *Box) Seal(purpose string, plaintext []byte) []byte {
	return b.aead.Seal(b.id[:], nil, plaintext, b.bind(purpose))
}

// Open decrypts what Seal made for the same purpose. Its errors are internal faults,
// rules "sealed-by-other-key" and "sealed-value-broken": both mean that the database
// and the KEK do not belong together, or that a row was tampered with.
func (b *Box) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < idSize {
		return nil, fault.New(fault.Internal, "sealed-value-broken", "A sealed value is too short.").About(purpose)
	}
	if subtle.ConstantTimeCompare(sealed[:idSize], b.id[:]) != 1 {
		return nil, fault.New(fault.Internal, "sealed-by-other-key", "A secret was sealed by another key-encryption key.").About(purpose)
	}
	plaintext, err := b.aead.Open(nil, nil, sealed[idSize:], b.bind(purpose))
	if err != nil {
		return nil, fault.New(fault.Internal, "sealed-value-broken", "A sealed value does not open where it stands.").About(purpose)
	}
	return plaintext, nil
}

// bind authenticates the key id too, so that the prefix cannot be swapped.
func (b *Box) bind(purpose string) []byte {
	return append(b.id[:], purpose...)
}

// id is public: it is derived one way and names the key in every sealed value.
func (k KEK) id() [idSize]byte {
	sum := sha256.Sum256(append([]byte("muster kek id\x00"), k.key[:]...))
	return [idSize]byte(sum[:idSize])
}
