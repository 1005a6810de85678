package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// opensslTrusts asks OpenSSL for a leaf's path to the one root given.
func opensslTrusts(t testing.TB, at time.Time, root []byte, between [][]byte, leaf []byte) (output string, good bool) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", strconv.FormatInt(at.Unix(), 10), "-no-CApath", "-no-CAstore",
		"-CAfile", writePEM(t, dir, "root.pem", root), "-untrusted", writePEM(t, dir, "between.pem", between...), writePEM(t, dir, "leaf.pem", leaf)).CombinedOutput()
	return string(out), err == nil
}

func writePEM(t testing.TB, dir, name string, ders ...[]byte) string {
	t.Helper()
	var text bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// outside is somebody else's CA, kept by OpenSSL in a folder.
type outside struct {
	t   testing.TB
	dir string
}

func newOutside(t testing.TB) *outside {
	o := &outside{t, t.TempDir()}
	o.root("root", "Outside Root", 1, 7300, "sha256")
	return o
}

func (o *outside) openssl(args ...string) {
	o.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = o.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

func (o *outside) root(file, name string, pathLength, days int, digest string) {
	o.t.Helper()
	o.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file+".key", "-out", file+".pem", "-subj", "/O=Outside/CN="+name,
		"-days", strconv.Itoa(days), "-"+digest, "-addext", fmt.Sprintf("basicConstraints=critical,CA:TRUE,pathlen:%d", pathLength), "-addext", "keyUsage=critical,keyCertSign,cRLSign")
}

const caExtensions = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,digitalSignature,keyCertSign,cRLSign\n"

// sign has a CA of the folder sign a request; extra are further options of openssl x509.
func (o *outside) sign(by string, csr []byte, extensions string, extra ...string) *x509.Certificate {
	o.t.Helper()
	o.write("in.csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))
	o.write("ext.cnf", []byte(extensions+"subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"))
	o.openssl(append([]string{"x509", "-req", "-in", "in.csr", "-CA", by + ".pem", "-CAkey", by + ".key", "-CAcreateserial", "-extfile", "ext.cnf", "-out", "out.pem", "-sha256"}, extra...)...)
	return o.certificate("out")
}

func (o *outside) write(name string, data []byte) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), data, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o *outside) certificate(name string) *x509.Certificate {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name+".pem"))
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := verify.ParseCertificate(data)
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// newClockedWorld runs at the time of day, which OpenSSL signs at.
func newClockedWorld(t testing.TB) *world {
	w := newWorld(t)
	w.now = time.Now().UTC().Truncate(time.Second).Add(time.Minute)
	return w
}

func (w *world) request(t testing.TB, name string) ca.IssuerRequest {
	t.Helper()
	r, err := w.RequestIssuing(t.Context(), operator, ca.IssuingRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func leafLife(string) time.Duration { return 90 * 24 * time.Hour }

// Scenario A2: a bought signing certificate.
func TestACABelowAnOutsideRoot(t *testing.T) {
	w, o := newClockedWorld(t), newOutside(t)
	r := w.request(t, "Bought CA")
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != "Bought CA" {
		t.Fatalf("the request: %v, %v", csr, err)
	}
	signed := o.sign("root", r.CSR, "", "-copy_extensions", "copyall", "-days", "1825")
	if !signed.IsCA || !signed.MaxPathLenZero || signed.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature {
		t.Fatalf("what OpenSSL copies from the request is no issuing CA: %+v", signed)
	}
	root := o.certificate("root")
	got, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{signed, root}, Lifetime: leafLife})
	if err != nil || got.ID != r.ID || got.State != ca.IssuerActive || got.KeyURI != r.KeyURI {
		t.Fatalf("%+v, %v", got, err)
	}
	chain := w.Chain(got.ID)
	if len(chain) != 2 || !bytes.Equal(chain[1], root.Raw) || len(w.store.read().requests) != 0 {
		t.Fatalf("a chain of %d, %d requests left", len(chain), len(w.store.read().requests))
	}
	if top := w.store.read().issuers[0]; top.Role != ca.RoleExternal || top.KeyURI != "" || top.Parent != top.ID {
		t.Errorf("the outside root on record: %+v", top)
	}
	_, leaf := w.enrolled(t, "dev")
	if out, good := opensslTrusts(t, w.now, root.Raw, chain[:1], leaf.Raw); !good {
		t.Error(out)
	}
	lintClean(t, leaf.Raw)
	w.sweep(t)
	w.crl(t, got.ID)
	wantActions(t, w.store, audit.IssuerRequested, audit.IssuerImported, audit.IssuerImported, audit.CRLPublished, audit.Issued, audit.CRLPublished)

	revoked, err := w.RevokeIssuer(t.Context(), operator, got.ID, ca.CACompromise)
	if err != nil || revoked.OnCRL {
		t.Errorf("who revokes a certificate of an outside root: %+v, %v", revoked, err)
	}
}

