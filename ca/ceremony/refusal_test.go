package ceremony_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ceremony"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Every bad input is tried beside the good one that it was made from, in rooms of
// their own: the one is refused and leaves nothing, the other is signed.
func TestABadInputIsRefusedAndLeavesNothing(t *testing.T) {
	ask := func(edits ...func(*x509.CertificateRequest)) func(*room, ceremony.Issue) ceremony.Issue {
		return func(r *room, i ceremony.Issue) ceremony.Issue { i.CSR = r.request("bad.csr", edits...); return i }
	}
	extension := func(oid []int, value ...byte) func(*x509.CertificateRequest) {
		return func(c *x509.CertificateRequest) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Value: value})
		}
	}
	file := func(text string) func(*room, ceremony.Issue) ceremony.Issue {
		return func(r *room, i ceremony.Issue) ceremony.Issue {
			i.CSR = r.write("bad.csr", []byte(text))
			return i
		}
	}
	for name, c := range map[string]struct {
		spoil func(*room, ceremony.Issue) ceremony.Issue
		rule  string
	}{
		"a request for a longer path":    {ask(extension([]int{2, 5, 29, 19}, 0x30, 6, 1, 1, 0xff, 2, 1, 1)), "csr-not-for-ca"},
		"a request for a device":         {ask(extension([]int{2, 5, 29, 37}, 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2)), "csr-extension-not-allowed"},
		"a request for a host name":      {ask(func(c *x509.CertificateRequest) { c.DNSNames = []string{"ca.example"} }), "csr-extension-not-allowed"},
		"a request with an organization": {ask(func(c *x509.CertificateRequest) { c.Subject.Organization = []string{"Evil"} }), "csr-subject-not-allowed"},
		"a request without a name":       {ask(func(c *x509.CertificateRequest) { c.Subject = pkix.Name{} }), "csr-no-common-name"},
		"a request in the root's name":   {ask(func(c *x509.CertificateRequest) { c.Subject.CommonName = "test root" }), "csr-names-root"},
		"a weak key": {func(r *room, i ceremony.Issue) ceremony.Issue {
			key, err := rsa.GenerateKey(rand.Reader, 1024)
			if err != nil {
				r.t.Fatal(err)
			}
			i.CSR = r.requestBy("bad.csr", key)
			return i
		}, "key-too-small"},
		"the root's own key": {func(r *room, i ceremony.Issue) ceremony.Issue {
			key, err := r.keys.Open(context.Background(), "softkms:root-key.pem")
			if err != nil {
				r.t.Fatal(err)
			}
			i.CSR = r.requestBy("bad.csr", key)
			return i
		}, "csr-key-is-root"},
		"no request":            {file("hello"), "csr-malformed"},
		"another kind of PEM":   {func(r *room, i ceremony.Issue) ceremony.Issue { i.CSR = r.path("root/root.pem"); return i }, "input-file"},
		"a file that is absent": {func(r *room, i ceremony.Issue) ceremony.Issue { i.CSR = r.path("nowhere"); return i }, "input-file"},
		"a file without end": {func(r *room, i ceremony.Issue) ceremony.Issue {
			i.CSR = r.write("big", make([]byte, 1<<20+1))
			return i
		}, "input-file"},
		"an address that is none": {func(_ *room, i ceremony.Issue) ceremony.Issue {
			i.Addresses.CRL = "ldap://pki.example/root.crl"
			return i
		}, "pki-url"},
		"a life too short":        {func(_ *room, i ceremony.Issue) ceremony.Issue { i.Lifetime = time.Minute; return i }, "issuer-lifetime"},
		"a root that has expired": {func(r *room, i ceremony.Issue) ceremony.Issue { r.now = noon.Add(21 * year); return i }, "issuer-expiring"},
		"a clock before the root": {func(r *room, i ceremony.Issue) ceremony.Issue { r.now = noon.Add(-year); return i }, "issuer-not-yet-valid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, policies.KeyECP256)
			good := ceremony.Issue{CSR: r.request("good.csr"), Addresses: published}
			if err := r.session("good").Issue(t.Context(), r.root(), good); err != nil {
				t.Fatal(err)
			}
			err := r.session("bad").Issue(t.Context(), r.root(), c.spoil(r, good))
			refused(t, r, err, c.rule)
		})
	}
}

