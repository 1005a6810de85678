package azure_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	armdps "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/deviceprovisioningservices/armdeviceprovisioningservices"
)

// bearer hands out a token of Muster's.
type bearer string

func (b bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(b), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// watched sends requests on and notes what is answered.
type watched struct {
	http.Client
	seen []exchange
}

func (w *watched) Do(r *http.Request) (*http.Response, error) {
	resp, err := w.Client.Do(r)
	if err == nil {
		w.seen = append(w.seen, exchange{r.Method + " " + r.URL.Path, r.URL.Query().Get("api-version"), resp.StatusCode})
	}
	return resp, err
}

// armGo is Go's management client and the rows of the page that it fills.
type armGo struct {
	*testing.T
	w     *world
	wire  *watched
	certs *armdps.DpsCertificateClient
}

func (w *world) newARMGo(t *testing.T) *armGo {
	t.Helper()
	roots, err := os.ReadFile(w.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	wire := &watched{Client: http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	base := w.env["MUSTER_ARM_URL"]
	certs, err := armdps.NewDpsCertificateClient("00000000-0000-0000-0000-000000000000", bearer(w.env["MUSTER_TOKEN"]), &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Cloud: cloud.Configuration{
				ActiveDirectoryAuthorityHost: base + "/",
				Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: base, Audience: base}},
			},
			Transport: wire,
		},
		DisableRPRegistration: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &armGo{t, w, wire, certs}
}

// gives wants a call to have succeeded.
func (a *armGo) gives(method string, err error) {
	a.Helper()
	if err != nil {
		a.Fatalf("%s: %v", method, err)
	}
	a.note(method, "")
}

// fails wants a call to have been answered with a status and a code of ARM's.
func (a *armGo) fails(method string, err error, status int, code string) {
	a.Helper()
	var said *azcore.ResponseError
	if !errors.As(err, &said) || said.StatusCode != status || said.ErrorCode != code {
		a.Fatalf("%s: %v, want %d %s", method, err, status, code)
	}
	a.note(method, code)
}

func (a *armGo) note(method, as string) {
	last := a.wire.seen[len(a.wire.seen)-1]
	a.w.seen.add(operation{"management-go", method}, last.Version, outcome{last.Status, as})
}

func (a *armGo) manage(ctx context.Context, f *factory) {
	const name = "owner-go"
	_, err := a.certs.Get(ctx, name, resourceGroup, serviceName, nil)
	a.fails("Get", err, http.StatusNotFound, "ResourceNotFound")
	body := armdps.CertificateResponse{Properties: &armdps.CertificateProperties{Certificate: []byte(derOf(a.T, f.read(a.T, "root.pem")))}}
	made, err := a.certs.CreateOrUpdate(ctx, resourceGroup, serviceName, name, body, nil)
	a.gives("CreateOrUpdate", err)
	if p := made.Properties; *p.IsVerified || p.Expiry == nil || p.Expiry.Before(time.Now()) {
		a.Errorf("uploaded %+v", *p)
	}
	other := armdps.CertificateResponse{Properties: &armdps.CertificateProperties{Certificate: []byte(newFactory(a.T, powerShell).read(a.T, "root.pem"))}}
	_, err = a.certs.CreateOrUpdate(ctx, resourceGroup, serviceName, name, other, nil)
	a.fails("CreateOrUpdate", err, http.StatusPreconditionFailed, "PreconditionFailed")
	coded, err := a.certs.GenerateVerificationCode(ctx, name, *made.Etag, resourceGroup, serviceName, nil)
	a.gives("GenerateVerificationCode", err)
	proof := armdps.VerificationCodeRequest{Certificate: new(f.leaf(a.T, *coded.Properties.VerificationCode))}
	_, err = a.certs.VerifyCertificate(ctx, name, *made.Etag, resourceGroup, serviceName, proof, nil)
	a.fails("VerifyCertificate", err, http.StatusPreconditionFailed, "PreconditionFailed")
	verified, err := a.certs.VerifyCertificate(ctx, name, *coded.Etag, resourceGroup, serviceName, proof, nil)
	a.gives("VerifyCertificate", err)
	if !*verified.Properties.IsVerified {
		a.Error("the proof was taken, and the CA is not verified")
	}
	read, err := a.certs.Get(ctx, name, resourceGroup, serviceName, nil)
	a.gives("Get", err)
	if *read.Etag != *verified.Etag {
		a.Errorf("read %s, it was %s", *read.Etag, *verified.Etag)
	}
	listed, err := a.certs.List(ctx, resourceGroup, serviceName, nil)
	a.gives("List", err)
	if len(listed.Value) == 0 {
		a.Error("nothing is listed")
	}
	_, err = a.certs.Delete(ctx, resourceGroup, *coded.Etag, serviceName, name, nil)
	a.fails("Delete", err, http.StatusPreconditionFailed, "PreconditionFailed")
	_, err = a.certs.Delete(ctx, resourceGroup, *verified.Etag, serviceName, name, nil)
	a.gives("Delete", err)
}