func TestACABelowAnOutsideIntermediateAndThenAnother(t *testing.T) {
	w, o := newClockedWorld(t), newOutside(t)
	o.root("top", "Outside Top", 2, 7300, "sha256")
	o.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "mid.key", "-out", "mid.csr", "-outform", "DER", "-subj", "/CN=Outside Mid")
	csr, err := os.ReadFile(filepath.Join(o.dir, "mid.csr"))
	if err != nil {
		t.Fatal(err)
	}
	mid := o.sign("top", csr, "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\n", "-days", "3650")
	o.write("mid.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mid.Raw}))

	one := o.sign("mid", w.request(t, "One").CSR, caExtensions, "-days", "1825")
	// In any order, and with something that has no business there.
	got, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{one, o.certificate("root"), o.certificate("top"), mid}, Lifetime: leafLife})
	if err != nil {
		t.Fatal(err)
	}
	if chain := w.Chain(got.ID); len(chain) != 3 || !bytes.Equal(chain[1], mid.Raw) {
		t.Fatalf("a chain of %d", len(chain))
	}
	two := o.sign("mid", w.request(t, "Two").CSR, caExtensions, "-days", "1825")
	next, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{two}, Lifetime: leafLife})
	if err != nil || next.State != ca.IssuerPrepared {
		t.Fatalf("what is above it is on record: %+v, %v", next, err)
	}
	if n := len(w.store.read().issuers); n != 4 {
		t.Errorf("%d issuers on record", n)
	}
	w.promote(t, next.ID)
	_, leaf := w.enrolled(t, "dev")
	if out, good := opensslTrusts(t, w.now, o.certificate("top").Raw, [][]byte{mid.Raw, two.Raw}, leaf.Raw); !good {
		t.Error(out)
	}
}

