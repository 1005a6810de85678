package verify_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/passmuster/muster/verify"
)

// Scenario A11: what Azure's certGen.sh makes.
func TestADeviceOfCertGensShape(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-days", "30", "-set_serial", "1",
		"-subj", "/CN=Azure IoT Hub CA Cert Test Only", "-addext", "keyUsage=critical,digitalSignature,cRLSign,keyCertSign")
	write(t, dir, "ext", `basicConstraints = CA:FALSE
nsCertType = client, email
nsComment = "OpenSSL Generated Client Certificate"
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid,issuer
keyUsage = critical, nonRepudiation, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth, emailProtection
`)
	openssl(t, dir, "", "req", "-newkey", "rsa:4096", "-nodes", "-keyout", "dev.key", "-out", "dev.csr", "-subj", "/CN=my-device")
	openssl(t, dir, "", "x509", "-req", "-in", "dev.csr", "-CA", "root.pem", "-CAkey", "root.key", "-set_serial", "3", "-days", "30", "-extfile", "ext", "-out", "dev.pem")
	assigned(t, "my-device", load(t, dir, "root.pem"), load(t, dir, "dev.pem"))
}

// Scenario A12: what Azure's ca-certs.ps1 makes. Its basicConstraints are not
// critical, its CAs carry their name as a DNS name with spaces and purposes of their
// own, and its leaves a path length.
func TestADeviceOfThePowerShellScriptsShape(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ca", `basicConstraints = CA:TRUE, pathlen:12
keyUsage = critical, keyCertSign
extendedKeyUsage = clientAuth, serverAuth
subjectAltName = DNS:Azure IoT CA TestOnly
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`)
	write(t, dir, "leaf", `basicConstraints = CA:FALSE, pathlen:0
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth, serverAuth
subjectAltName = DNS:mydevice
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`)
	issueWithOpenSSL(t, dir, "", "root", "Azure IoT CA TestOnly Root CA", "ca")
	issueWithOpenSSL(t, dir, "root", "mid-1", "Azure IoT CA TestOnly Intermediate 1 CA", "ca")
	issueWithOpenSSL(t, dir, "mid-1", "mid-2", "Azure IoT CA TestOnly Intermediate 2 CA", "ca")
	issueWithOpenSSL(t, dir, "mid-2", "dev", "mydevice", "leaf")
	assigned(t, "mydevice", load(t, dir, "root.pem"), load(t, dir, "dev.pem"), load(t, dir, "mid-2.pem"), load(t, dir, "mid-1.pem"))
}

// What "openssl x509 -req" makes when nobody gives it extensions: version 1, without
// key identifiers or usages.
func TestADeviceWithoutExtensions(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ca", "basicConstraints = critical, CA:TRUE\n")
	write(t, dir, "none", "")
	issueWithOpenSSL(t, dir, "", "root", "home-made", "ca")
	issueWithOpenSSL(t, dir, "root", "dev", "dev-1", "none")
	assigned(t, "dev-1", load(t, dir, "root.pem"), load(t, dir, "dev.pem"))
}

func issueWithOpenSSL(t *testing.T, dir, issuer, name, cn, extensions string) {
	t.Helper()
	openssl(t, dir, "", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name+".key", "-out", name+".csr", "-subj", "/CN="+cn)
	signer := []string{"-signkey", name + ".key"}
	if issuer != "" {
		signer = []string{"-CA", issuer + ".pem", "-CAkey", issuer + ".key", "-CAcreateserial"}
	}
	openssl(t, dir, "", append([]string{"x509", "-req", "-in", name + ".csr", "-days", "30", "-extfile", extensions, "-out", name + ".pem"}, signer...)...)
}

func load(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	c, err := verify.ParseCertificate(read(t, dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// assigned wants the anchor to be acceptable and the device below it believed.
func assigned(t *testing.T, id string, anchor *x509.Certificate, sent ...*x509.Certificate) {
	t.Helper()
	now := sent[0].NotBefore.Add(time.Hour)
	a, err := verify.NewTrustAnchor("factory", anchor, now)
	if err != nil {
		t.Fatal(err)
	}
	who, err := verify.X509(verify.X509Evidence{ID: mustID(t, id), Chain: mustChain(t, sent...)}, verify.Anchors{Verified: []verify.Link{a.Link()}}, now)
	checkOutcome(t, who, err, "")
}