// refused wants the rule, and an empty folder.
func refused(t *testing.T, r *room, err error, rule string) {
	t.Helper()
	if fault.RuleOf(err) != rule {
		t.Fatalf("err = %v, want rule %q", err, rule)
	}
	if left, _ := os.ReadDir(r.path("bad")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestACRLGoesOnFromItsRootsOwnAlone(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*room, ceremony.CRL) ceremony.CRL
		rule  string
	}{
		"a previous CRL of another root": {func(r *room, c ceremony.CRL) ceremony.CRL {
			c.Previous = newRoom(r.t, policies.KeyECP256).path("root/root.crl")
			return c
		}, "previous-crl-issuer"},
		"a previous CRL with a byte changed": {func(r *room, c ceremony.CRL) ceremony.CRL {
			der := r.read("root/root.crl")
			der[len(der)-1] ^= 1
			c.Previous = r.write("changed.crl", der)
			return c
		}, "previous-crl-issuer"},
		"a certificate in the CRL's place": {func(r *room, c ceremony.CRL) ceremony.CRL { c.Previous = r.path("root/root.crt"); return c }, "input-file"},
		"a delta CRL": {func(r *room, c ceremony.CRL) ceremony.CRL {
			c.Previous = r.forgedCRL(func(l *x509.RevocationList) {
				l.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
			})
			return c
		}, "previous-crl-kind"},
		"a number without end": {func(r *room, c ceremony.CRL) ceremony.CRL {
			c.Previous = r.forgedCRL(func(l *x509.RevocationList) { l.Number = new(big.Int).Lsh(big.NewInt(1), 100) })
			return c
		}, "previous-crl-kind"},
		"an entry on hold": {func(r *room, c ceremony.CRL) ceremony.CRL {
			c.Previous = r.forgedCRL(func(l *x509.RevocationList) {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: noon, ReasonCode: 6}}
			})
			return c
		}, "previous-crl-kind"},
		"a clock before the previous CRL": {func(r *room, c ceremony.CRL) ceremony.CRL { r.now = noon.Add(-time.Minute); return c }, "clock-behind"},
		"a root that has expired":         {func(r *room, c ceremony.CRL) ceremony.CRL { r.now = noon.Add(21 * year); return c }, "issuer-expiring"},
		"a life too short":                {func(_ *room, c ceremony.CRL) ceremony.CRL { c.Lifetime = time.Minute; return c }, "crl-lifetime"},
		"a hold":                          {func(_ *room, c ceremony.CRL) ceremony.CRL { c.Reason = "certificateHold"; return c }, "reason-not-permanent"},
		"a revocation once more":          {func(r *room, c ceremony.CRL) ceremony.CRL { c.Previous = r.path("good/root.crl"); return c }, "already-revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, policies.KeyECP256)
			good := ceremony.CRL{Previous: r.path("root/root.crl"), Serial: "0102", Reason: ca.Superseded, Lifetime: year}
			if err := r.session("good").Publish(t.Context(), r.root(), good); err != nil {
				t.Fatal(err)
			}
			refused(t, r, r.session("bad").Publish(t.Context(), r.root(), c.spoil(r, good)), c.rule)
		})
	}
}

// forgedCRL is one of the root's own that no ceremony would make.
func (r *room) forgedCRL(edit func(*x509.RevocationList)) string {
	r.t.Helper()
	key, err := r.keys.Open(context.Background(), "softkms:root-key.pem")
	if err != nil {
		r.t.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: noon, NextUpdate: noon.Add(year)}
	edit(list)
	der, err := x509.CreateRevocationList(rand.Reader, list, r.certificate("root/root.pem"), key)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.write("forged.crl", der)
}

func TestARootIsTakenUpOnlyWithItsOwnKeyAndCertificate(t *testing.T) {
	r := newRoom(t, policies.KeyECP256)
	other := newRoom(t, policies.KeyECP256)
	if err := r.issue("good"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*ceremony.RootFiles)
		rule  string
	}{
		"another root's key":         {func(f *ceremony.RootFiles) { f.Keys = other.keys }, "issuer-key-mismatch"},
		"another root's certificate": {func(f *ceremony.RootFiles) { f.Certificate = other.path("root/root.pem") }, "issuer-key-mismatch"},
		"an issuing CA's":            {func(f *ceremony.RootFiles) { f.Certificate = r.path("good/issuing.pem") }, "issuer-not-root"},
		"no certificate":             {func(f *ceremony.RootFiles) { f.Certificate = r.path("good.csr") }, "input-file"},
		"a key that is not there":    {func(f *ceremony.RootFiles) { f.KeyURI = "softkms:gone.pem" }, "key-missing"},
	} {
		t.Run(name, func(t *testing.T) {
			by := r.root()
			c.spoil(&by)
			refused(t, r, r.session("bad").Issue(t.Context(), by, ceremony.Issue{CSR: r.path("good.csr"), Addresses: published}), c.rule)
		})
	}
}

