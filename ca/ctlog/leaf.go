package ctlog

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/crypto/cryptobyte"

	"github.com/passmuster/muster/internal/audit"
)

// A leaf of the ledger's log is one ledger row, big-endian, lengths in front:
//
//	uint8  version = 1
//	uint64 seq
//	uint64 at, microseconds since 1970 UTC; 0 for none
//	opaque actor<0..2^16-1>, action<0..2^16-1>, subject<0..2^16-1>
//	uint8  form of the body: 0 = itself, 1 = its SHA-256
//	opaque body<0..2^24-1>
//
// A bundle has it behind its own length in two bytes (C2SP tlog-tiles), which is why a
// long body stands there by its hash.
const leafVersion = 1

const (
	bodyItself = 0
	bodyHashed = 1
	longBody   = 32 << 10
)

// maxName keeps a leaf below 64 KiB, whatever somebody wrote into the table by hand.
const maxName = 8 << 10

var errLeaf = errors.New("it is no leaf of a ledger's log")

// Leaf is a ledger row as the log has it.
type Leaf struct {
	audit.Entry
	// BodyHash stands for a Body too long for a leaf; zero otherwise.
	BodyHash [sha256.Size]byte
}

// encodeLeaf is the one encoding of a row.
func encodeLeaf(e audit.Entry) ([]byte, error) {
	if len(e.Actor) > maxName || len(e.Action) > maxName || len(e.Subject) > maxName {
		return nil, errors.New("a name in the row is too long for a leaf")
	}
	var b cryptobyte.Builder
	b.AddUint8(leafVersion)
	b.AddUint64(uint64(e.Seq))
	b.AddUint64(uint64(micros(e.At)))
	for _, text := range []string{e.Actor, string(e.Action), e.Subject} {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
	}
	body := e.Body
	if len(body) > longBody {
		sum := sha256.Sum256(body)
		b.AddUint8(bodyHashed)
		body = sum[:]
	} else {
		b.AddUint8(bodyItself)
	}
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(body) })
	return b.Bytes()
}

// parseLeaf reads what encodeLeaf wrote, and nothing else.
func parseLeaf(data []byte) (Leaf, error) {
	var l Leaf
	s := cryptobyte.String(data)
	var version, form uint8
	var seq, at uint64
	var actor, action, subject, body cryptobyte.String
	if !s.ReadUint8(&version) || version != leafVersion || !s.ReadUint64(&seq) || !s.ReadUint64(&at) ||
		!s.ReadUint16LengthPrefixed(&actor) || !s.ReadUint16LengthPrefixed(&action) || !s.ReadUint16LengthPrefixed(&subject) ||
		!s.ReadUint8(&form) || !s.ReadUint24LengthPrefixed(&body) || !s.Empty() {
		return Leaf{}, errLeaf
	}
	l.Seq = int64(seq)
	if at != 0 {
		l.At = time.UnixMicro(int64(at)).UTC()
	}
	l.Actor, l.Action, l.Subject = string(actor), audit.Action(action), string(subject)
	switch {
	case form == bodyItself:
		l.Body = body
	case form == bodyHashed && len(body) == sha256.Size:
		copy(l.BodyHash[:], body)
	default:
		return Leaf{}, errLeaf
	}
	return l, nil
}

func hashLeaf(leaf []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(leaf) }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// issuing is what the body of an issuing's row says.
type issuing struct{ Issuer, Serial, SHA256 string }

func issuingOf(e audit.Entry) (issuing, bool) {
	var f issuing
	if e.Action != audit.Issued || json.Unmarshal(e.Body, &f) != nil || f.Serial == "" {
		return f, false
	}
	f.Serial, f.SHA256 = strings.ToLower(f.Serial), strings.ToLower(f.SHA256)
	return f, true
}

// Issues reports whether the leaf tells of the issuing of a certificate, named by its
// issuer, serial and SHA-256 in lower-case hex.
func (l Leaf) Issues(issuer, serial, sha256 string) bool {
	f, is := issuingOf(l.Entry)
	return is && f == issuing{issuer, serial, sha256}
}
