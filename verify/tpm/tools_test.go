package tpm_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify/tpm"
)

// keys has tpm2-tools make the two keys of a TPM, activate what was wrapped for them and sign
// a text: a device without a line of ours.
const (
	toolsMakeKeys = `set -e
tpm2_createek -c 0x81010001 -G rsa -u ek.pub
tpm2_createprimary -C o -c srk.ctx -G rsa2048:aes128cfb -a 'restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda'
tpm2_evictcontrol -C o -c srk.ctx 0x81000001
tpm2_readpublic -c 0x81000001 -f tss -o srk.pub
tpm2_flushcontext -t`
	toolsActivate = `set -e
tpm2_startauthsession --policy-session -S session.ctx
tpm2_policysecret -S session.ctx -c e
tpm2_activatecredential -c 0x81000001 -C 0x81010001 -i credential -o inner.key -P session:session.ctx
tpm2_flushcontext session.ctx
tpm2_import -C 0x81000001 -u 5 -i 3 -s 4 -k inner.key -r key.priv
tpm2_load -C 0x81000001 -u 5 -r key.priv -c key.ctx
printf text | tpm2_hmac -c key.ctx -g sha256 -o mac`
)

func TestTPM2ToolsGetTheSecret(t *testing.T) {
	t.Parallel()
	chip, dir := testkit.NewSWTPM(t), t.TempDir()
	run := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "TPM2TOOLS_TCTI="+chip.TCTI)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("tpm2-tools (Debian: tpm2-tools): %v\n%s", err, out)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	write := func(name string, raw []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(toolsMakeKeys)
	ek, err := tpm.ParseEndorsementKey(read("ek.pub"))
	if err != nil {
		t.Fatal(err)
	}
	srk, err := tpm.ParseStorageRootKey(read("srk.pub"))
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{7}, 32)
	blob, err := tpm.Wrap(ek, srk, secret)
	if err != nil {
		t.Fatal(err)
	}
	var parts [][]byte
	for len(blob) > 0 {
		end := 2 + int(binary.BigEndian.Uint16(blob))
		parts, blob = append(parts, blob[:end]), blob[end:]
	}
	if len(parts) != 6 {
		t.Fatalf("a blob of %d structures", len(parts))
	}
	header := []byte{0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1} // the tools' own file
	write("credential", bytes.Join([][]byte{header, parts[0], parts[1]}, nil))
	write("3", parts[2])
	write("4", parts[3])
	write("5", parts[4])
	run(toolsActivate)
	want := hmac.New(sha256.New, secret)
	want.Write([]byte("text"))
	if !hmac.Equal(read("mac"), want.Sum(nil)) {
		t.Error("the tools sign otherwise")
	}
}
