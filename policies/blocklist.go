package policies

import (
	"bufio"
	"bytes"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/passmuster/muster/internal/fault"
)

// BlockList is a set of public keys that get no certificate (INV-P5): leaked ones, and
// those of broken generators. A nil list is empty. It never changes once it is read.
type BlockList struct {
	keys   [][sha256.Size]byte // sorted
	moduli []modulus           // sorted
}

// modulus is what Debian's lists of weak keys name an RSA key by: the last 10 octets of
// the SHA-1 of the line "Modulus=" and its modulus in upper-case hex, as openssl prints it.
type modulus [10]byte

const maxBlockListLine = 1024

// ReadBlockList reads a list of blocked keys. A line holds the SHA-256 of a key's
// SubjectPublicKeyInfo, 64 lower-case hex digits, or 20 of them as in the files of Debian's
// package openssl-blacklist (RSA keys only). Empty lines, and what follows a #, do not
// count. What is wrong is Malformed, "block-list", and names the line.
func ReadBlockList(r io.Reader) (*BlockList, error) {
	b := new(BlockList)
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxBlockListLine), maxBlockListLine)
	n := 0
	for lines.Scan() {
		n++
		line, _, _ := bytes.Cut(lines.Bytes(), []byte{'#'})
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if !b.add(line) {
			return nil, fault.New(fault.Malformed, "block-list", "line %d of the block list is not a SHA-256 in 64 lower-case hex digits, nor 20 digits of openssl-blacklist", n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fault.New(fault.Malformed, "block-list", "line %d of the block list cannot be read", n+1).Because(err)
	}
	slices.SortFunc(b.keys, func(x, y [sha256.Size]byte) int { return bytes.Compare(x[:], y[:]) })
	slices.SortFunc(b.moduli, func(x, y modulus) int { return bytes.Compare(x[:], y[:]) })
	b.keys, b.moduli = slices.Compact(b.keys), slices.Compact(b.moduli)
	return b, nil
}

func (b *BlockList) add(line []byte) bool {
	if bytes.ContainsFunc(line, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }) {
		return false
	}
	var key [sha256.Size]byte
	var m modulus
	switch len(line) {
	case 2 * len(key):
		_, _ = hex.Decode(key[:], line) // nothing but digits
		b.keys = append(b.keys, key)
	case 2 * len(m):
		_, _ = hex.Decode(m[:], line)
		b.moduli = append(b.moduli, m)
	default:
		return false
	}
	return true
}

// Len is how many keys the list names.
func (b *BlockList) Len() int {
	if b == nil {
		return 0
	}
	return len(b.keys) + len(b.moduli)
}

// Check refuses a key on the list: Malformed, "key-blocked". hash is the SHA-256 of the
// key's SubjectPublicKeyInfo.
func (b *BlockList) Check(hash [sha256.Size]byte, pub any) error {
	if b == nil {
		return nil
	}
	_, blocked := slices.BinarySearchFunc(b.keys, hash, func(x, y [sha256.Size]byte) int { return bytes.Compare(x[:], y[:]) })
	if key, ok := pub.(*rsa.PublicKey); ok && !blocked && len(b.moduli) > 0 {
		sum := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", key.N))
		_, blocked = slices.BinarySearchFunc(b.moduli, modulus(sum[len(sum)-len(modulus{}):]), func(x, y modulus) int { return bytes.Compare(x[:], y[:]) })
	}
	if blocked {
		return refuse("key-blocked", "the key is on the list of blocked keys; make a new one")
	}
	return nil
}
