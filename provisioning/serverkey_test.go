package provisioning_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// keygen lets keys be made here, of these types.
func (w *world) keygen(keys ...policies.KeyType) {
	w.t.Helper()
	p := policies.DefaultProfile()
	p.ServerKeygen = true
	if keys != nil {
		p.Keys = keys
	}
	_, err := w.engine.PutProfile(w.ctx, ann, p, provisioning.Precondition{Any: true})
	w.must(err)
}

func TestAKeyMadeHereIsAnsweredOnceAndKeptNowhere(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	w.keygen()
	r := w.asking(device)
	r.ServerKey = true
	seen := map[string]bool{}
	for range 2 { // a retry is answered with another key
		op, err := w.engine.Register(w.ctx, r)
		w.must(err)
		key, err := x509.ParsePKCS8PrivateKey(op.Key.Reveal())
		w.must(err)
		cert, err := x509.ParseCertificate(op.Chain[0])
		w.must(err)
		if pub := key.(*ecdsa.PrivateKey).PublicKey; !pub.Equal(cert.PublicKey) || cert.Subject.CommonName != "d1" {
			t.Error("the certificate is not of the key that came with it")
		}
		csr, err := x509.ParseCertificateRequest(r.CSR)
		w.must(err)
		if cert.PublicKey.(*ecdsa.PublicKey).Equal(csr.PublicKey) {
			t.Error("the certificate is of the key in the request")
		}
		if text := fmt.Sprintf("%v %+v %#v", op, op, op.Key); strings.Contains(text, string(op.Key.Reveal())) {
			t.Error("printing the operation prints the key")
		}
		seen[string(op.Key.Reveal())] = true
		w.check()
	}
	if len(seen) != 2 || w.issued() != 2 {
		t.Errorf("%d keys", len(seen))
	}
}

func TestTheKindOfAKeyMadeHere(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		asked   string
		allowed []policies.KeyType
		want    policies.KeyType
	}{
		"that of the request":                 {"p384", []policies.KeyType{policies.KeyECP256, policies.KeyECP384}, policies.KeyECP384},
		"the profile's first, if not allowed": {"p256", []policies.KeyType{policies.KeyEd25519, policies.KeyECP384}, policies.KeyEd25519},
		"RSA":                                 {"p256", []policies.KeyType{policies.KeyRSA2048}, policies.KeyRSA2048},
		"P-521":                               {"p256", []policies.KeyType{policies.KeyECP521}, policies.KeyECP521},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, device := factory(t)
			w.keygen(tt.allowed...)
			op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, ServerKey: true, CSR: testkit.CSR(t, testkit.NewKey(t, tt.asked), "d1")})
			w.must(err)
			cert, err := x509.ParseCertificate(op.Chain[0])
			w.must(err)
			if got, err := policies.KeyTypeOf(cert.PublicKey); got != tt.want {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

func TestNoKeyIsMadeForThoseWhoMayNotHaveOne(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	r := w.asking(device)
	r.ServerKey = true
	if _, err := w.engine.Register(w.ctx, r); !fault.Is(err, fault.Forbidden) || fault.RuleOf(err) != "server-keygen-not-allowed" {
		t.Errorf("by a profile that does not say so: %v", err)
	}
	w.keygen()
	r.CSR = testkit.CSR(t, testkit.NewKey(t, "p256"), "d2")
	if op, err := w.engine.Register(w.ctx, r); fault.RuleOf(err) != "csr-names-other-device" || !op.Key.IsZero() {
		t.Errorf("for another device: %v", err)
	}
	stranger := w.asking(w.presenting("d1", testkit.SelfSigned(t, "d1").Cert))
	stranger.ServerKey = true
	w.turnedAway(stranger, "no-enrollment")
}
