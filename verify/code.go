package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"io"
	"strings"
	"time"
)

// CodePrefix begins every one-time code, so that secret scanners find it. No key in
// base64 begins like this.
const CodePrefix = "mec_"

// CodeHash stands for a one-time enrollment code: the SHA-256 of its text. The text has
// 128 random bits, so that nothing slower is needed.
type CodeHash [sha256.Size]byte

// codeLetters is Crockford's alphabet in lower case: nothing in it is read for another.
var codeLetters = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

const codeRandom = 16 // octets; INV-T2 asks for random, INV-V1 for 128 bits

// NewCode makes a one-time code. The text is for its owner and kept nowhere. An error is
// that of the random source.
func NewCode(random io.Reader) (text string, h CodeHash, err error) {
	var b [codeRandom]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", h, err
	}
	text = CodePrefix + codeLetters.EncodeToString(b[:])
	return text, sha256.Sum256([]byte(text)), nil
}

// asTyped makes of a code that somebody has typed what was shown: case and dashes do not
// count, and letters that are none of the alphabet's are the digits they look like.
var asTyped = strings.NewReplacer("-", "", " ", "", "o", "0", "i", "1", "l", "1")

// ParseCode reads a code as a person may have typed it; false for what cannot be one.
func ParseCode(text string) (h CodeHash, is bool) {
	const longest = 64
	if len(text) > longest {
		return h, false
	}
	letters, is := strings.CutPrefix(strings.ToLower(strings.TrimSpace(text)), CodePrefix)
	letters = asTyped.Replace(letters)
	if b, err := codeLetters.DecodeString(letters); !is || err != nil || len(b) != codeRandom {
		return h, false
	}
	return sha256.Sum256([]byte(CodePrefix + letters)), true
}

// IsZero reports whether there is no code.
func (h CodeHash) IsZero() bool { return h == CodeHash{} }

// Name is how operators and the ledger call a code: the start of its hash, which tells
// nothing of its text.
func (h CodeHash) Name() string { return hex.EncodeToString(h[:8]) }

// KeptCode is what is on record of a code.
type KeptCode struct {
	Hash    CodeHash
	ID      RegistrationID // the one device it is for
	Expires time.Time
	UsedAt  time.Time // zero: not spent
}

// CodeEvidence is a code with the registration id the client says it is. Repeats is
// when a request was answered that this one repeats octet by octet; zero if none was.
type CodeEvidence struct {
	ID      RegistrationID
	Code    CodeHash
	Repeats time.Time
}

// Code makes an identity of a one-time code, which stands for an operator who has
// vouched for the device. It is good for one device and until it expires; a spent one
// is good for nothing but the very request it was spent on. That it is spent once has to
// be seen to by whoever issues. Refusals are Unauthenticated with rule "code-…".
func Code(ev CodeEvidence, kept KeptCode, now time.Time) (Identity, error) {
	switch {
	case subtle.ConstantTimeCompare(ev.Code[:], kept.Hash[:]) != 1 || kept.Hash.IsZero():
		return Identity{}, refuse("code-unknown", "There is no such one-time code.")
	case ev.ID.IsZero() || ev.ID != kept.ID:
		return Identity{}, refuse("code-for-other-device", "The one-time code is another device's.")
	case !kept.UsedAt.IsZero() && !kept.UsedAt.Equal(ev.Repeats):
		return Identity{}, refuse("code-spent", "The one-time code was used at %s.", stamp(kept.UsedAt))
	case kept.UsedAt.IsZero() && !now.Before(kept.Expires):
		return Identity{}, refuse("code-expired", "The one-time code expired at %s.", stamp(kept.Expires))
	}
	return Identity{id: ev.ID, mechanism: MechanismCode, at: now}, nil
}