func TestABoughtCertificateThatIsNoGood(t *testing.T) {
	w, o := newClockedWorld(t), newOutside(t)
	o.root("flat", "Flat Root", 0, 7300, "sha256")
	o.root("brief", "Brief Root", 1, 30, "sha256")
	o.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "sha1.key", "-out", "sha1.pem", "-subj", "/CN=Old Root", "-days", "3650", "-sha1",
		"-addext", "basicConstraints=critical,CA:TRUE,pathlen:1", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	r := w.request(t, "Bought CA")
	other := requestFor(t, &x509.CertificateRequest{Subject: mustCSR(t, r.CSR).Subject}, deviceKey(t, policies.KeyECP256)).Raw
	years := []string{"-days", "1825"}
	sign := func(by string, csr []byte, extensions string, extra ...string) []*x509.Certificate {
		return []*x509.Certificate{o.sign(by, csr, extensions, extra...), o.certificate(by)}
	}
	leaf := "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
	tests := map[string]struct {
		chain []*x509.Certificate
		rule  string
	}{
		"nothing":                          {nil, "issuer-certificate-missing"},
		"another key than the request's":   {sign("root", other, caExtensions, years...), "issuer-key-mismatch"},
		"not a CA":                         {sign("root", r.CSR, leaf, years...), "issuer-not-ca"},
		"may not sign certificates":        {sign("root", r.CSR, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,cRLSign\n", years...), "issuer-key-usage"},
		"may not sign CRLs":                {sign("root", r.CSR, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", years...), "issuer-key-usage"},
		"for servers only":                 {sign("root", r.CSR, caExtensions+"extendedKeyUsage=serverAuth\n", years...), "issuer-purpose"},
		"an unknown critical extension":    {sign("root", r.CSR, caExtensions+"1.2.3.4=critical,ASN1:NULL\n", years...), "issuer-critical-extension"},
		"expired":                          {[]*x509.Certificate{o.expired(r.CSR), o.certificate("root")}, "issuer-expired"},
		"ends before its leaves":           {sign("root", r.CSR, caExtensions, "-days", "60"), "issuer-ends-too-soon"},
		"its root ends before its leaves":  {sign("brief", r.CSR, caExtensions, years...), "issuer-ends-too-soon"},
		"no path length left":              {sign("flat", r.CSR, caExtensions, years...), "issuer-path-length"},
		"without its root":                 {sign("root", r.CSR, caExtensions, years...)[:1], "issuer-chain-incomplete"},
		"with another root":                {[]*x509.Certificate{o.sign("root", r.CSR, caExtensions, years...), o.certificate("flat")}, "issuer-chain-incomplete"},
		"below a root signed with SHA-1":   {sign("sha1", r.CSR, caExtensions, years...), "issuer-weak-signature"},
		"the root in place of the CA":      {[]*x509.Certificate{o.certificate("flat")}, ""},
		"the certificate is good after it": {sign("root", r.CSR, caExtensions, years...), ""},
	}
	// The good ones last: until then the request waits, and nothing is on record.
	for _, good := range []bool{false, true} {
		for name, tt := range tests {
			if (tt.rule == "") != good {
				continue
			}
			before := w.store.read()
			_, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: tt.chain, Lifetime: leafLife})
			if fault.RuleOf(err) != tt.rule {
				t.Errorf("%s: %v, want rule %q", name, err, tt.rule)
			}
			if after := w.store.read(); !good && (len(after.issuers) != 0 || len(after.requests) != 1 || len(after.ledger) != len(before.ledger)) {
				t.Errorf("%s: something was stored", name)
			}
		}
	}
}

func mustCSR(t testing.TB, der []byte) *x509.CertificateRequest {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// expired has the outside root sign a request with dates in the past.
func (o *outside) expired(csr []byte) *x509.Certificate {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, "root.key"))
	if err != nil {
		o.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		o.t.Fatal(err)
	}
	request, now := mustCSR(o.t, csr), time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: request.Subject, NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(0, 0, -1),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}, o.certificate("root"), request.PublicKey, key)
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

func TestACAWithItsKeyIsImported(t *testing.T) {
	w, o := newClockedWorld(t), newOutside(t)
	key := deviceKey(t, policies.KeyECP384)
	c := o.sign("root", request(t, "Existing CA", key).Raw, caExtensions, "-days", "1825")
	chain := []*x509.Certificate{c, o.certificate("root")}
	var kept []string
	keep := func(_ context.Context, name string) (string, error) {
		kept = append(kept, name)
		return w.keys.Adopt(name, key)
	}
	in := func(k crypto.Signer) error {
		_, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: chain, Key: k, Keep: keep, Lifetime: leafLife})
		return err
	}
	if err := in(deviceKey(t, policies.KeyECP384)); fault.RuleOf(err) != "issuer-key-mismatch" || kept != nil {
		t.Fatalf("the wrong key: %v, kept %v", err, kept)
	}
	if err := in(key); err != nil {
		t.Fatal(err)
	}
	_, leaf := w.enrolled(t, "dev")
	if out, good := opensslTrusts(t, w.now, chain[1].Raw, [][]byte{c.Raw}, leaf.Raw); !good {
		t.Error(out)
	}
	if err := in(key); fault.RuleOf(err) != "issuer-exists" {
		t.Errorf("again: %v", err)
	}
	renewed := o.sign("root", request(t, "Existing CA", key).Raw, caExtensions, "-days", "3650")
	_, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{renewed}, KeyURI: "softkms:" + kept[0] + ".pem"})
	if fault.RuleOf(err) != "issuer-key-in-use" {
		t.Errorf("another certificate for the key: %v", err)
	}
}

