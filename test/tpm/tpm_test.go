package tpm_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/test/instance"
)

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestADeviceIsLetInByItsBrokerWithAKeyInItsTPM(t *testing.T) {
	dir := t.TempDir()
	program, err := instance.Build(t.Context(), dir)
	m, err := instance.Start(instance.Config{Binary: must(t, program, err), Data: filepath.Join(dir, "data")})
	must(t, m, err)
	defer m.Kill()
	chip, err := tpm.Open(testkit.NewSWTPM(t).Socket)
	must(t, chip, err)
	defer chip.Close()

	// Enrolled by its endorsement key, in a profile that takes no key but those that a TPM attested.
	calls := []struct {
		path string
		body instance.Object
	}{
		{"/profiles/in-hardware", instance.Object{"keyAttestation": "tpm"}},
		{"/enrollments/press-1", instance.Object{"credentialPolicyName": "in-hardware", "attestation": instance.Object{
			"type": "tpm", "tpm": instance.Object{"endorsementKey": base64.StdEncoding.EncodeToString(chip.EndorsementKey())}}}},
	}
	for _, c := range calls {
		if err := m.Call(t.Context(), "PUT", c.path, c.body, nil); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	pemRoots, err := os.ReadFile(m.CAFile)
	roots.AppendCertsFromPEM(must(t, pemRoots, err))
	client, err := device.New(device.Config{URL: m.Devices, IDScope: m.IDScope, RegistrationID: "press-1", CA: roots, Credential: device.Credential{TPM: chip}})
	must(t, client, err)
	defer client.Close()
	key, err := chip.NewKey()
	must(t, key, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "press-1"}}, key)
	must(t, csr, err)
	if _, err := client.Register(t.Context(), device.Request{CSR: csr}); err == nil {
		t.Error("the profile takes a key that nobody vouches for")
	}
	got, err := client.Register(t.Context(), device.Request{CSR: csr, Key: key})
	must(t, got, err)

	b := &instance.Broker{Folder: filepath.Join(dir, "broker"), Trusts: m.CAFile, CRLFile: filepath.Join(dir, "crl.pem"), Bare: true}
	crl(t, got.Chain[0].CRLDistributionPoints[0], b.CRLFile)
	if err := b.Prepare(); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Stop()
	shown := tls.Certificate{PrivateKey: key}
	for _, cert := range got.Chain {
		shown.Certificate = append(shown.Certificate, cert.Raw)
	}
	if err := connects(t, b, shown); err != nil {
		t.Errorf("with the key in the TPM: %v; the broker said\n%s", err, b.Log())
	}
	shown.PrivateKey = testkit.NewKey(t, "p256")
	if connects(t, b, shown) == nil {
		t.Error("the certificate is good for another key")
	}
}

// crl fetches a list and keeps it as PEM.
func crl(t *testing.T, from, file string) {
	t.Helper()
	answer, err := http.Get(from)
	must(t, answer, err)
	defer answer.Body.Close()
	der, err := io.ReadAll(answer.Body)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: must(t, der, err)}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func connects(t *testing.T, b *instance.Broker, shown tls.Certificate) error {
	t.Helper()
	roots := x509.NewCertPool()
	own, err := os.ReadFile(b.CAFile)
	roots.AppendCertsFromPEM(must(t, own, err))
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + b.Devices).SetClientID("press-1").SetConnectRetry(false).SetAutoReconnect(false).
		SetTLSConfig(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{shown}}))
	token := c.Connect()
	token.Wait()
	if token.Error() == nil {
		c.Disconnect(0)
	}
	return token.Error()
}
