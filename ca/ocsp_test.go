package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
)

// newResponding is a hierarchy whose issuing CA has an OCSP responder.
func newResponding(t testing.TB, kt policies.KeyType) (w *world, issuing ca.Issuer) {
	t.Helper()
	w, _, issuing = newHierarchy(t, kt)
	w.box = newBox(t)
	w.Authority = w.replica(t)
	if err := w.SweepStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, issuing
}

func newBox(t testing.TB) *seal.Box {
	t.Helper()
	kek, err := seal.CreateKEK(filepath.Join(t.TempDir(), "kek.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return seal.NewBox(kek)
}

func (w *world) question(t testing.TB, id ca.IssuerID, serial *big.Int, h crypto.Hash) []byte {
	t.Helper()
	issuer, err := w.IssuerCertificate(id)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &ocsp.RequestOptions{Hash: h})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// ask asks an authority and checks the answer's signature and chain.
func (w *world) ask(t testing.TB, a *ca.Authority, id ca.IssuerID, der []byte) (ca.OCSPAnswer, *ocsp.Response) {
	t.Helper()
	q, err := ca.ParseOCSPRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.AnswerOCSP(t.Context(), q, "")
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := w.IssuerCertificate(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ocsp.ParseResponse(answer.DER, issuer)
	if err != nil {
		t.Fatal(err)
	}
	if !got.ThisUpdate.Equal(answer.ThisUpdate) || !got.NextUpdate.Equal(answer.NextUpdate) {
		t.Errorf("dates %v to %v, said %v to %v", got.ThisUpdate, got.NextUpdate, answer.ThisUpdate, answer.NextUpdate)
	}
	return answer, got
}

func TestAnOCSPAnswerSaysWhatTheInventorySays(t *testing.T) {
	for _, kt := range []policies.KeyType{policies.KeyECP256, policies.KeyECP384, "RSA-2048", policies.KeyEd25519} {
		t.Run(string(kt), func(t *testing.T) {
			w, issuing := newResponding(t, kt)
			c, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
			if want := []string{"http://pki.example/ocsp/" + string(issuing.ID)}; !slices.Equal(leaf.OCSPServer, want) {
				t.Errorf("address %v, want %v", leaf.OCSPServer, want)
			}
			lintClean(t, leaf.Raw)
			for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				answer, got := w.ask(t, w.Authority, issuing.ID, w.question(t, issuing.ID, leaf.SerialNumber, h))
				if got.Status != ocsp.Good || answer.Status != "good" || got.SerialNumber.Cmp(leaf.SerialNumber) != 0 || got.IssuerHash != h || !got.NextUpdate.Equal(noon.Add(12*time.Hour)) {
					t.Errorf("%v: %+v", h, got)
				}
			}
			other := w.replica(t)
			der := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
			w.ask(t, other, issuing.ID, der) // so that it has an answer to give again
			w.now = w.now.Add(time.Minute)
			if err := w.revoke(t.Context(), c, ca.Superseded); err != nil {
				t.Fatal(err)
			}
			for _, a := range []*ca.Authority{w.Authority, other} {
				answer, got := w.ask(t, a, issuing.ID, der)
				if got.Status != ocsp.Revoked || answer.Status != "revoked" || got.RevocationReason != ocsp.Superseded || !got.RevokedAt.Equal(w.now) {
					t.Errorf("the first answer after the commit: %+v", got)
				}
			}
			if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
			if _, got := w.ask(t, other, issuing.ID, der); got.RevocationReason != ocsp.KeyCompromise {
				t.Errorf("the stronger reason: %+v", got)
			}
			for _, never := range []*big.Int{big.NewInt(7), new(big.Int).Lsh(big.NewInt(1), 159), new(big.Int).Lsh(big.NewInt(1), 400), big.NewInt(0), big.NewInt(-5)} {
				answer, got := w.ask(t, w.Authority, issuing.ID, w.question(t, issuing.ID, never, crypto.SHA256))
				if got.Status != ocsp.Unknown || answer.Status != "unknown" || got.SerialNumber.Cmp(never) != 0 || got.NextUpdate.After(w.now.Add(5*time.Minute)) {
					t.Errorf("serial %v: %+v (INV-S7)", never, got)
				}
			}
		})
	}
}

func TestAnAnswerIsGivenAgainUntilHalfItsLifeIsOver(t *testing.T) {
	w, issuing := newResponding(t, "")
	_, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	der := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
	first, _ := w.ask(t, w.Authority, issuing.ID, der)
	for _, step := range []struct {
		what string
		at   time.Duration
		same bool
	}{
		{"a moment later", time.Second, true},
		{"just before half its life is over", 6*time.Hour - time.Second, true},
		{"at half its life", 6 * time.Hour, false},
		{"a clock that went back before it was signed", -time.Minute, false},
	} {
		w.now = first.ThisUpdate.Add(step.at)
		again, _ := w.ask(t, w.Authority, issuing.ID, der)
		if bytes.Equal(again.DER, first.DER) != step.same || again.ThisUpdate.After(w.now) || !again.NextUpdate.After(w.now) {
			t.Errorf("%s: the same %v, from %v to %v", step.what, !step.same, again.ThisUpdate, again.NextUpdate)
		}
		w.now = first.ThisUpdate
		first, _ = w.ask(t, w.Authority, issuing.ID, der)
	}
}

func TestARowIsReadAgainWhereSomethingMayHaveChanged(t *testing.T) {
	for name, shared := range map[string]bool{"one process writes": false, "several do": true} {
		t.Run(name, func(t *testing.T) {
			w, issuing := newResponding(t, "")
			c, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
			other, _ := w.enroll(t, "other", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
			der := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
			w.store.shared = shared
			reads := func() int {
				before := w.store.views
				if _, got := w.ask(t, w.Authority, issuing.ID, der); got.Status != ocsp.Good {
					t.Errorf("%+v", got)
				}
				return w.store.views - before
			}
			reads() // the responder's row too
			again := 0
			if shared {
				again = 1
			}
			if got := reads(); got != again {
				t.Errorf("%d reads, want %d", got, again)
			}
			if err := w.revoke(t.Context(), other, ca.Superseded); err != nil {
				t.Fatal(err)
			}
			for i, want := range []int{1, again} {
				if got := reads(); got != want {
					t.Errorf("answer %d after another was revoked: %d reads, want %d", i, got, want)
				}
			}
			// What is committed behind the back of a read is seen by the next answer.
			w.store.afterView = func() {
				w.store.afterView = nil
				if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
					t.Error(err)
				}
			}
			if err := w.revoke(t.Context(), other, ca.KeyCompromise); err != nil { // so that there is a read
				t.Fatal(err)
			}
			if reads(); w.store.afterView != nil {
				t.Fatal("the row was not read")
			}
			if _, got := w.ask(t, w.Authority, issuing.ID, der); got.Status != ocsp.Revoked {
				t.Errorf("after the commit: %+v", got)
			}
		})
	}
}

func TestANonceIsAnsweredAndSuchAnAnswerIsNeverGivenAgain(t *testing.T) {
	w, issuing := newResponding(t, "")
	_, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	plain := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
	value := append([]byte{0x04, 0x10}, []byte("0123456789abcdef")...)
	asked := withExtensions(t, plain, extension(oidNonce, false, value))
	w.ask(t, w.Authority, issuing.ID, plain)
	a, _ := w.ask(t, w.Authority, issuing.ID, asked)
	b, _ := w.ask(t, w.Authority, issuing.ID, asked)
	if !bytes.Contains(a.DER, value) || bytes.Equal(a.DER, b.DER) {
		t.Error("the nonce is not in the answer, or the answer was given again")
	}
	if c, _ := w.ask(t, w.Authority, issuing.ID, plain); bytes.Contains(c.DER, value) {
		t.Error("a nonce that nobody asked for")
	}
}

var (
	oidNonce  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOther  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 4}
	zeroNonce = []byte{0x04, 0x00}
)

func extension(id asn1.ObjectIdentifier, critical bool, value []byte) any {
	return struct {
		ID       asn1.ObjectIdentifier
		Critical bool `asn1:"optional"`
		Value    []byte
	}{id, critical, value}
}

// withExtensions adds request extensions to a request that has none.
func withExtensions(t testing.TB, request []byte, extensions ...any) []byte {
	t.Helper()
	return edited(t, request, func(tbs []asn1.RawValue) []asn1.RawValue {
		list := must(asn1.Marshal(extensions))(t)
		return append(tbs, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: list})
	})
}

