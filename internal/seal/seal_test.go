package seal

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/passmuster/muster/internal/fault"
)

// cheapN keeps scrypt out of the test's time; one test pays the real price.
const cheapN = 1 << 4

func newKEK(t testing.TB) KEK {
	t.Helper()
	k, err := createKEK(filepath.Join(t.TempDir(), "kek.pem"), nil, cheapN)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestASealedSecretOpensOnlyWhereItBelongs(t *testing.T) {
	kek := newKEK(t)
	box := NewBox(kek)
	const purpose = "enrollment_credentials|dev-1|primary"
	secret := []byte("the primary key")
	sealed := box.Seal(purpose, secret)

	flipped := func(i int) []byte {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		return b
	}
	tests := map[string]struct {
		box     *Box
		purpose string
		sealed  []byte
		rule    string
	}{
		"in its place":                   {box, purpose, sealed, ""},
		"by a box made of the same KEK":  {NewBox(kek), purpose, sealed, ""},
		"moved to the other slot":        {box, "enrollment_credentials|dev-1|secondary", sealed, "sealed-value-broken"},
		"moved to another row":           {box, "enrollment_credentials|dev-2|primary", sealed, "sealed-value-broken"},
		"by another KEK":                 {NewBox(newKEK(t)), purpose, sealed, "sealed-by-other-key"},
		"with a bit of the key id off":   {box, purpose, flipped(0), "sealed-by-other-key"},
		"with a bit of the nonce off":    {box, purpose, flipped(idSize), "sealed-value-broken"},
		"with a bit of the secret off":   {box, purpose, flipped(idSize + 12), "sealed-value-broken"},
		"with a bit of the tag off":      {box, purpose, flipped(len(sealed) - 1), "sealed-value-broken"},
		"cut short by one byte":          {box, purpose, sealed[:len(sealed)-1], "sealed-value-broken"},
		"cut down to the key id":         {box, purpose, sealed[:idSize], "sealed-value-broken"},
		"when it is shorter than the id": {box, purpose, sealed[:3], "sealed-value-broken"},
		"when there is nothing":          {box, purpose, nil, "sealed-value-broken"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.box.Open(tt.purpose, tt.sealed)
			if fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
			if tt.rule == "" && !bytes.Equal(got, secret) {
				t.Fatalf("opened to %q", got)
			}
			if tt.rule != "" && got != nil {
				t.Fatal("gave bytes along with an error")
			}
		})
	}
}

func TestSealingTwiceGivesTwoCiphertexts(t *testing.T) {
	box := NewBox(newKEK(t))
	if bytes.Equal(box.Seal("p", []byte("x")), box.Seal("p", []byte("x"))) {
		t.Fatal("equal ciphertexts tell that two rows hold one secret")
	}
}

func TestAKEKFile(t *testing.T) {
	tests := map[string]struct {
		made, given string
		rule        string
	}{
		"opens with its passphrase":                {"correct horse", "correct horse", ""},
		"opens without one when it has none":       {"", "", ""},
		"ignores a passphrase it does not need":    {"", "spare", ""},
		"refuses a wrong passphrase":               {"correct horse", "battery staple", "kek-passphrase"},
		"refuses no passphrase where it needs one": {"correct horse", "", "kek-passphrase"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kek.pem")
			made, err := createKEK(path, []byte(tt.made), cheapN)
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := LoadKEK(path, []byte(tt.given))
			if fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
			if tt.rule == "" && loaded != made {
				t.Fatal("another key came back")
			}
		})
	}
}

func TestTheRealWrappingOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek.pem")
	made, err := CreateKEK(path, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	if loaded, err := LoadKEK(path, []byte("correct horse")); err != nil || loaded != made {
		t.Fatalf("LoadKEK: %v", err)
	}
	if data, _ := os.ReadFile(path); bytes.Contains(data, made.key[:]) {
		t.Fatal("the key stands in the file")
	}
}

func TestADamagedKEKFileIsSaidToBeOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kek.pem")
	if _, err := createKEK(path, []byte("p"), cheapN); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(path)
	tests := map[string][]byte{
		"empty":                   nil,
		"not PEM":                 []byte("hello"),
		"another PEM block":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: make([]byte, 32)}),
		"a key of 31 bytes":       pem.EncodeToMemory(&pem.Block{Type: plainBlock, Bytes: make([]byte, 31)}),
		"a cost beyond reason":    []byte(strings.Replace(string(good), "16", "1073741824", 1)),
		"a cost that is no power": []byte(strings.Replace(string(good), "16", "15", 1)),
		"no cost":                 []byte(strings.Replace(string(good), "16", "", 1)),
		"no salt":                 pem.EncodeToMemory(&pem.Block{Type: wrappedBlock, Headers: map[string]string{costHeader: "16"}}),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "kek.pem")
			if err := os.WriteFile(bad, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadKEK(bad, []byte("p")); fault.RuleOf(err) != "kek-damaged" {
				t.Fatalf("err = %v", err)
			}
		})
	}
	if _, err := LoadKEK(filepath.Join(dir, "nowhere"), nil); fault.RuleOf(err) != "kek-missing" {
		t.Fatalf("missing file: %v", err)
	}
}

func TestASecretFileIsPrivateWholeAndNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := WriteFile(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("second")); !fault.Is(err, fault.Conflict) {
		t.Fatalf("second write: %v", err)
	}
	if data, _ := os.ReadFile(path); string(data) != "first" {
		t.Fatalf("the file holds %q", data)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
	if err := WriteFile(filepath.Join(dir, "no", "folder"), nil); err == nil {
		t.Fatal("wrote into a folder that is not there")
	}
}

func TestAKEKNeverPrints(t *testing.T) {
	k := newKEK(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, k); got != "[secret]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func TestAMACIsOfItsTextPurposeAndKEK(t *testing.T) {
	k := newKEK(t)
	box := NewBox(k)
	mac := box.MAC("ab", "c")
	if NewBox(k).MAC("ab", "c") != mac {
		t.Error("the same KEK makes another MAC")
	}
	for name, other := range map[string][32]byte{
		"another text": box.MAC("ab", "d"), "another purpose": box.MAC("ac", "c"), "another cut between them": box.MAC("a", "bc"),
		"another KEK": NewBox(newKEK(t)).MAC("ab", "c"),
	} {
		if other == mac {
			t.Errorf("%s has the same MAC", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	box := NewBox(newKEK(f))
	f.Add("p", []byte{})
	f.Add("q", box.Seal("p", []byte("secret")))
	f.Add("", bytes.Repeat([]byte{0}, 64))
	f.Fuzz(func(t *testing.T, purpose string, sealed []byte) {
		if purpose == "p" {
			return
		}
		if _, err := box.Open(purpose, sealed); err == nil {
			t.Fatal("opened something nobody sealed")
		}
	})
}

func TestAFileMayBeReplacedByTwoAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 20 {
				if err := ReplaceFile(path, bytes.Repeat([]byte{byte('a' + n)}, 1000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	data, err := os.ReadFile(path)
	if err != nil || len(data) != 1000 || bytes.Count(data, data[:1]) != 1000 {
		t.Errorf("the file is torn: %d bytes, %v", len(data), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
