package years_test

import (
	"crypto/x509"
	"math/rand/v2"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// unit is one simulated device, and what it holds.
type unit struct {
	name    string
	est     bool            // renews as EST does; the others register again
	drowsy  bool            // is always away when its certificate ends, and back within the grace
	factory *testkit.Entity // what it left the line with, or was serviced with since
	leaf    *x509.Certificate
	unused  bool      // the leaf was not shown to anybody yet
	next    time.Time // when it does something next
	asleep  bool      // until then it is off
	service bool      // the factory is to give it a certificate of the line's CA of today

	left []*x509.Certificate // leaves that it had
	seen [2]ref              // what its pair held when it was last looked at
}

type ref = [32]byte

// act is one contact with the server.
func (f *fleet) act(u *unit) {
	f.Helper()
	woke := u.asleep
	u.asleep = false
	if u.service || woke && f.lost(u) {
		u.factory, u.service = f.makes(u.name), false
		f.attest(u)
		return
	}
	switch {
	case u.leaf == nil:
		f.attest(u)
	case u.unused:
		f.use(u)
	default:
		f.renew(u)
	}
}

// lost says that a device was away for so long that the CA it came from is one of the past:
// somebody services it.
func (f *fleet) lost(u *unit) bool { return !f.admits(u.factory.Issuer) }

// attest shows what the factory gave the device, for a new certificate.
func (f *fleet) attest(u *unit) {
	f.Helper()
	if err := f.ask(u, provisioning.RegisterRequest{Attempt: f.showing(u.name, u.factory.Chain()...)}); err != nil {
		f.Fatalf("on %s %s, which %s made, was refused: %v", today(), u.name, u.factory.Issuer.Name, err)
	}
	f.count.attested++
}

// renew asks with the certificate that it has; when that is past its grace, it attests anew.
func (f *fleet) renew(u *unit) {
	f.Helper()
	late := time.Since(u.leaf.NotAfter)
	err := f.ask(u, provisioning.RegisterRequest{Attempt: f.showing(u.name, u.leaf), Renewal: u.est, HubOptional: u.est})
	allowed := late <= 0 || u.est && late < 30*day
	switch {
	case err == nil && !allowed:
		f.Fatalf("on %s %s renewed %s past the end of its certificate", today(), u.name, late)
	case err == nil && late > 0:
		f.count.late++
	case err == nil:
		f.count.renewed++
	case allowed || !fault.Is(err, fault.Unauthenticated):
		f.Fatalf("on %s %s was without a working credential: %v", today(), u.name, err)
	default:
		f.attest(u)
	}
}

// ask registers with a request for a new key, and is given the certificate.
func (f *fleet) ask(u *unit, r provisioning.RegisterRequest) error {
	f.Helper()
	r.CSR = testkit.CSR(f, testkit.NewKey(f, "p256"), u.name)
	op, err := f.engine.Register(f.ctx(), r)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(op.Chain[0])
	f.must(err)
	if u.leaf != nil {
		u.left = append(u.left, u.leaf)
	}
	u.leaf, u.unused = leaf, true
	u.next = time.Now().Add(time.Duration(rand.Int64N(int64(2 * day))))
	return nil
}

// use is the proof of cut-over: the device comes with its new certificate.
func (f *fleet) use(u *unit) {
	f.Helper()
	if time.Now().After(u.leaf.NotAfter) {
		f.renew(u)
		return
	}
	op, err := f.engine.Register(f.ctx(), provisioning.RegisterRequest{Attempt: f.showing(u.name, u.leaf)})
	if err != nil || op.State != provisioning.Assigned {
		f.Fatalf("on %s the new certificate of %s was not taken: %s, %v", today(), u.name, op.State, err)
	}
	u.unused = false
	life := u.leaf.NotAfter.Sub(u.leaf.NotBefore)
	u.next = u.leaf.NotBefore.Add(time.Duration(float64(life) * 2 / 3 * (0.9 + 0.2*rand.Float64())))
	switch roll := rand.IntN(30); {
	case u.drowsy:
		u.asleep, u.next = true, u.leaf.NotAfter.Add(10*day)
		f.count.slept++
	case roll == 0: // a season in the drawer
		u.asleep, u.next = true, u.next.Add(30*day+time.Duration(rand.Int64N(int64(370*day))))
		f.count.slept++
	case roll == 1: // a few weeks
		u.asleep, u.next = true, u.next.Add(20*day+time.Duration(rand.Int64N(int64(35*day))))
		f.count.slept++
	}
}
