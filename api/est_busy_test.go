package api_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
)

// slowCA is an authority elsewhere that says of each request that it has come, and signs
// once it is let go.
type slowCA struct {
	*testkit.Entity
	asked   chan struct{}
	release chan struct{}
}

func (s *slowCA) Sign(_ context.Context, r ca.UpstreamRequest) (*x509.Certificate, error) {
	s.asked <- struct{}{}
	<-s.release
	t := *r.Template
	t.SerialNumber = must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))
	return x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, &t, s.Cert, r.CSR.PublicKey, s.Key)))
}

func (s *slowCA) Revoke(context.Context, ca.UpstreamRevocation) error { return nil }

func (s *slowCA) Chain(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{s.Cert}, nil
}

// The request that finds no place with a busy authority elsewhere is accepted, and answered
// when it comes again (RFC 7030 §4.2.3).
func TestARequestThatABusyUpstreamHasNoPlaceForComesAgain(t *testing.T) {
	const places = 64
	slow := &slowCA{Entity: testkit.Chain(t, "elsewhere > unused").Get("elsewhere"), asked: make(chan struct{}, places+1), release: make(chan struct{})}
	w := newWorldBehind(t, map[string]ca.Upstream{"slow": slow})
	must(w.authority.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "slow", Profile: "default"}))
	client := w.client(nil)
	request := func(name string) request {
		return enroll("simpleenroll", testkit.CSR(t, newKey(), name)).with("Authorization", basicAuth(name, w.deviceKey(name)))
	}
	var waiting sync.WaitGroup
	for i := range places {
		r := request(fmt.Sprintf("d-%d", i))
		waiting.Go(func() {
			if a := w.do(client, w.devices, r); a.status != http.StatusOK {
				t.Errorf("one that waited is answered %d %s", a.status, a.body)
			}
		})
	}
	for range places {
		<-slow.asked
	}
	late := request("late")
	a := w.do(client, w.devices, late)
	if a.status != http.StatusAccepted || a.header.Get("Retry-After") == "" {
		t.Errorf("the one too many is answered %d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
	}
	close(slow.release)
	waiting.Wait()
	certsOnly(t, w.do(client, w.devices, late))
}