// edited changes the members of a request's tbsRequest.
func edited(t testing.TB, request []byte, edit func([]asn1.RawValue) []asn1.RawValue) []byte {
	t.Helper()
	var outer, tbs []asn1.RawValue
	if _, err := asn1.Unmarshal(request, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer[0].FullBytes, &tbs); err != nil {
		t.Fatal(err)
	}
	outer[0] = asn1.RawValue{FullBytes: must(asn1.Marshal(edit(tbs)))(t)}
	return must(asn1.Marshal(outer))(t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestARequestIsReadStrictly(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	good := w.question(t, issuing.ID, big.NewInt(0x1234), crypto.SHA1)
	nonce := func(n int) []byte { return must(asn1.Marshal(bytes.Repeat([]byte{7}, n)))(t) }
	explicit := func(tag int, inner any) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: must(asn1.Marshal(inner))(t)}
	}
	first := func(v asn1.RawValue) func([]asn1.RawValue) []asn1.RawValue {
		return func(tbs []asn1.RawValue) []asn1.RawValue { return append([]asn1.RawValue{v}, tbs...) }
	}
	questions := func(edit func([]asn1.RawValue) []asn1.RawValue) func([]asn1.RawValue) []asn1.RawValue {
		return func(tbs []asn1.RawValue) []asn1.RawValue {
			var list []asn1.RawValue
			if _, err := asn1.Unmarshal(tbs[0].FullBytes, &list); err != nil {
				t.Fatal(err)
			}
			tbs[0] = asn1.RawValue{FullBytes: must(asn1.Marshal(edit(list)))(t)}
			return tbs
		}
	}
	tests := map[string]struct {
		der  []byte
		rule string
	}{
		"as libraries make it":                           {good, ""},
		"version 1, said":                                {edited(t, good, first(explicit(0, 0))), ""},
		"version 2":                                      {edited(t, good, first(explicit(0, 1))), "ocsp-request"},
		"a version that is no number":                    {edited(t, good, first(explicit(0, "x"))), "ocsp-request"},
		"who asks":                                       {edited(t, good, first(explicit(1, []int{}))), ""},
		"a nonce of one octet":                           {withExtensions(t, good, extension(oidNonce, false, nonce(1))), ""},
		"a nonce of 128 octets, critical":                {withExtensions(t, good, extension(oidNonce, true, nonce(128))), ""},
		"a nonce of 129 octets":                          {withExtensions(t, good, extension(oidNonce, false, nonce(129))), "ocsp-nonce"},
		"an empty nonce":                                 {withExtensions(t, good, extension(oidNonce, false, zeroNonce)), "ocsp-nonce"},
		"a nonce that is no octet string":                {withExtensions(t, good, extension(oidNonce, false, []byte("bare"))), "ocsp-nonce"},
		"two nonces":                                     {withExtensions(t, good, extension(oidNonce, false, nonce(8)), extension(oidNonce, false, nonce(9))), "ocsp-nonce"},
		"another extension":                              {withExtensions(t, good, extension(oidOther, false, nil)), ""},
		"another extension that is critical":             {withExtensions(t, good, extension(oidOther, true, nil)), "ocsp-extension"},
		"an empty list of extensions":                    {withExtensions(t, good), "ocsp-request"},
		"two certificates":                               {edited(t, good, questions(func(l []asn1.RawValue) []asn1.RawValue { return append(l, l[0]) })), "ocsp-several"},
		"no certificate":                                 {edited(t, good, questions(func([]asn1.RawValue) []asn1.RawValue { return nil })), "ocsp-several"},
		"a question that is none":                        {edited(t, good, questions(func(l []asn1.RawValue) []asn1.RawValue { l[0] = explicit(0, 1); return l })), "ocsp-request"},
		"an octet behind it":                             {append(bytes.Clone(good), 0), "ocsp-request"},
		"cut short":                                      {good[:len(good)-1], "ocsp-request"},
		"nothing":                                        {nil, "ocsp-request"},
		"not ASN.1":                                      {[]byte("GET / HTTP/1.1"), "ocsp-request"},
		"longer than any request":                        {edited(t, good, first(explicit(1, make([]byte, ca.MaxOCSPRequest)))), "ocsp-request"},
		"a length of four gigabytes":                     {[]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, "ocsp-request"},
		"a hash algorithm with parameters":               {bytes.Replace(good, []byte{0x05, 0x00}, []byte{0x02, 0x00}, 1), "ocsp-request"},
		"a hash algorithm without parameters is allowed": {withoutNull(t, good), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ca.ParseOCSPRequest(tt.der); fault.RuleOf(err) != tt.rule || err != nil && !fault.Is(err, fault.Malformed) {
				t.Errorf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
}

// withoutNull leaves out the parameters of the hash algorithm.
func withoutNull(t *testing.T, request []byte) []byte {
	t.Helper()
	var r struct {
		TBS struct {
			List []struct {
				ID struct {
					Algorithm struct {
						ID     asn1.ObjectIdentifier
						Params asn1.RawValue `asn1:"optional"`
					}
					Name, Key []byte
					Serial    *big.Int
				}
			}
		}
	}
	if _, err := asn1.Unmarshal(request, &r); err != nil {
		t.Fatal(err)
	}
	r.TBS.List[0].ID.Algorithm.Params = asn1.RawValue{}
	return must(asn1.Marshal(r))(t)
}

func TestWhoIsNotAskedDoesNotAnswer(t *testing.T) {
	w, issuing := newResponding(t, "")
	_, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	stranger, strangers := newResponding(t, "")
	der := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
	tests := map[string]struct {
		der  []byte
		only ca.IssuerID
		rule string
	}{
		"by the hashes alone":              {der, "", ""},
		"at the issuer's own address":      {der, issuing.ID, ""},
		"at another's address":             {der, issuing.Parent, "ocsp-issuer"},
		"about another's certificate":      {stranger.question(t, strangers.ID, leaf.SerialNumber, crypto.SHA1), "", "ocsp-issuer"},
		"about a root's certificate":       {w.question(t, issuing.Parent, big.NewInt(1), crypto.SHA1), "", "ocsp-issuer"},
		"by a hash that nobody knows":      {bytes.Replace(der, []byte{0x2b, 0x0e, 0x03, 0x02, 0x1a}, []byte{0x2b, 0x0e, 0x03, 0x02, 0x1b}, 1), "", "ocsp-issuer"},
		"by name and key of SHA-256's oid": {bytes.Replace(der, []byte{0x2b, 0x0e, 0x03, 0x02, 0x1a}, []byte{0x2b, 0x0e, 0x03, 0x02, 0x12}, 1), "", "ocsp-issuer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			q, err := ca.ParseOCSPRequest(tt.der)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.AnswerOCSP(t.Context(), q, tt.only); fault.RuleOf(err) != tt.rule {
				t.Errorf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
}

func TestTheRespondersCertificateIsDelegatedRecordedAndRenewsItself(t *testing.T) {
	w, issuing := newResponding(t, "")
	_, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	der := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
	_, got := w.ask(t, w.Authority, issuing.ID, der)
	first := got.Certificate
	lintClean(t, first.Raw)
	if first.IsCA || !slices.Equal(first.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || !hasNoCheck(first) || first.NotAfter.Sub(noon) != 7*24*time.Hour {
		t.Errorf("usage %v, from %v to %v", first.ExtKeyUsage, first.NotBefore, first.NotAfter)
	}
	issuedTo := func() (n int) {
		for _, e := range w.store.read().ledger {
			if e.Action == audit.Issued && e.Actor == "job:ocsp" && e.Subject == "ocsp:"+string(issuing.ID) {
				n++
			}
		}
		return n
	}
	if row, err := w.store.read().Certificate(issuing.ID, ca.SerialOf(first.SerialNumber)); err != nil || !bytes.Equal(row.DER, first.Raw) || row.Shard != 0 || issuedTo() != 1 {
		t.Errorf("on record: %v, %d entries", err, issuedTo())
	}
	other := w.replica(t)
	for _, step := range []struct {
		what string
		at   time.Duration
		made int
	}{
		{"before half its life", 3 * 24 * time.Hour, 1},
		{"after half its life", 4 * 24 * time.Hour, 2},
		{"once more, which is too soon", 4*24*time.Hour + time.Minute, 2},
		{"after the sweep was away for a month", 34 * 24 * time.Hour, 3},
	} {
		w.now = noon.Add(step.at)
		if err := errors.Join(w.SweepResponders(t.Context()), other.SweepResponders(t.Context())); err != nil {
			t.Fatal(err)
		}
		if issuedTo() != step.made {
			t.Errorf("%s: %d responders made, want %d", step.what, issuedTo(), step.made)
		}
		for _, a := range []*ca.Authority{w.Authority, other} {
			if _, got := w.ask(t, a, issuing.ID, der); got.Status != ocsp.Good || !got.Certificate.NotAfter.After(w.now) || got.NextUpdate.After(got.Certificate.NotAfter) {
				t.Errorf("%s: answered by a certificate that ends %v", step.what, got.Certificate.NotAfter)
			}
		}
	}
	if _, got := w.ask(t, other, issuing.ID, der); got.Certificate.Equal(first) {
		t.Error("a replica never noticed the new responder")
	}
}

func hasNoCheck(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}) && bytes.Equal(e.Value, asn1.NullBytes)
	})
}

// lostKeys are keys that were opened, of a device that has gone since.
type lostKeys struct {
	ca.Keys
	gone atomic.Bool
}

func (k *lostKeys) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	signer, err := k.Keys.Open(ctx, uri)
	return lostSigner{signer, k}, err
}

type lostSigner struct {
	crypto.Signer
	keys *lostKeys
}

func (s lostSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.keys.gone.Load() {
		return nil, errors.New("token not present")
	}
	return s.Signer.Sign(rand, digest, opts)
}

func TestStatusGoesOnWithoutTheIssuersKey(t *testing.T) {
	w, issuing := newResponding(t, "")
	c, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	der := w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1)
	lost := &lostKeys{Keys: w.keys}
	a, err := ca.New(t.Context(), w.store, lost, ca.Config{PKIURL: "http://pki.example", StatusConfig: ca.StatusConfig{Box: w.box}}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	lost.gone.Store(true)
	if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if _, got := w.ask(t, a, issuing.ID, der); got.Status != ocsp.Revoked {
		t.Errorf("status %d", got.Status)
	}
	if err := a.SweepCRLs(t.Context()); fault.RuleOf(err) != "signing-failed" {
		t.Errorf("the sweep says %v", err)
	}
	if _, err := a.PublishedCRL(t.Context(), issuing.ID, 1); err != nil {
		t.Errorf("the CRL there was: %v", err)
	}
	w.now = w.now.Add(5 * 24 * time.Hour)
	if err := a.SweepResponders(t.Context()); fault.RuleOf(err) != "signing-failed" {
		t.Errorf("renewing the responder: %v", err)
	}
	if _, got := w.ask(t, a, issuing.ID, der); got.Status != ocsp.Revoked || got.NextUpdate.Before(w.now) {
		t.Errorf("on the fifth day: %d until %v", got.Status, got.NextUpdate)
	}
	w.now = w.now.Add(3 * 24 * time.Hour)
	q, _ := ca.ParseOCSPRequest(der)
	if _, err := a.AnswerOCSP(t.Context(), q, ""); fault.RuleOf(err) != "ocsp-responder" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("when the responder has ended: %v", err)
	}
}

