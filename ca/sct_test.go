package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"testing"
	"time"

	ctx509 "github.com/google/certificate-transparency-go/x509"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// logs is an SCTSource that answers what it is told to, and keeps what it was given.
type logs struct {
	list  []byte
	err   error
	world *world
	given [][][]byte
	// onRecord is how many precertificates were on record when each was given.
	onRecord []int
}

func (l *logs) AddPreChain(_ context.Context, chain [][]byte) ([]byte, error) {
	l.given = append(l.given, chain)
	l.onRecord = append(l.onRecord, l.world.precertified())
	return l.list, l.err
}

func (w *world) precertified() (n int) {
	for _, e := range w.store.rows.ledger {
		if e.Action == audit.Precertified {
			n++
		}
	}
	return n
}

var sctList = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}

func TestAProfileEmbedsTheTimestampsOfLogs(t *testing.T) {
	w, root, issuing := newHierarchy(t, policies.KeyECP256)
	l := &logs{world: w, list: timestamps()}
	a, err := ca.New(t.Context(), w.store, w.keys, ca.Config{PKIURL: "http://pki.example/", SCTs: l}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	w.Authority = a
	p, p256 := policies.DefaultProfile(), deviceKey(t, policies.KeyECP256)

	_, plain := w.enroll(t, "dev-1", p256, p)
	if len(l.given) != 0 || slices.ContainsFunc(plain.Extensions, isSCTList) {
		t.Fatal("a profile that does not ask got timestamps")
	}
	p.EmbedSCT = true
	c, leaf := w.enroll(t, "dev-2", p256, p)
	if len(l.given) != 1 || len(l.given[0]) != 3 || l.onRecord[0] != 1 {
		t.Fatalf("logs were given %d chains, with %v on record", len(l.given), l.onRecord)
	}
	if !bytes.Equal(l.given[0][1], issuing.Certificate) || !bytes.Equal(l.given[0][2], root.Certificate) {
		t.Error("the chain does not lead to the root")
	}
	i := slices.IndexFunc(leaf.Extensions, isSCTList)
	if i < 0 || leaf.Extensions[i].Critical || !bytes.Equal(leaf.Extensions[i].Value, append([]byte{4, byte(len(l.list))}, l.list...)) {
		t.Fatal("the list is not in the certificate")
	}
	// The logs signed what the certificate is without the list.
	pre, err := x509.ParseCertificate(l.given[0][0])
	if err != nil {
		t.Fatal(err)
	}
	promised, err := ctx509.RemoveCTPoison(pre.RawTBSCertificate)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ctx509.RemoveSCTList(leaf.RawTBSCertificate)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(promised, issued) {
		t.Error("the certificate is not what was promised")
	}
	if ca.SerialOf(pre.SerialNumber) != c.Serial {
		t.Error("the precertificate has another serial")
	}

	l.list = nil
	if _, leaf := w.enroll(t, "dev-3", p256, p); slices.ContainsFunc(leaf.Extensions, isSCTList) {
		t.Error("a list of nothing was embedded")
	}
}

// timestamps is a list of one SCT, in form alone (RFC 6962 §3.2, §3.3).
func timestamps() []byte {
	sct := make([]byte, 1+32+8+2)    // version 1, log id, time, no extensions
	sct = append(sct, 4, 3, 0, 8)    // ECDSA with SHA-256
	sct = append(sct, "a sign. "...) // 8 octets
	return append([]byte{0, byte(len(sct) + 2), 0, byte(len(sct))}, sct...)
}

func isSCTList(e pkix.Extension) bool { return e.Id.Equal(sctList) }

func TestNothingIsIssuedWithoutTheTimestampsItNeeds(t *testing.T) {
	w, _, _ := newHierarchy(t, policies.KeyECP256)
	p, p256 := policies.DefaultProfile(), deviceKey(t, policies.KeyECP256)
	p.EmbedSCT = true
	issue := func() error {
		_, err := w.Issue(t.Context(), identity(t, "dev-1"), request(t, "dev-1", p256), p, verify.Thumbprint{}, w.now)
		return err
	}
	if err := issue(); fault.RuleOf(err) != "sct-unavailable" || w.precertified() != 0 {
		t.Fatalf("without a log: %v", err)
	}
	l := &logs{world: w, err: errors.New("the log is down")}
	a, err := ca.New(t.Context(), w.store, w.keys, ca.Config{PKIURL: "http://pki.example/", SCTs: l}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	w.Authority = a
	if err := issue(); !errors.Is(err, l.err) || len(w.store.rows.certificates) != 1 { // the issuing CA's
		t.Fatalf("the log is down: %v", err)
	}
	if w.precertified() != 1 {
		t.Error("what a log may have taken is not on record")
	}
	w.store.beforeCommit = func() error { return fault.New(fault.Unavailable, "database-unavailable", "down") }
	if err := issue(); fault.RuleOf(err) != "database-unavailable" || len(l.given) != 1 {
		t.Fatalf("a precertificate left without its row: %v", err)
	}
}
