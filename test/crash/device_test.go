package crash_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/test/instance"
)

// site is where devices register, and whom they trust.
type site struct {
	url, scope string
	roots      *x509.CertPool
}

func siteOf(t *testing.T, s *instance.Instance) site {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", s.CAFile)
	}
	return site{s.Devices, s.IDScope, roots}
}

// enroll registers a device with a new key over a new connection, and returns the
// certificate it is given.
func (s site) enroll(ctx context.Context, id string, key []byte) (*x509.Certificate, error) {
	client, err := device.New(device.Config{
		URL: s.url, IDScope: s.scope, RegistrationID: id, CA: s.roots,
		Credential: device.Credential{SymmetricKey: key},
	})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	private, err := device.NewKey(device.P256)
	if err != nil {
		return nil, err
	}
	csr, err := device.NewCSR(private, id)
	if err != nil {
		return nil, err
	}
	result, err := client.Register(ctx, device.Request{CSR: csr})
	if err != nil {
		return nil, err
	}
	return result.Chain[0], nil
}

// groupKey reads the key of the group that every development server has.
func groupKey(t *testing.T, data string) []byte {
	t.Helper()
	text, err := os.ReadFile(data + "/demo-group.key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := device.ParseKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// record is a certificate in the inventory.
type record struct {
	Issuer, Serial, RegistrationID, Thumbprint string
}

// inventory lists the certificates that a query names, newest first; query is "" or
// "&name=value".
func inventory(ctx context.Context, s *instance.Instance, query string) ([]record, error) {
	var all []record
	for cursor := ""; ; {
		var page struct {
			Items []record
			Next  string
		}
		if err := s.Call(ctx, http.MethodGet, "/certificates?limit=500"+query+cursor, nil, &page); err != nil {
			return nil, fmt.Errorf("reading the inventory: %w", err)
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		cursor = "&cursor=" + page.Next
	}
}
