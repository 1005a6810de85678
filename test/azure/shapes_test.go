package azure_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// shape is how one of Azure's sample scripts makes certificates. Who signed counts, and
// what a certificate is; not that it looks as ours would.
type shape struct {
	key      []string // openssl's words for a new key
	rootName string
	ca, leaf string // the extensions
}

// certGen is the shape of the sample for bash: RSA-4096, and extensions of another age.
var certGen = shape{
	key:      []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"},
	rootName: "Azure IoT Hub CA Cert Test Only",
	ca: `
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:true
keyUsage = critical,digitalSignature,cRLSign,keyCertSign`,
	leaf: `
basicConstraints = CA:FALSE
nsCertType = client,email
nsComment = OpenSSL Generated Client Certificate
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid,issuer
keyUsage = critical,nonRepudiation,digitalSignature,keyEncipherment
extendedKeyUsage = clientAuth,emailProtection`,
}

// powerShell is the shape of the sample for Windows: P-256, a name with spaces where a DNS
// name belongs, and a path length where there is no path.
var powerShell = shape{
	key:      []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
	rootName: "Azure IoT CA TestOnly Root CA",
	ca: `
subjectKeyIdentifier = hash
basicConstraints = critical,CA:true,pathlen:12
keyUsage = critical,keyCertSign
subjectAltName = DNS:Azure IoT CA TestOnly Root CA`,
	leaf: `
basicConstraints = CA:FALSE,pathlen:0
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth,serverAuth
subjectAltName = DNS:device`,
}

// factory is a folder with the CA of a shape. Its devices share a key: making one of
// RSA-4096 takes long, and theirs is of no consequence here.
type factory struct {
	shape
	folder string
	serial int
}

func newFactory(t *testing.T, s shape) *factory {
	t.Helper()
	f := &factory{shape: s, folder: t.TempDir(), serial: 1}
	writeFile(t, f.path("ca.cnf"), "[ext]"+s.ca+"\n")
	writeFile(t, f.path("leaf.cnf"), "[ext]"+s.leaf+"\n")
	for _, name := range []string{"root", "device"} {
		f.openssl(t, append([]string{"genpkey", "-out", name + ".key"}, s.key...)...)
	}
	f.openssl(t, "req", "-new", "-key", "root.key", "-subj", "/CN="+s.rootName, "-out", "root.csr")
	f.openssl(t, "x509", "-req", "-in", "root.csr", "-signkey", "root.key", "-sha256", "-days", "30", "-set_serial", "1",
		"-extfile", "ca.cnf", "-extensions", "ext", "-out", "root.pem")
	return f
}

func (f *factory) path(name string) string { return filepath.Join(f.folder, name) }

func (f *factory) openssl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = f.folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

func (f *factory) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(f.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// root is the CA with its key.
func (f *factory) root(t *testing.T) authority {
	t.Helper()
	return authority{f.read(t, "root.pem"), f.read(t, "root.key")}
}

// leaf signs a certificate for a name, and returns it as PEM.
func (f *factory) leaf(t *testing.T, name string) string { return f.sign(t, name, "leaf.cnf") }

// edgeCA signs a CA certificate for a name: what the samples make for a gateway.
func (f *factory) edgeCA(t *testing.T, name string) string { return f.sign(t, name, "ca.cnf") }

func (f *factory) sign(t *testing.T, name, extensions string) string {
	t.Helper()
	f.serial++
	f.openssl(t, "req", "-new", "-key", "device.key", "-subj", "/CN="+name, "-out", "new.csr")
	f.openssl(t, "x509", "-req", "-in", "new.csr", "-CA", "root.pem", "-CAkey", "root.key", "-sha256", "-days", "30",
		"-set_serial", strconv.Itoa(f.serial), "-extfile", extensions, "-extensions", "ext", "-out", "new.pem")
	return f.read(t, "new.pem")
}

// device is a device with a certificate of its own, alone in its file.
func (f *factory) device(t *testing.T, id string) object {
	t.Helper()
	return identity(id, f.leaf(t, id), f.read(t, "device.key"))
}
