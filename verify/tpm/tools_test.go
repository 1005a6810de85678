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

	"github.com/passmuster/muster/internal/fault"
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

// tools are tpm2-tools with a TPM of their own, in a folder of their own.
type tools struct {
	t    *testing.T
	chip *testkit.SWTPM
	dir  string
}

func newTools(t *testing.T) tools {
	t.Helper()
	return tools{t, testkit.NewSWTPM(t), t.TempDir()}
}

func (x tools) run(script string) {
	x.t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir, cmd.Env = x.dir, append(os.Environ(), "TPM2TOOLS_TCTI="+x.chip.TCTI)
	if out, err := cmd.CombinedOutput(); err != nil {
		x.t.Fatalf("tpm2-tools (Debian: tpm2-tools): %v\n%s", err, out)
	}
}

func (x tools) read(name string) []byte {
	x.t.Helper()
	raw, err := os.ReadFile(filepath.Join(x.dir, name))
	if err != nil {
		x.t.Fatal(err)
	}
	return raw
}

func (x tools) write(name string, raw []byte) {
	x.t.Helper()
	if err := os.WriteFile(filepath.Join(x.dir, name), raw, 0o600); err != nil {
		x.t.Fatal(err)
	}
}

func TestTPM2ToolsGetTheSecret(t *testing.T) {
	t.Parallel()
	tools := newTools(t)
	tools.run(toolsMakeKeys)
	ek, err := tpm.ParseEndorsementKey(tools.read("ek.pub"))
	if err != nil {
		t.Fatal(err)
	}
	srk, err := tpm.ParseStorageRootKey(tools.read("srk.pub"))
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
	tools.write("credential", bytes.Join([][]byte{header, parts[0], parts[1]}, nil))
	tools.write("3", parts[2])
	tools.write("4", parts[3])
	tools.write("5", parts[4])
	tools.run(toolsActivate)
	want := hmac.New(sha256.New, secret)
	want.Write([]byte("text"))
	if !hmac.Equal(tools.read("mac"), want.Sum(nil)) {
		t.Error("the tools sign otherwise")
	}
}

// What tpm2-tools do of an attestation: the keys, what tpm2_certify says of them, and, once they
// were sent the secret, the same command with it. The keys are those of the tools' own templates.
const (
	toolsMakeAttestationKey = `set -e
tpm2_createek -c 0x81010001 -G rsa -u ek.pub
tpm2_createak -C 0x81010001 -c ak.ctx -G ecc -g sha256 -s ecdsa -n ak.name
tpm2_evictcontrol -C o -c ak.ctx 0x81010002
tpm2_readpublic -c 0x81010002 -f tss -o ak.pub
tpm2_flushcontext -t
tpm2_createprimary -C o -c parent.ctx
tpm2_flushcontext -t
make() {
	tpm2_create -C parent.ctx -G ecc -u $1.pub -r $1.priv -a "$2"
	tpm2_flushcontext -t
	tpm2_load -C parent.ctx -u $1.pub -r $1.priv -c $1.ctx
	tpm2_flushcontext -t
	tpm2_readpublic -c $1.ctx -f der -o $1.der
	tpm2_flushcontext -t
	tpm2_evictcontrol -C o -c $1.ctx $3
	tpm2_flushcontext -t
	tpm2_certify -c $3 -C 0x81010002 -g sha256 -f tss -o $1.attest -s $1.sig
}
make key 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign' 0x81000001
make loose 'sensitivedataorigin|userwithauth|sign' 0x81000002`
	toolsAttest = `set -e
tpm2_startauthsession --policy-session -S session.ctx
tpm2_policysecret -S session.ctx -c e
tpm2_activatecredential -c 0x81010002 -C 0x81010001 -i credential -o secret -P session:session.ctx
tpm2_flushcontext session.ctx
{ cat certify.head secret; printf '\000\020'; } | tpm2_send -o certified`
)

// toolsSay is what tpm2_certify has signed in place of a secret: it takes none.
var toolsSay = []byte{0, 0xff, 0x55, 0xaa}

func TestTPM2ToolsVouchForTheirKeys(t *testing.T) {
	t.Parallel()
	tools := newTools(t)
	tools.run(toolsMakeAttestationKey)
	ek, err := tpm.ParseEndorsementKey(tools.read("ek.pub"))
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm.ParseAttestationKey(tools.read("ak.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ak.Name(), tools.read("ak.name")) {
		t.Error("the tools call the attestation key otherwise")
	}
	secret := bytes.Repeat([]byte{5}, 32)
	challenge, err := tpm.Bind(ek, ak, secret)
	if err != nil {
		t.Fatal(err)
	}
	tools.write("credential", append([]byte{0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1}, challenge...)) // the tools' own file
	// TPM2_Certify of 0x81000001 by 0x81010002, with two empty passwords, up to the secret.
	const size = 10 + 2*4 + 4 + 2*9 + 2 + 32 + 2
	tools.write("certify.head", bytes.Join([][]byte{
		{0x80, 2, 0, 0, 0, size}, {0, 0, 1, 0x48}, {0x81, 0, 0, 1, 0x81, 1, 0, 2},
		{0, 0, 0, 18}, {0x40, 0, 0, 9, 0, 0, 0, 0, 0}, {0x40, 0, 0, 9, 0, 0, 0, 0, 0}, {0, 32},
	}, nil))
	tools.run(toolsAttest)
	answer := tools.read("certified")[10+4:] // without header and length
	info := answer[:2+int(binary.BigEndian.Uint16(answer))]
	whole := tpm.Attestation{CertifyInfo: info, Signature: answer[len(info) : len(answer)-2*5], KeyPublic: tools.read("key.pub")}
	if err := whole.Check(ak, tools.read("key.der"), secret); err != nil {
		t.Error(err)
	}
	said := func(of, by string) tpm.Attestation {
		info := tools.read(by + ".attest") // a TPMS_ATTEST, without its length
		sized := append(binary.BigEndian.AppendUint16(nil, uint16(len(info))), info...)
		return tpm.Attestation{CertifyInfo: sized, Signature: tools.read(by + ".sig"), KeyPublic: tools.read(of + ".pub")}
	}
	if err := said("key", "key").Check(ak, tools.read("key.der"), toolsSay); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		of, by string
		secret []byte
	}{
		"a key that may leave its TPM": {"loose", "loose", toolsSay}, "without the secret": {"key", "key", secret}, "another key": {"key", "loose", toolsSay},
	} {
		if err := said(c.of, c.by).Check(ak, tools.read(c.of+".der"), c.secret); fault.RuleOf(err) != tpm.RuleKeyAttestation {
			t.Errorf("%s: %v", name, err)
		}
	}
}