func TestACAWhoseKeyIsKeptAlready(t *testing.T) {
	w, o := newClockedWorld(t), newOutside(t)
	uri, signer, err := w.keys.Create(t.Context(), "spare", policies.KeyECP256)
	if err != nil {
		t.Fatal(err)
	}
	c := o.sign("root", request(t, "Existing CA", signer).Raw, caExtensions, "-days", "1825")
	chain := []*x509.Certificate{c, o.certificate("root")}
	if _, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: chain, KeyURI: "softkms:other.pem"}); fault.RuleOf(err) != "key-missing" {
		t.Errorf("a key that is not there: %v", err)
	}
	got, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: chain, KeyURI: uri, Profile: "sensors"})
	if err != nil || got.KeyURI != uri || got.Profile != "sensors" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestACABelowOurOwnOfflineRootIsOnRecordAsItsCertificate(t *testing.T) {
	w, root, _ := newHierarchy(t, "")
	r := w.request(t, "Issuing 2")
	made, err := w.SignCA(t.Context(), operator, root.ID, mustCSR(t, r.CSR), 0)
	if err != nil {
		t.Fatal(err)
	}
	lintClean(t, made.Raw)
	got, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{made}, Lifetime: leafLife})
	if err != nil || got.Parent != root.ID || got.State != ca.IssuerPrepared {
		t.Fatalf("%+v, %v", got, err)
	}
	w.promote(t, got.ID)
	w.sweep(t)
	leaf, _ := w.enrolled(t, "dev")
	if out, good := w.opensslVerify(t, leaf); !good {
		t.Error(out)
	}
	if revoked, err := w.RevokeIssuer(t.Context(), operator, got.ID, ca.CACompromise); err != nil || !revoked.OnCRL {
		t.Errorf("%+v, %v", revoked, err)
	}
	if _, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{made}}); fault.RuleOf(err) != "issuer-exists" {
		t.Errorf("a revoked one again: %v", err)
	}
}

func TestWhatARootDoesNotSign(t *testing.T) {
	w, root, issuing := newHierarchy(t, "")
	good := mustCSR(t, w.request(t, "Elsewhere").CSR)
	forged := *good
	forged.Signature = append([]byte{0}, forged.Signature...)
	weak, sha1 := *good, *good
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak.PublicKey = &rsa.PublicKey{N: new(big.Int).Mul(p, p), E: 65537}
	sha1.SignatureAlgorithm = x509.ECDSAWithSHA1
	signer, err := w.keys.Open(t.Context(), issuing.KeyURI)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		by   ca.IssuerID
		csr  *x509.CertificateRequest
		rule string
	}{
		"by nobody":               {"0000000000000000", good, "no-issuer"},
		"by an issuing CA":        {issuing.ID, good, "issuer-not-root"},
		"a forged request":        {root.ID, &forged, "csr-signature"},
		"signed with SHA-1":       {root.ID, &sha1, "issuer-weak-signature"},
		"a key that is factored":  {root.ID, &weak, "issuer-weak-key"},
		"without a name":          {root.ID, requestFor(t, &x509.CertificateRequest{}, deviceKey(t, policies.KeyECP256)), "issuer-name"},
		"an issuer's key of ours": {root.ID, request(t, "Mallory", signer), "issuer-key-in-use"},
	} {
		if _, err := w.SignCA(t.Context(), operator, tt.by, tt.csr, 0); fault.RuleOf(err) != tt.rule {
			t.Errorf("%s: %v, want rule %q", name, err, tt.rule)
		}
	}
}

func TestARequestIsWithdrawn(t *testing.T) {
	w := newWorld(t)
	r := w.request(t, "Bought CA")
	if err := w.WithdrawRequest(t.Context(), operator, "0000000000000000"); fault.RuleOf(err) != "issuer-request-not-found" {
		t.Errorf("another: %v", err)
	}
	if err := w.WithdrawRequest(t.Context(), operator, r.ID); err != nil {
		t.Fatal(err)
	}
	if list, err := w.IssuerRequests(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d requests, %v", len(list), err)
	}
	wantActions(t, w.store, audit.IssuerRequested, audit.IssuerWithdrawn)
}
