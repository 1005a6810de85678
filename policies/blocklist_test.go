package policies

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
)

func hashOf(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }

func line(s string) string { h := hashOf(s); return hex.EncodeToString(h[:]) }

func TestABlockListRefusesTheKeysItNames(t *testing.T) {
	// The modulus of a line of Debian's list is hashed as openssl prints it.
	weak := &rsa.PublicKey{N: big.NewInt(0xABCD), E: 65537}
	const weakLine = "a0677fa162dd3c68d49c" // printf 'Modulus=ABCD\n' | sha1sum | cut -c21-40
	b, err := ReadBlockList(strings.NewReader(strings.Join([]string{
		"# leaked in March", "", line("a") + " # a gateway", "\t" + line("b") + "\r", line("a"), weakLine,
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if b.Len() != 3 {
		t.Errorf("%d keys, want 3: one is named twice", b.Len())
	}
	other := &rsa.PublicKey{N: big.NewInt(0xABCF), E: 65537}
	for name, c := range map[string]struct {
		hash [sha256.Size]byte
		pub  any
		rule string
	}{
		"the first":                    {hashOf("a"), nil, "key-blocked"},
		"the last":                     {hashOf("b"), nil, "key-blocked"},
		"another":                      {hashOf("c"), nil, ""},
		"an RSA key by its modulus":    {hashOf("c"), weak, "key-blocked"},
		"an RSA key of another number": {hashOf("c"), other, ""},
	} {
		if err := b.Check(c.hash, c.pub); fault.RuleOf(err) != c.rule {
			t.Errorf("%s: %v, want rule %q", name, err, c.rule)
		}
	}
	var none *BlockList
	if none.Len() != 0 || none.Check(hashOf("a"), weak) != nil {
		t.Error("no list blocks something")
	}
}

func TestABlockListSaysWhichLineIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"hello":                                      "line 1 ",
		line("a") + "\n" + line("b")[1:]:             "line 2 ",
		"#\n\n" + strings.ToUpper(line("a")):         "line 3 ",
		line("a") + " " + line("b"):                  "line 1 ",
		line("a") + "\n" + strings.Repeat("a", 5000): "line 2 ",
	} {
		_, err := ReadBlockList(strings.NewReader(text))
		if fault.RuleOf(err) != "block-list" || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadBlockList(f *testing.F) {
	f.Add(line("a") + "\n# b\n" + line("c"))
	f.Add("0123456789abcdef0123")
	f.Add("\r\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ReadBlockList(strings.NewReader(text))
		if (err == nil) == (b == nil) {
			t.Fatalf("list %v, error %v", b, err)
		}
		if err == nil {
			for _, key := range b.keys {
				if b.Check(key, nil) == nil {
					t.Errorf("%x is on the list and passes", key)
				}
			}
		}
	})
}
