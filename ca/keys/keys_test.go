package keys_test

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

var (
	_ ca.Keys = (*keys.Folder)(nil)
	_ ca.Keys = (*keys.Handout)(nil)
)

func folder(t *testing.T, dir, passphrase string) *keys.Folder {
	t.Helper()
	f, err := keys.OpenFolder(dir, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func same(a, b crypto.Signer) bool {
	return a.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(b.Public())
}

func TestEveryKeyTypeComesBackFromItsFile(t *testing.T) {
	for _, kt := range []policies.KeyType{
		policies.KeyECP256, policies.KeyECP384, policies.KeyECP521, policies.KeyEd25519,
		policies.KeyRSA2048, policies.KeyRSA3072,
	} {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
			uri, made, err := folder(t, dir, "").Create(t.Context(), "00ff", kt)
			if err != nil {
				t.Fatal(err)
			}
			if uri != "softkms:00ff.pem" {
				t.Fatalf("uri = %q", uri)
			}
			if got, err := policies.KeyTypeOf(made.Public()); err != nil || got != kt {
				t.Fatalf("made a key of type %v, %v", got, err)
			}
			opened, err := folder(t, dir, "").Open(t.Context(), uri)
			if err != nil || !same(made, opened) {
				t.Fatalf("Open: %v", err)
			}
			info, err := os.Stat(filepath.Join(dir, "00ff.pem"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("mode %v, %v", info.Mode(), err)
			}
			if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
				t.Fatalf("folder mode %v", info.Mode())
			}
		})
	}
}

func TestAnEncryptedKeyOpensWithItsPassphraseOnly(t *testing.T) {
	dir := t.TempDir()
	uri, made, err := folder(t, dir, "correct horse").Create(t.Context(), "00ff", policies.KeyECP256)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(filepath.Join(dir, "00ff.pem"))
	if !bytes.Contains(data, []byte("ENCRYPTED PRIVATE KEY")) {
		t.Fatalf("the file reads %s", data)
	}
	tests := map[string]struct{ passphrase, rule string }{
		"the right one": {"correct horse", ""},
		"a wrong one":   {"battery staple", "key-passphrase"},
		"none":          {"", "key-passphrase"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, err := folder(t, dir, tt.passphrase).Open(t.Context(), uri)
			if fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
			if tt.rule == "" && !same(made, opened) {
				t.Fatal("another key came back")
			}
		})
	}
}

func TestWhatCannotBeOpenedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("garbage.pem", "hello")
	write("broken.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	write("public.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
	write("broken-encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")

	tests := map[string]struct{ uri, rule string }{
		"a file that is not there":       {"softkms:nowhere.pem", "key-missing"},
		"a file without PEM":             {"softkms:garbage.pem", "key-damaged"},
		"a key that does not parse":      {"softkms:broken.pem", "key-damaged"},
		"a public key":                   {"softkms:public.pem", "key-damaged"},
		"an encrypted key cut to pieces": {"softkms:broken-encrypted.pem", "key-passphrase"},
		"another keeper's URI":           {"pkcs11:token=x", "key-uri"},
		"no URI":                         {"", "key-uri"},
		"a path out of the folder":       {"softkms:../kek.pem", "key-uri"},
		"an absolute path":               {"softkms:/etc/ssl/private/key.pem", "key-uri"},
		"a hidden file":                  {"softkms:.pem", "key-uri"},
		"another kind of file":           {"softkms:kek.txt", "key-uri"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := folder(t, dir, "p").Open(t.Context(), tt.uri); fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
}

func TestAKeyIsNotMade(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir, "")
	if _, _, err := f.Create(t.Context(), "00ff", policies.KeyECP256); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "00ff.pem"))

	tests := map[string]struct {
		name string
		kt   policies.KeyType
		rule string
	}{
		"over another key":   {"00ff", policies.KeyECP256, "file-exists"},
		"outside the folder": {"../00ff", policies.KeyECP256, "key-uri"},
		"of an unknown type": {"01ff", "EC-P224", "key-type-not-allowed"},
		"of no type":         {"02ff", "", "key-type-not-allowed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, err := f.Create(t.Context(), tt.name, tt.kt); fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "00ff.pem")); !bytes.Equal(before, after) {
		t.Fatal("the key that was there has changed")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestAKeyHandedOutIsEncryptedAndReadByOpenSSL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.pem")
	if _, err := keys.HandOut(path, nil); fault.RuleOf(err) != "key-passphrase" {
		t.Fatalf("without a passphrase: %v", err)
	}
	h, err := keys.HandOut(path, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	uri, signer, err := h.Create(t.Context(), "ignored", policies.KeyECP256)
	if err != nil || uri != "" || signer == nil {
		t.Fatalf("Create: %q, %v", uri, err)
	}
	if _, err := h.Open(t.Context(), uri); !fault.Is(err, fault.NotFound) {
		t.Fatalf("Open: %v", err)
	}
	if out, err := exec.Command("openssl", "pkey", "-in", path, "-passin", "pass:correct horse", "-noout", "-check").CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	if out, err := exec.Command("openssl", "pkey", "-in", path, "-passin", "pass:wrong", "-noout").CombinedOutput(); err == nil {
		t.Fatalf("openssl took a wrong passphrase:\n%s", out)
	}
	if _, _, err := h.Create(t.Context(), "again", policies.KeyECP256); fault.RuleOf(err) != "file-exists" {
		t.Fatalf("a second handout: %v", err)
	}
}

func TestAKeyAsOpenSSLWritesItIsRead(t *testing.T) {
	for name, args := range map[string][]string{
		"with the parameters of its curve": {"ecparam", "-name", "prime256v1", "-genkey"},
		"without them":                     {"ecparam", "-name", "prime256v1", "-genkey", "-noout"},
		"as PKCS#8":                        {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	} {
		out, err := exec.Command("openssl", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Read(out, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
