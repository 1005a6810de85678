package ca_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

func TestCertificatesOfEveryKeyTypeStandBeforeOpenSSLAndTheLinter(t *testing.T) {
	for _, issuerKey := range []policies.KeyType{
		policies.KeyECP256, policies.KeyECP384, policies.KeyECP521, policies.KeyEd25519, policies.KeyRSA2048,
	} {
		t.Run("issuer "+string(issuerKey), func(t *testing.T) {
			t.Parallel()
			w, root, issuing := newHierarchy(t, issuerKey)
			w.sweep(t)
			lintClean(t, root.Certificate)
			lintClean(t, issuing.Certificate)
			for _, kt := range []policies.KeyType{
				policies.KeyECP256, policies.KeyECP384, policies.KeyECP521, policies.KeyEd25519, policies.KeyRSA2048,
			} {
				c, leaf := w.enroll(t, "line-3.press:07", deviceKey(t, kt), allKeys())
				lintClean(t, c.DER)
				if out, good := w.opensslVerify(t, c); !good {
					t.Errorf("device %s: %s", kt, out)
				}
				if !w.IsOurs(leaf) {
					t.Errorf("device %s: not recognized as ours", kt)
				}
			}
		})
	}
}

func TestADeviceCertificateHoldsWhatTheProfileSaysAndNoMore(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	hostile, _ := url.Parse("https://evil.example")
	basicCA, _ := asn1.Marshal(struct{ CA bool }{true})
	csr := requestFor(t, &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "Press-07", Organization: []string{"Evil"}, SerialNumber: "1"},
		DNSNames:       []string{"evil.example"},
		EmailAddresses: []string{"root@evil.example"},
		IPAddresses:    []net.IP{net.IPv4(10, 0, 0, 1)},
		URIs:           []*url.URL{hostile},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: basicCA},
			{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}},
		},
	}, key)
	parent := verify.ThumbprintOf([]byte("the factory leaf"))
	u, err := w.Issue(t.Context(), identity(t, "press-07"), csr, policies.DefaultProfile(), parent, w.now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.record(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(c.DER)

	if got := leaf.Subject.String(); got != "CN=Press-07" {
		t.Errorf("subject %q, want the id as the request spells it and nothing else", got)
	}
	if !slices.Equal(leaf.DNSNames, []string{"Press-07"}) || leaf.EmailAddresses != nil || leaf.IPAddresses != nil || leaf.URIs != nil {
		t.Errorf("alternative names %v %v %v %v", leaf.DNSNames, leaf.EmailAddresses, leaf.IPAddresses, leaf.URIs)
	}
	var extensions []string
	for _, e := range leaf.Extensions {
		extensions = append(extensions, e.Id.String())
	}
	slices.Sort(extensions)
	want := []string{
		"1.3.6.1.5.5.7.1.1", "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.31", "2.5.29.35", "2.5.29.37",
	}
	if !slices.Equal(extensions, want) {
		t.Errorf("extensions %v, want %v", extensions, want)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("powers: CA %v, usage %v %v", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	base := "http://pki.example/pki/" + string(issuing.ID)
	if !slices.Equal(leaf.IssuingCertificateURL, []string{base + ".crt"}) || !slices.Equal(leaf.CRLDistributionPoints, []string{base + "/1.crl"}) {
		t.Errorf("addresses %v %v", leaf.IssuingCertificateURL, leaf.CRLDistributionPoints)
	}
	if !leaf.NotBefore.Equal(noon.Add(-5*time.Minute)) || leaf.NotAfter.Sub(leaf.NotBefore) != 90*24*time.Hour {
		t.Errorf("validity %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if b := leaf.SerialNumber.Bytes(); len(b) != 20 || b[0] >= 0x80 {
		t.Errorf("serial %x", b)
	}

	row := ca.Certificate{
		Issuer: issuing.ID, Serial: ca.SerialOf(leaf.SerialNumber), Thumbprint: verify.ThumbprintOf(leaf.Raw),
		KeyHash: verify.KeyHashOf(leaf.RawSubjectPublicKeyInfo), RegistrationID: identity(t, "press-07").ID(), Parent: parent,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Issued: noon, Shard: 1,
	}
	got := c
	got.DER = nil
	if !bytes.Equal(c.DER, leaf.Raw) || !equal(got, row) {
		t.Errorf("row %+v\nwant %+v", got, row)
	}
	if u.Serial() != c.Serial || u.Thumbprint() != c.Thumbprint || u.KeyHash() != c.KeyHash || u.Issuer() != c.Issuer ||
		!u.NotBefore().Equal(c.NotBefore) || !u.NotAfter().Equal(c.NotAfter) {
		t.Error("what was planned with is not what is on record")
	}
}

func equal(a, b ca.Certificate) bool {
	a.DER, b.DER = nil, nil
	ja, _ := json.Marshal(a)
	jb, _ := json.Marshal(b)
	return bytes.Equal(ja, jb) && a.RegistrationID == b.RegistrationID
}

func TestKeyUsageIsConsistentWithTheProfilesPurposes(t *testing.T) {
	const sign, transport = x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment
	w, _, _ := newHierarchy(t, "")
	tests := map[string]struct {
		purposes []x509.ExtKeyUsage
		key      policies.KeyType
		want     x509.KeyUsage
	}{
		"client, RSA":            {[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, policies.KeyRSA2048, sign},
		"server, RSA":            {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, policies.KeyRSA2048, sign | transport},
		"server, EC":             {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, policies.KeyECP256, sign},
		"client and server, RSA": {[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, policies.KeyRSA2048, sign | transport},
		"client and server, EC":  {[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, policies.KeyECP256, sign},
		"mail, RSA":              {[]x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, policies.KeyRSA2048, sign | transport},
		"code, EC":               {[]x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, policies.KeyECP384, sign},
		"IPsec, EC":              {[]x509.ExtKeyUsage{x509.ExtKeyUsageIPSECUser}, policies.KeyECP256, sign},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := policies.DefaultProfile()
			p.ExtKeyUsage = tt.purposes
			c, leaf := w.enroll(t, "dev", deviceKey(t, tt.key), p)
			lintClean(t, c.DER)
			if leaf.KeyUsage != tt.want {
				t.Errorf("key usage %b, want %b", leaf.KeyUsage, tt.want)
			}
		})
	}
}

func TestAnIdBecomesAHostNameOnlyWhereItIsOne(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	long := strings.Repeat("a", 64)
	tests := map[string]bool{
		"press-07":            true,
		"press-07.line-3":     true,
		"7":                   true,
		long[:63]:             true,
		long:                  false, // a label of 64
		"line_3":              false,
		"urn:dev:7":           false,
		"ends-":               false,
		"-starts":             false,
		"two..dots":           false,
		"a.-b":                false,
		"192.168.0.1":         false,
		"::1":                 false,
		"xn--nxasmq6b":        false,
		"ab--cd":              false,
		"sub.xn--nxasmq6b.se": false,
	}
	for id, named := range tests {
		t.Run(id, func(t *testing.T) {
			c, leaf := w.enroll(t, id, key, policies.DefaultProfile())
			lintClean(t, c.DER)
			if leaf.Subject.CommonName != id || (len(leaf.DNSNames) == 1) != named {
				t.Errorf("CN %q, DNS names %v", leaf.Subject.CommonName, leaf.DNSNames)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	p256 := deviceKey(t, policies.KeyECP256)
	good := policies.DefaultProfile()
	tooLong := strings.Repeat("a", 65)
	weak := request(t, "dev", p256)
	weak.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	twice := request(t, "dev", p256)
	twice.RawSubjectPublicKeyInfo = append(bytes.Clone(twice.RawSubjectPublicKeyInfo), 0)
	with := func(change func(*policies.Profile)) policies.Profile {
		p := policies.DefaultProfile()
		change(&p)
		return p
	}
	tests := map[string]struct {
		id   verify.Identity
		csr  *x509.CertificateRequest
		p    policies.Profile
		now  time.Time
		kind fault.Kind
		rule string
	}{
		"nobody":                {verify.Identity{}, request(t, "dev", p256), good, noon, fault.Unauthenticated, "identity-missing"},
		"no request":            {identity(t, "dev"), nil, good, noon, fault.Malformed, "csr-missing"},
		"another device's name": {identity(t, "dev"), request(t, "dev2", p256), good, noon, fault.Malformed, "csr-names-other-device"},
		"no name":               {identity(t, "dev"), request(t, "", p256), good, noon, fault.Malformed, "csr-names-other-device"},
		"a name of 65":          {identity(t, tooLong), request(t, tooLong, p256), good, noon, fault.Malformed, "csr-name-length"},
		"a key type too many":   {identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyEd25519)), good, noon, fault.Malformed, "key-type-not-allowed"},
		"a small key":           {identity(t, "dev"), weak, good, noon, fault.Malformed, "key-too-small"},
		"a second encoding":     {identity(t, "dev"), twice, good, noon, fault.Malformed, "key-malformed"},
		"before the issuer":     {identity(t, "dev"), request(t, "dev", p256), good, noon.Add(-time.Hour), fault.Unavailable, "issuer-not-yet-valid"},
		"at the issuer's end":   {identity(t, "dev"), request(t, "dev", p256), good, noon.Add(5*365*24*time.Hour - time.Minute), fault.Unavailable, "issuer-expiring"},
		"a profile of responders": {
			identity(t, "dev"), request(t, "dev", p256),
			with(func(p *policies.Profile) { p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }),
			noon, fault.Unavailable, "certificate-lint",
		},
		"a profile of anything": {
			identity(t, "dev"), request(t, "dev", p256),
			with(func(p *policies.Profile) { p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
			noon, fault.Unavailable, "certificate-lint",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u, err := w.Issue(t.Context(), tt.id, tt.csr, tt.p, verify.Thumbprint{}, tt.now)
			if fault.KindOf(err) != tt.kind || fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v (%s), want %v %q", err, fault.RuleOf(err), tt.kind, tt.rule)
			}
			if _, err := w.record(t.Context(), u); fault.RuleOf(err) != "nothing-to-record" {
				t.Fatalf("recording it: %v", err)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Issue(ended, identity(t, "dev"), request(t, "dev", p256), good, verify.Thumbprint{}, noon); !errors.Is(err, context.Canceled) {
		t.Fatalf("a caller who has left: %v", err)
	}
}

func TestNoCertificateOutlivesItsIssuer(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	issuer, _ := x509.ParseCertificate(issuing.Certificate)
	for _, before := range []time.Duration{2 * time.Hour, 24 * time.Hour, 89 * 24 * time.Hour, 91 * 24 * time.Hour} {
		w.now = issuer.NotAfter.Add(-before)
		u := w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
		if u.NotAfter().After(issuer.NotAfter) || u.NotBefore().Before(issuer.NotBefore) {
			t.Errorf("%v before the end: %v to %v", before, u.NotBefore(), u.NotAfter())
		}
	}
	w.now = noon // the issuer's first day: backdating stops at its notBefore
	p := policies.DefaultProfile()
	p.Backdate = time.Hour
	if u := w.issue(t, "dev", deviceKey(t, policies.KeyECP256), p); u.NotBefore().Before(issuer.NotBefore) {
		t.Errorf("notBefore %v", u.NotBefore())
	}
}

func TestACrashLeavesAllOrNothing(t *testing.T) {
	boom := errors.New("power cut")
	tests := map[string]struct {
		arm  func(*memStore)
		kept int
	}{
		"before the commit: nothing":                {func(s *memStore) { s.beforeCommit = func() error { return boom } }, 0},
		"after the commit, answer lost: everything": {func(s *memStore) { s.afterCommit = func() error { return boom } }, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, _, _ := newHierarchy(t, "")
			u := w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
			certificates, entries := len(w.store.read().certificates), len(w.store.read().ledger)
			tt.arm(w.store)
			if _, err := w.record(t.Context(), u); !errors.Is(err, boom) {
				t.Fatalf("err = %v", err)
			}
			r := w.store.read()
			if len(r.certificates)-certificates != tt.kept || len(r.ledger)-entries != tt.kept {
				t.Errorf("%d certificates and %d entries are left", len(r.certificates)-certificates, len(r.ledger)-entries)
			}
		})
	}
}

func TestASerialThatIsTakenIsIssuedAnew(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	u := w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	first, err := w.record(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.record(t.Context(), u); fault.RuleOf(err) != "serial-taken" || !fault.Is(err, fault.Conflict) {
		t.Fatalf("the same serial again: %v", err)
	}
	second, err := w.record(t.Context(), w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile()))
	if err != nil || second.Serial == first.Serial {
		t.Fatalf("issued anew: %v, %v", second.Serial, err)
	}
	wantActions(t, w.store, audit.IssuerCreated, audit.IssuerCreated, audit.Issued, audit.CRLPublished, audit.Issued, audit.Issued)
}

func TestTheLedgerEntryKeepsTheCallersWordsAndAddsTheFacts(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	u := w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	facts := map[string]any{
		"issuer": string(issuing.ID), "serial": string(u.Serial()), "sha256": u.Thumbprint().String(),
		"notAfter": u.NotAfter().Format(time.RFC3339),
	}
	with := func(key string, value any) map[string]any {
		m := map[string]any{key: value}
		for k, v := range facts {
			m[k] = v
		}
		return m
	}
	later := noon.Add(time.Minute)
	tests := map[string]struct {
		given, want audit.Event
		body        map[string]any
	}{
		"nothing given": {
			audit.Event{Actor: "device:dev"},
			audit.Event{At: noon, Actor: "device:dev", Action: audit.Issued, Subject: "dev"}, facts,
		},
		"an empty object given": {
			audit.Event{Actor: "device:dev", Body: []byte("{}")},
			audit.Event{At: noon, Actor: "device:dev", Action: audit.Issued, Subject: "dev"}, facts,
		},
		"everything given": {
			audit.Event{At: later, Actor: "device:dev", Action: audit.Registered, Subject: "registration dev", Body: audit.Body(map[string]any{"hub": "h1"})},
			audit.Event{At: later, Actor: "device:dev", Action: audit.Registered, Subject: "registration dev"}, with("hub", "h1"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			given := bytes.Clone(tt.given.Body)
			tx := &rows{}
			if _, err := ca.Record(tx, u, tt.given); err != nil {
				t.Fatal(err)
			}
			got := tx.ledger[0]
			var body map[string]any
			if err := json.Unmarshal(got.Body, &body); err != nil {
				t.Fatalf("%s: %v", got.Body, err)
			}
			if !equalJSON(body, tt.body) {
				t.Errorf("body %v, want %v", body, tt.body)
			}
			if got.At != tt.want.At || got.Actor != tt.want.Actor || got.Action != tt.want.Action || got.Subject != tt.want.Subject {
				t.Errorf("entry %+v, want %+v", got, tt.want)
			}
			if !bytes.Equal(given, tt.given.Body) {
				t.Error("the caller's body has changed")
			}
		})
	}
	if _, err := ca.Record(&rows{}, u, audit.Event{Body: []byte("text")}); fault.RuleOf(err) != "audit-body" {
		t.Errorf("a body that is no object: %v", err)
	}
}

func equalJSON(a, b map[string]any) bool {
	ja, _ := json.Marshal(a)
	jb, _ := json.Marshal(b)
	return bytes.Equal(ja, jb)
}

func TestManyIssueAtOnce(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	who, csr := identity(t, "dev"), request(t, "dev", key)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				u, err := w.Issue(t.Context(), who, csr, policies.DefaultProfile(), verify.Thumbprint{}, noon)
				if err == nil {
					_, err = w.record(t.Context(), u)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 5 {
			if err := w.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			if err := w.SweepCRLs(t.Context()); err != nil {
				t.Error(err)
			}
			w.Chain(issuing.ID)
			w.Bundle()
		}
	})
	all.Wait()
	if n := len(w.store.read().certificates); n != 41 { // the issuing CA's own among them
		t.Errorf("%d certificates on record, want 41", n)
	}
}
