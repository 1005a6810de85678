package certificates_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	arms "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/deviceprovisioningservices/armdeviceprovisioningservices"

	"github.com/passmuster/muster/api/certificates"
	"github.com/passmuster/muster/internal/testkit"
)

const (
	resourceGroup = "factory"
	service       = "muster"
)

// bearer is a credential of Azure's SDK that holds one of our tokens.
type bearer string

func (b bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(b), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// azure is Azure's own client for Go, pointed at the world.
func (w *world) azure(token string) *arms.DpsCertificateClient {
	w.t.Helper()
	base := w.server.URL
	client, err := arms.NewDpsCertificateClient("00000000-0000-0000-0000-000000000000", bearer(token), &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Cloud: cloud.Configuration{
				ActiveDirectoryAuthorityHost: base + "/",
				Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: base, Audience: base}},
			},
			Transport: w.server.Client(),
			Retry:     policy.RetryOptions{MaxRetries: -1},
		},
		DisableRPRegistration: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

func uploadOf(der []byte, verified *bool) arms.CertificateResponse {
	return arms.CertificateResponse{Properties: &arms.CertificateProperties{Certificate: der, IsVerified: verified}}
}

func TestAzuresClientForGo(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	ctx, client, root := t.Context(), w.azure(w.security), w.factory.Get("root")

	made, err := client.CreateOrUpdate(ctx, resourceGroup, service, "root", uploadOf(root.Cert.Raw, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := made.Properties
	if *made.Name != "root" || *p.IsVerified || *p.Subject != "CN=root" || !p.Expiry.Equal(root.Cert.NotAfter) || !p.Created.Equal(w.now) || !bytes.Equal(p.Certificate, root.Cert.Raw) {
		t.Errorf("made is %+v", *p)
	}
	w.now = w.now.Add(time.Minute)
	code, err := client.GenerateVerificationCode(ctx, "root", *made.Etag, resourceGroup, service, nil)
	if err != nil {
		t.Fatal(err)
	}
	proof := base64.StdEncoding.EncodeToString(testkit.PEM(root.Prove(t, *code.Properties.VerificationCode)))
	proved, err := client.VerifyCertificate(ctx, "root", *code.Etag, resourceGroup, service, arms.VerificationCodeRequest{Certificate: &proof},
		&arms.DpsCertificateClientVerifyCertificateOptions{CertificateName1: code.Name, CertificateIsVerified: new(bool)})
	if err != nil {
		t.Fatal(err)
	}
	if !*proved.Properties.IsVerified || !proved.Properties.Updated.Equal(w.now) {
		t.Errorf("proved is %+v", *proved.Properties)
	}
	got, err := client.Get(ctx, "root", resourceGroup, service, nil)
	if err != nil || *got.Etag != *proved.Etag || *got.ID != *made.ID {
		t.Errorf("read: %v, %+v", err, got)
	}
	if _, err := client.CreateOrUpdate(ctx, resourceGroup, service, "second", uploadOf(w.factory.Get("other-root").PEM(), nil), nil); err != nil {
		t.Errorf("an upload of PEM: %v", err)
	}
	list, err := client.List(ctx, resourceGroup, service, nil)
	if err != nil || len(list.Value) != 2 || *list.Value[0].Name != "root" || *list.Value[1].Name != "second" {
		t.Errorf("listed: %v, %d", err, len(list.Value))
	}
	// Read, change, put: with the etag the other bytes are taken, and nothing is verified.
	replaced, err := client.CreateOrUpdate(ctx, resourceGroup, service, "root", uploadOf(w.factory.Get("other-root").Cert.Raw, nil),
		&arms.DpsCertificateClientCreateOrUpdateOptions{IfMatch: got.Etag})
	if err != nil || *replaced.Properties.IsVerified {
		t.Errorf("replaced: %v, %+v", err, replaced.Properties)
	}
	if _, err := client.Delete(ctx, resourceGroup, *replaced.Etag, service, "root", &arms.DpsCertificateClientDeleteOptions{CertificateCreated: got.Properties.Created}); err != nil {
		t.Errorf("deleting: %v", err)
	}
}

func TestAzuresClientForGoReadsOurErrors(t *testing.T) {
	w := newWorld(t, certificates.Options{})
	ctx, root, yes := t.Context(), w.factory.Get("root"), true
	client := w.azure(w.security)
	made, err := client.CreateOrUpdate(ctx, resourceGroup, service, "root", uploadOf(root.Cert.Raw, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	notACertificate := "AAAA"
	tests := map[string]struct {
		call   func() error
		status int
		code   string
	}{
		"nothing of that name": {func() error {
			_, err := client.Get(ctx, "nothing", resourceGroup, service, nil)
			return err
		}, 404, "ResourceNotFound"},
		"other bytes without a version": {func() error {
			_, err := client.CreateOrUpdate(ctx, resourceGroup, service, "root", uploadOf(w.factory.Get("other-root").Cert.Raw, nil), nil)
			return err
		}, 412, "PreconditionFailed"},
		"a version gone by": {func() error {
			_, err := client.Delete(ctx, resourceGroup, "AAAAAAExpTQ=", service, "root", nil)
			return err
		}, 412, "PreconditionFailed"},
		"a code for no version": {func() error {
			_, err := client.GenerateVerificationCode(ctx, "root", "", resourceGroup, service, nil)
			return err
		}, 412, "PreconditionFailed"},
		"a proof that is none": {func() error {
			_, err := client.VerifyCertificate(ctx, "root", *made.Etag, resourceGroup, service, arms.VerificationCodeRequest{Certificate: &notACertificate}, nil)
			return err
		}, 400, "BadRequest"},
		"bytes that are no certificate": {func() error {
			_, err := client.CreateOrUpdate(ctx, resourceGroup, service, "new", uploadOf([]byte("x"), nil), nil)
			return err
		}, 400, "BadRequest"},
		"somebody's word for it": {func() error {
			_, err := client.CreateOrUpdate(ctx, resourceGroup, service, "new", uploadOf(root.Cert.Raw, &yes), nil)
			return err
		}, 403, "AuthorizationFailed"},
		"a reader who writes": {func() error {
			_, err := w.azure(w.reader).CreateOrUpdate(ctx, resourceGroup, service, "new", uploadOf(root.Cert.Raw, nil), nil)
			return err
		}, 403, "AuthorizationFailed"},
		"nobody we know": {func() error {
			_, err := w.azure("eyJhbGciOi").List(ctx, resourceGroup, service, nil)
			return err
		}, 401, "AuthenticationFailed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.call()
			refused, ok := errors.AsType[*azcore.ResponseError](err)
			if !ok || refused.StatusCode != tt.status || refused.ErrorCode != tt.code {
				t.Errorf("got %v, want %d %s", err, tt.status, tt.code)
			}
		})
	}
}
