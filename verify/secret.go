package verify

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"slices"
)

const hidden = "[secret]"

// Secret is a symmetric key's raw bytes. Whatever prints or logs it gets "[secret]"
// (INV-K4); the bytes sit in a closure because fmt asks no method of a value in an
// unexported field and follows pointers. The zero value is no key: nothing verifies
// under it.
type Secret struct{ bytes func() []byte }

// NewSecret copies the bytes of a key.
func NewSecret(key []byte) Secret {
	copied := slices.Clone(key)
	return Secret{bytes: func() []byte { return copied }}
}

// Reveal returns a copy of the bytes: the one way to them, so that every use can be
// found by its name.
func (s Secret) Reveal() []byte { return slices.Clone(s.raw()) }

// IsZero reports whether there is no key.
func (s Secret) IsZero() bool { return len(s.raw()) == 0 }

// Equal compares two keys in constant time, without telling their lengths; no key
// equals nothing, not even another absent one.
func (s Secret) Equal(other Secret) bool {
	a, b := sha256.Sum256(s.raw()), sha256.Sum256(other.raw())
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && !s.IsZero()
}

// Hash names a key where it must not stand itself: SHA-256 of a text that no certificate's
// key begins with, and the key. No key has the zero hash.
func (s Secret) Hash() KeyHash {
	if s.IsZero() {
		return KeyHash{}
	}
	return sha256.Sum256(append([]byte("muster symmetric key\x00"), s.raw()...))
}

func (s Secret) String() string { return hidden }

// GoString keeps %#v quiet.
func (s Secret) GoString() string { return hidden }

// Format keeps the verbs that ask no Stringer quiet, such as %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue keeps structured logs quiet.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

func (s Secret) raw() []byte {
	if s.bytes == nil {
		return nil
	}
	return s.bytes()
}

// DeriveKey is the key of one device of a symmetric-key group: HMAC-SHA256 of the
// registration id as the device spells it, under the group key
// (protocols/dps.md, section 2.4). No group key derives no key.
func DeriveKey(group Secret, spelled string) Secret {
	if group.IsZero() {
		return Secret{}
	}
	return NewSecret(mac(group, spelled))
}

func mac(key Secret, text string) []byte {
	h := hmac.New(sha256.New, key.raw())
	h.Write([]byte(text))
	return h.Sum(nil)
}
