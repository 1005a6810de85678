package ceremony

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"github.com/passmuster/muster/internal/fault"
)

// minPassphrase is the least length of what one person enters, in octets: each half
// has to stand alone against whoever knows the other.
const minPassphrase = 12

// People took part. A holder enters a passphrase, alone or one of several that are all
// needed; a witness watches.
type People struct {
	Holders   []string `json:"holders"`
	Witnesses []string `json:"witnesses"`
}

// Check wants one holder at least and names that tell everybody apart. Malformed, rule
// "ceremony-people".
func (p People) Check() error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Malformed, "ceremony-people", format, args...)
	}
	if len(p.Holders) == 0 {
		return bad("A ceremony names who enters the passphrase.")
	}
	seen := map[string]bool{}
	for _, name := range append(append([]string{}, p.Holders...), p.Witnesses...) {
		if strings.TrimSpace(name) != name || name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return bad("A person's name has 1 to 100 printable characters.")
		}
		if key := strings.ToLower(name); seen[key] {
			return bad("%s is named twice: each role is a person's own.", name)
		} else {
			seen[key] = true
		}
	}
	return nil
}

// JoinPassphrases makes the key's passphrase of what each holder enters, in their order.
// One person's is taken as it is. Those of several are written one after the other as
// netstrings, LENGTH:OCTETS, with LENGTH in decimal, so that any tool can open the key
// when all are there:
//
//	17:first one's words,18:second one's words,
//
// Malformed, rules "passphrase" (shorter than 12 octets) and "passphrase-repeated".
func JoinPassphrases(entered [][]byte) ([]byte, error) {
	var joined []byte
	for i, one := range entered {
		if len(one) < minPassphrase {
			return nil, fault.New(fault.Malformed, "passphrase", "Each passphrase has at least %d characters.", minPassphrase)
		}
		for _, other := range entered[:i] {
			if bytes.Equal(one, other) {
				return nil, fault.New(fault.Malformed, "passphrase-repeated", "Two people entered one passphrase: each needs their own.")
			}
		}
		joined = fmt.Appendf(joined, "%d:%s,", len(one), one)
	}
	if len(entered) == 1 {
		return entered[0], nil
	}
	return joined, nil
}
