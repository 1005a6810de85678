package provisioning_test

import (
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// grace lets certificates be renewed so long past their end.
func (w *world) grace(d time.Duration) {
	w.t.Helper()
	p := policies.DefaultProfile()
	p.Renewal.Grace = d
	_, err := w.engine.PutProfile(w.ctx, ann, p, provisioning.Precondition{Any: true})
	w.must(err)
}

// renewing is a renewal by a certificate.
func (w *world) renewing(name string, certs ...*x509.Certificate) provisioning.RegisterRequest {
	r := w.asking(w.presenting(name, certs...))
	r.Renewal = true
	return r
}

// A device that slept renews to the last second of the grace and not one longer; the
// same in pairs of moments.
func TestADeviceThatSleptRenewsWithinTheGrace(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	tests := map[string]struct {
		grace, late time.Duration // late: after the certificate's last second
		rule        string
	}{
		"at its end, without a grace":              {0, 0, ""},
		"a second late, without a grace":           {0, time.Second, "leaf-expired"},
		"in the last second of the grace":          {30 * day, 30 * day, ""},
		"late within the last second of the grace": {30 * day, 30*day + 999*time.Millisecond, ""},
		"a second after the grace":                 {30 * day, 30*day + time.Second, "leaf-expired"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, device := factory(t)
			w.grace(tt.grace)
			leaf, err := w.enroll(device)
			w.must(err)
			w.clock = leaf.NotAfter.Add(tt.late)
			if tt.rule != "" {
				w.turnedAway(w.renewing("d1", leaf), tt.rule)
				return
			}
			op, err := w.engine.Register(w.ctx, w.renewing("d1", leaf))
			w.must(err)
			w.check()
			next, err := x509.ParseCertificate(op.Chain[0])
			w.must(err)
			w.assigned(w.presenting("d1", next))
		})
	}
}

// The grace is for the renewal by that very certificate, and for nothing else.
func TestTheGraceIsForRenewalAlone(t *testing.T) {
	t.Parallel()
	late := func(t *testing.T) (*world, *x509.Certificate) {
		w, device := factory(t)
		w.grace(30 * 24 * time.Hour)
		leaf, err := w.enroll(device)
		w.must(err)
		w.clock = leaf.NotAfter.Add(time.Hour)
		return w, leaf
	}
	t.Run("not for a registration", func(t *testing.T) {
		w, leaf := late(t)
		w.refused(w.presenting("d1", leaf), "leaf-expired")
	})
	t.Run("not for a first certificate", func(t *testing.T) {
		w, leaf := late(t)
		w.turnedAway(w.asking(w.presenting("d1", leaf)), "leaf-expired")
	})
	t.Run("not for a revoked certificate", func(t *testing.T) {
		w, leaf := late(t)
		_, err := w.engine.Revoke(w.ctx, ann, "", serial(leaf), ca.Superseded)
		w.must(err)
		w.turnedAway(w.renewing("d1", leaf), "certificate-revoked")
	})
	t.Run("not when its entry is disabled", func(t *testing.T) {
		w, leaf := late(t)
		w.enable(w.registration("d1").Owner, false)
		w.turnedAway(w.renewing("d1", leaf), "enrollment-disabled")
	})
	t.Run("not for a factory certificate", func(t *testing.T) {
		w := newWorld(t)
		f := testkit.Chain(t, "root > mid > d1 [expired]")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"))
		w.grace(366 * 24 * time.Hour)
		w.turnedAway(w.renewing("d1", f.Get("d1").Chain()...), "leaf-expired")
	})
}

// INV-C5: another valid certificate of the same name renews nothing.
func TestARenewalIsBoundToTheCertificateItReplaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; elsewhere > other [cn=d1]")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	replaced, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	standing, err := w.enroll(w.presenting("d1", replaced))
	w.must(err)
	w.assigned(w.presenting("d1", standing))
	w.pass(25 * time.Hour) // the overlap is over, the replaced one valid still
	for name, tt := range map[string]struct {
		as    string
		certs []*x509.Certificate
		rule  string
	}{
		"the factory's":                 {"d1", f.Get("d1").Chain(), "renewal-needs-issued-certificate"},
		"one of ours that was replaced": {"d1", []*x509.Certificate{replaced}, "certificate-not-standing"},
		"one of another CA":             {"d1", f.Get("other").Chain(), "chain-incomplete"},
		"one that names our issuer":     {"d1", []*x509.Certificate{forged(w, standing)}, "certificate-not-on-record"},
		"another device's":              {"d2", []*x509.Certificate{standing}, "certificate-not-standing"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.turnedAway(w.renewing(tt.as, tt.certs...), tt.rule)
		})
	}
	w.t = t
	_, err = w.engine.Register(w.ctx, w.renewing("d1", standing))
	w.must(err)
}

// forged is a certificate with the names of another, signed by a key of nobody's.
func forged(w *world, c *x509.Certificate) *x509.Certificate {
	w.t.Helper()
	key := testkit.NewKey(w.t, "p256")
	copied := *c
	der, err := x509.CreateCertificate(rand.Reader, &copied, &x509.Certificate{RawSubject: c.RawIssuer, SubjectKeyId: c.AuthorityKeyId}, key.Public(), key)
	w.must(err)
	out, err := x509.ParseCertificate(der)
	w.must(err)
	return out
}
