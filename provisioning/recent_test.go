package provisioning

import (
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
)

func deciding(profile string) *decision {
	d := new(decision)
	d.entry.Profile = profile
	return d
}

func TestTheLastRequestsAreRememberedInTheirOrder(t *testing.T) {
	t.Parallel()
	var r recent
	now := testkit.Now()
	r.add(deciding("p"), nil, now)                                     // no certificate asked for
	r.add(deciding(""), &x509.CertificateRequest{Raw: []byte{1}}, now) // none to be had
	if list, upTo := r.unsaved(); len(list) != 0 || upTo != 0 {
		t.Fatalf("%v up to %d, want nothing", list, upTo)
	}
	for i := range MaxRecent + 5 {
		r.add(deciding("p"), &x509.CertificateRequest{Raw: fmt.Append(nil, i)}, now.Add(time.Duration(i)))
	}
	list, upTo := r.unsaved()
	if len(list) != MaxRecent || string(list[0].CSR) != "5" || string(list[MaxRecent-1].CSR) != fmt.Sprint(MaxRecent+4) || upTo != MaxRecent+5 {
		t.Fatalf("%d requests up to %d, from %s to %s", len(list), upTo, list[0].CSR, list[len(list)-1].CSR)
	}
	r.saved = upTo
	r.add(deciding("p"), &x509.CertificateRequest{Raw: []byte("new")}, now)
	if list, _ := r.unsaved(); len(list) != 1 || string(list[0].CSR) != "new" {
		t.Fatalf("after saving: %v", list)
	}
}

func TestRequestsAreRememberedWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	var r recent
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 * MaxRecent {
				r.add(deciding("p"), &x509.CertificateRequest{Raw: []byte{1}}, testkit.Now())
			}
		})
	}
	for range 20 {
		r.unsaved()
	}
	all.Wait()
	if list, upTo := r.unsaved(); len(list) != MaxRecent || upTo != 12*MaxRecent {
		t.Errorf("%d requests up to %d", len(list), upTo)
	}
}

// What a registration pays for being remembered.
func BenchmarkRecent(b *testing.B) {
	der := testkit.CSR(b, testkit.NewKey(b, "p256"), "dev-1")
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		b.Fatal(err)
	}
	var r recent
	now := testkit.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		d := deciding("p")
		for pb.Next() {
			r.add(d, csr, now)
		}
	})
}
