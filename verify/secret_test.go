package verify

import (
	"crypto/sha256"
	"testing"
)

func TestTheHashOfAKeyNamesItAndNothingElse(t *testing.T) {
	key, other := NewSecret([]byte("0123456789abcdef")), NewSecret([]byte("0123456789abcdeg"))
	if key.Hash() != NewSecret([]byte("0123456789abcdef")).Hash() || key.Hash() == other.Hash() {
		t.Error("two keys have one hash, or one has two")
	}
	if key.Hash() == sha256.Sum256([]byte("0123456789abcdef")) || key.Hash() == KeyHashOf([]byte("0123456789abcdef")) {
		t.Error("the hash is that of the bytes alone: a certificate's key could have it")
	}
	if !(Secret{}).Hash().IsZero() || !NewSecret(nil).Hash().IsZero() {
		t.Error("no key has a hash")
	}
}
