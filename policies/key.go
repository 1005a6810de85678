package policies

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"slices"

	"github.com/passmuster/muster/internal/fault"
)

// KeyType names a kind and size of public key.
type KeyType string

// The key types a profile may allow (INV-P5).
const (
	KeyECP256  KeyType = "EC-P256"
	KeyECP384  KeyType = "EC-P384"
	KeyECP521  KeyType = "EC-P521"
	KeyEd25519 KeyType = "Ed25519"
	KeyRSA2048 KeyType = "RSA-2048"
	KeyRSA3072 KeyType = "RSA-3072"
	KeyRSA4096 KeyType = "RSA-4096"
)

var keyTypes = [...]KeyType{KeyECP256, KeyECP384, KeyECP521, KeyEd25519, KeyRSA2048, KeyRSA3072, KeyRSA4096}

// KeyTypeOf is the type of a public key as crypto/x509 parses it. A key of no type
// of ours is Malformed: "key-too-small" (RSA below 2048 bits, P-224),
// "key-size-not-allowed" (other RSA sizes), "key-malformed" (an Ed25519 key of
// another length), "key-type-not-allowed" (everything else, nil included).
func KeyTypeOf(pub any) (KeyType, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return KeyECP256, nil
		case elliptic.P384():
			return KeyECP384, nil
		case elliptic.P521():
			return KeyECP521, nil
		case elliptic.P224():
			return "", refuse("key-too-small", "the key is on the curve P-224; at least P-256 is needed")
		}
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits == 2048:
			return KeyRSA2048, nil
		case bits == 3072:
			return KeyRSA3072, nil
		case bits == 4096:
			return KeyRSA4096, nil
		case bits < 2048:
			return "", refuse("key-too-small", "the RSA key has %d bits; at least 2048 are needed", bits)
		default:
			return "", refuse("key-size-not-allowed", "the RSA key has %d bits; 2048, 3072 and 4096 are allowed", bits)
		}
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return "", refuse("key-malformed", "the Ed25519 key does not have 32 octets")
		}
		return KeyEd25519, nil
	}
	return "", refuse("key-type-not-allowed", "the key is of a kind that is not allowed")
}

// CheckKey holds a public key to INV-P5: it is of an allowed type, and sound as far
// as can be told from outside. Refusals are Malformed: those of KeyTypeOf,
// "key-not-on-curve", and for RSA "key-exponent", "key-small-factor", "key-roca" and
// "key-close-primes". The block list is not known here.
func CheckKey(allowed []KeyType, pub any) error {
	t, err := KeyTypeOf(pub)
	if err != nil {
		return err
	}
	if !slices.Contains(allowed, t) {
		return refuse("key-type-not-allowed", "the profile does not allow %s keys", t)
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if _, err := k.Bytes(); err != nil {
			return refuse("key-not-on-curve", "the key is not a point on its curve").Because(err)
		}
	case *rsa.PublicKey:
		return checkRSA(k)
	}
	return nil
}

// refuse is a refusal of what a device sent.
func refuse(rule, format string, args ...any) *fault.Error {
	return fault.New(fault.Malformed, rule, format, args...)
}
