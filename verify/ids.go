package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// maxRegistrationID is Azure's limit, in characters (protocols/dps.md, section 1).
const maxRegistrationID = 128

// RegistrationID names one device within an id scope. It holds the canonical lower
// case spelling, is valid by construction and may be compared with ==. The zero
// value names nobody.
type RegistrationID struct{ key string }

// ParseRegistrationID reads an id as INV-P3 has it: 1 to 128 letters, digits and
// "-._:", the last one a letter, digit or "-", and not the reserved word "query".
// A bad id is Malformed with rule "registration-id".
func ParseRegistrationID(s string) (RegistrationID, error) {
	if why := badRegistrationID(s); why != "" {
		return RegistrationID{}, fault.New(fault.Malformed, "registration-id", "%s", why)
	}
	return RegistrationID{key: lowerASCII(s)}, nil
}

func badRegistrationID(s string) string {
	if s == "" {
		return "The registration id is empty."
	}
	if len(s) > maxRegistrationID {
		return "The registration id is longer than 128 characters."
	}
	for i := range len(s) {
		if !isLetterOrDigit(s[i]) && !strings.ContainsRune("-._:", rune(s[i])) {
			return "A registration id has only letters, digits and the characters - . _ :"
		}
	}
	if last := s[len(s)-1]; !isLetterOrDigit(last) && last != '-' {
		return "A registration id ends with a letter, a digit or a dash."
	}
	if lowerASCII(s) == "query" {
		return "The word \"query\" is reserved and cannot be a registration id."
	}
	return ""
}

// String is the canonical spelling, lower case.
func (id RegistrationID) String() string { return id.key }

// Matches reports whether spelled names the same device: ids are compared without
// regard to ASCII case (INV-P3).
func (id RegistrationID) Matches(spelled string) bool {
	return !id.IsZero() && len(spelled) == len(id.key) && lowerASCII(spelled) == id.key
}

// IsZero reports whether the id names nobody.
func (id RegistrationID) IsZero() bool { return id.key == "" }

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// lowerASCII leaves everything but A to Z alone: Unicode folding would make the
// Kelvin sign a "k".
func lowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			lower := []byte(s)
			for j := i; j < len(lower); j++ {
				if 'A' <= lower[j] && lower[j] <= 'Z' {
					lower[j] += 'a' - 'A'
				}
			}
			return string(lower)
		}
	}
	return s
}

// Thumbprint is the SHA-256 of a certificate's DER.
type Thumbprint [sha256.Size]byte

// ThumbprintOf hashes a certificate's DER.
func ThumbprintOf(der []byte) Thumbprint { return sha256.Sum256(der) }

// ParseThumbprint reads 64 hex digits of either case; colons and spaces, as tools
// print them, are passed over. A bad one is Malformed with rule "thumbprint".
func ParseThumbprint(s string) (Thumbprint, error) {
	const longest = 3 * 2 * sha256.Size // generous: a separator and a space for each octet
	var t Thumbprint
	digits := ""
	if len(s) <= longest {
		digits = strings.NewReplacer(":", "", " ", "").Replace(s)
	}
	if len(digits) != 2*len(t) {
		return Thumbprint{}, fault.New(fault.Malformed, "thumbprint", "A SHA-256 thumbprint has 64 hex digits.")
	}
	if _, err := hex.Decode(t[:], []byte(digits)); err != nil {
		return Thumbprint{}, fault.New(fault.Malformed, "thumbprint", "A thumbprint has only hex digits.")
	}
	return t, nil
}

// String is 64 lower case hex digits.
func (t Thumbprint) String() string { return hex.EncodeToString(t[:]) }

// IsZero reports whether no certificate is meant.
func (t Thumbprint) IsZero() bool { return t == Thumbprint{} }

// KeyHash is the SHA-256 of a public key's DER SubjectPublicKeyInfo.
type KeyHash [sha256.Size]byte

// KeyHashOf hashes a DER SubjectPublicKeyInfo.
func KeyHashOf(rawSPKI []byte) KeyHash { return sha256.Sum256(rawSPKI) }

// String is 64 lower case hex digits.
func (h KeyHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether no key is meant.
func (h KeyHash) IsZero() bool { return h == KeyHash{} }