func TestARespondersKeyOpensInItsRowAlone(t *testing.T) {
	w, issuing := newResponding(t, "")
	_, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	q, _ := ca.ParseOCSPRequest(w.question(t, issuing.ID, leaf.SerialNumber, crypto.SHA1))
	row := w.store.read().responders[0]
	if der, err := x509.ParsePKCS8PrivateKey(row.SealedKey); err == nil {
		t.Fatalf("the key stands there plainly: %T", der)
	}
	w.box = newBox(t)
	other := w.replica(t)
	if _, err := other.AnswerOCSP(t.Context(), q, ""); fault.RuleOf(err) != "sealed-by-other-key" {
		t.Errorf("with another KEK: %v", err)
	}
	if err := other.SweepResponders(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.AnswerOCSP(t.Context(), q, ""); err != nil {
		t.Errorf("after the sweep: %v", err)
	}
	w.box = nil
	without := w.replica(t)
	if _, err := without.AnswerOCSP(t.Context(), q, ""); fault.RuleOf(err) != "ocsp-responder" {
		t.Errorf("without a KEK: %v", err)
	}
	if err := without.SweepResponders(t.Context()); err != nil {
		t.Error(err)
	}
	u, err := without.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), [32]byte{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.record(t.Context(), u)
	if err != nil || bytes.Contains(c.DER, []byte("/ocsp/")) {
		t.Errorf("a certificate names a responder that is not there, %v", err)
	}
}

func TestAnIssuersOwnServerStaplesItsAnswer(t *testing.T) {
	w, _ := newResponding(t, "")
	key := deviceKey(t, policies.KeyECP256)
	chain, err := w.IssueServer(t.Context(), operator, key.Public(), []string{"muster.example"}, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf, issuer := must(x509.ParseCertificate(chain[0]))(t), must(x509.ParseCertificate(chain[1]))(t)
	staple, err := w.Staple(t.Context(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ocsp.ParseResponseForCert(staple.DER, leaf, issuer); err != nil || got.Status != ocsp.Good {
		t.Errorf("stapled %+v, %v", got, err)
	}
	if _, err := w.Staple(t.Context(), issuer); !fault.Is(err, fault.NotFound) {
		t.Errorf("for a certificate of a root: %v", err)
	}
}

func TestAnOCSPLifetimeIsWithinItsRespondersReach(t *testing.T) {
	for lifetime, rule := range map[time.Duration]string{0: "", time.Hour: "", 84 * time.Hour: "", time.Minute: "ocsp-lifetime", 85 * time.Hour: "ocsp-lifetime", -time.Hour: "ocsp-lifetime"} {
		_, err := ca.New(t.Context(), &memStore{}, nil, ca.Config{PKIURL: "http://pki.example", StatusConfig: ca.StatusConfig{OCSPLifetime: lifetime}}, time.Now)
		if fault.RuleOf(err) != rule {
			t.Errorf("%v: %v", lifetime, err)
		}
	}
}

func FuzzParseOCSPRequest(f *testing.F) {
	w, issuing := newResponding(f, "")
	good := w.question(f, issuing.ID, big.NewInt(0x1234), crypto.SHA1)
	f.Add(good)
	f.Add(withExtensions(f, good, extension(oidNonce, false, append([]byte{0x04, 0x08}, "12345678"...))))
	f.Add(edited(f, good, func(tbs []asn1.RawValue) []asn1.RawValue { return append(tbs, tbs...) }))
	for _, text := range []string{"", "3000", "30023000", "300430023000", "30 84 ff ff ff ff"} {
		b, _ := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		q, err := ca.ParseOCSPRequest(der)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatal(err)
			}
			return
		}
		answer, err := w.AnswerOCSP(t.Context(), q, "")
		if err != nil {
			if !fault.Is(err, fault.NotFound) {
				t.Fatal(err)
			}
			return
		}
		// A client that can read the request can read the answer, and finds its serial there.
		asked, err := ocsp.ParseRequest(der)
		if err != nil {
			return
		}
		if got, err := ocsp.ParseResponse(answer.DER, nil); err != nil || got.SerialNumber.Cmp(asked.SerialNumber) != 0 {
			t.Fatalf("answered %+v, %v", got, err)
		}
	})
}

func TestAPreparedIssuerWithAResponderIsWithdrawn(t *testing.T) {
	w, one := newResponding(t, "")
	two := w.issuing(t, one.Parent, ca.IssuingRequest{Name: "Issuing 2"})
	if err := w.SweepStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Retire(t.Context(), operator, two.ID, false); err != nil || got.State != ca.IssuerRetired {
		t.Fatalf("it has signed for no device: %+v, %v", got, err)
	}
}

func TestNoLeafOfARevokedIssuerIsGood(t *testing.T) {
	w, one := newResponding(t, "")
	c, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	was, other := w.enroll(t, "dev-2", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	if err := w.revoke(t.Context(), was, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	der := w.question(t, one.ID, leaf.SerialNumber, crypto.SHA1)
	if _, got := w.ask(t, w.Authority, one.ID, der); got.Status != ocsp.Good {
		t.Fatalf("%s before: %d", c.Serial, got.Status)
	}
	if _, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.CACompromise); err != nil {
		t.Fatal(err)
	}
	for _, again := range []string{"signed", "kept"} {
		if _, got := w.ask(t, w.Authority, one.ID, der); got.Status != ocsp.Revoked {
			t.Errorf("%s: %d", again, got.Status)
		}
	}
	if _, got := w.ask(t, w.Authority, one.ID, w.question(t, one.ID, other.SerialNumber, crypto.SHA1)); got.RevocationReason != ocsp.KeyCompromise {
		t.Errorf("one that was revoked itself: %+v", got)
	}
}