func TestNoFileIsReplacedAndNoKeyMadeForNothing(t *testing.T) {
	for _, name := range []string{"root-key.pem", "root.pem", "root.crt", "root.crl", ceremony.TranscriptFile} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			handout, err := keys.HandOut(filepath.Join(dir, ceremony.RootKeyFile), []byte("correct horse battery"))
			if err != nil {
				t.Fatal(err)
			}
			r := &room{t: t, dir: filepath.Dir(dir), now: noon}
			err = r.session(filepath.Base(dir)).Root(t.Context(), handout, ca.RootRequest{Name: "Test Root"}, year)
			if fault.RuleOf(err) != "file-exists" {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
			if data, _ := os.ReadFile(filepath.Join(dir, name)); string(data) != "mine" {
				t.Errorf("it reads %q now", data)
			}
		})
	}
}

func TestARootThatCannotBeMadeLeavesNoKey(t *testing.T) {
	for name, c := range map[string]struct {
		request ca.RootRequest
		crl     time.Duration
		people  ceremony.People
		rule    string
	}{
		"without a name":              {ca.RootRequest{}, year, ceremony.People{Holders: []string{"Ann"}}, "issuer-name"},
		"of a life too long":          {ca.RootRequest{Name: "x", Lifetime: 60 * year}, year, ceremony.People{Holders: []string{"Ann"}}, "issuer-lifetime"},
		"of an unknown key type":      {ca.RootRequest{Name: "x", KeyType: "EC-P224"}, year, ceremony.People{Holders: []string{"Ann"}}, "key-type-not-allowed"},
		"with a CRL of a minute":      {ca.RootRequest{Name: "x"}, time.Minute, ceremony.People{Holders: []string{"Ann"}}, "crl-lifetime"},
		"by nobody":                   {ca.RootRequest{Name: "x"}, year, ceremony.People{}, "ceremony-people"},
		"by one person in two roles":  {ca.RootRequest{Name: "x"}, year, ceremony.People{Holders: []string{"Ann"}, Witnesses: []string{"ann"}}, "ceremony-people"},
		"by a name that is not shown": {ca.RootRequest{Name: "x"}, year, ceremony.People{Holders: []string{"Ann\n"}}, "ceremony-people"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &room{t: t, dir: t.TempDir(), now: noon}
			handout, err := keys.HandOut(r.path("bad/root-key.pem"), []byte("correct horse battery"))
			if err != nil {
				t.Fatal(err)
			}
			s := r.session("bad")
			s.People = c.people
			refused(t, r, s.Root(t.Context(), handout, c.request, c.crl), c.rule)
		})
	}
}

func TestAKeyOfTwoPeopleOpensForBothInTheirOrder(t *testing.T) {
	ann, bob := []byte("first person's words"), []byte("second person's words")
	join := func(entered ...[]byte) []byte {
		t.Helper()
		joined, err := ceremony.JoinPassphrases(entered)
		if err != nil {
			t.Fatal(err)
		}
		return joined
	}
	if got := string(join(ann, bob)); got != "20:first person's words,21:second person's words," {
		t.Fatalf("joined: %q", got)
	}
	dir := t.TempDir()
	made, err := keys.OpenFolder(dir, join(ann, bob))
	if err != nil {
		t.Fatal(err)
	}
	uri, _, err := made.Create(t.Context(), "root-key", policies.KeyECP256)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		passphrase []byte
		rule       string
	}{
		"both":                   {join(ann, bob), ""},
		"the first alone":        {join(ann), "key-passphrase"},
		"the second alone":       {join(bob), "key-passphrase"},
		"both, the second first": {join(bob, ann), "key-passphrase"},
		"both run together":      {append(append([]byte{}, ann...), bob...), "key-passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, err := keys.OpenFolder(dir, c.passphrase)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := folder.Open(t.Context(), uri); fault.RuleOf(err) != c.rule {
				t.Fatalf("err = %v, want rule %q", err, c.rule)
			}
		})
	}
	openssl(t, true, "pkey", "-in", filepath.Join(dir, "root-key.pem"), "-passin", "pass:20:first person's words,21:second person's words,", "-noout")
	for name, c := range map[string]struct {
		entered [][]byte
		rule    string
	}{
		"a short half":    {[][]byte{ann, []byte("short")}, "passphrase"},
		"one half twice":  {[][]byte{ann, ann}, "passphrase-repeated"},
		"an empty one":    {[][]byte{nil}, "passphrase"},
		"a short one":     {[][]byte{[]byte("short")}, "passphrase"},
		"two good halves": {[][]byte{ann, bob}, ""},
		"one good one":    {[][]byte{ann}, ""},
	} {
		if _, err := ceremony.JoinPassphrases(c.entered); fault.RuleOf(err) != c.rule {
			t.Errorf("%s: %v, want rule %q", name, err, c.rule)
		}
	}
}
