package admin

import (
	"cmp"
	"context"
	"encoding/pem"
	"net/http"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// issuerRequest is an issuing CA whose certificate somebody else is to sign.
type issuerRequest struct {
	ID      string     `json:"id" doc:"It becomes the issuer's."`
	Name    string     `json:"name"`
	Profile string     `json:"profile,omitempty" doc:"The one profile it is to sign for."`
	CSR     string     `json:"csr" doc:"PKCS#10, PEM."`
	Created *time.Time `json:"createdDateTimeUtc"`
}

func requestOf(r ca.IssuerRequest) (issuerRequest, error) {
	return issuerRequest{
		ID: string(r.ID), Name: r.Name, Profile: r.Profile, Created: instant(r.Created),
		CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR})),
	}, nil
}

type (
	issuerRequestDraft struct {
		Body struct {
			Name    string `json:"name" doc:"The common name in its subject."`
			Profile string `json:"profile,omitempty" doc:"The one profile it is to sign for."`
			KeyType string `json:"keyType,omitempty" doc:"EC-P256 (unless given), EC-P384, EC-P521, Ed25519, RSA-2048, RSA-3072, RSA-4096."`
		}
	}
	issuerImport struct {
		Body struct {
			Certificates string `json:"certificates" doc:"The CA's certificate, then those above it up to a root or to an issuer on record. PEM; never a private key."`
		}
	}
)

func (d *door) addIssuerRequests() {
	const tag = "issuers"
	add(d, route{"list-issuer-requests", http.MethodGet, "/issuer-requests", policies.ScopeRead, tag, "List the CAs that wait for their certificate", false}, d.listRequests)
	add(d, route{"create-issuer-request", http.MethodPost, "/issuer-requests", policies.ScopeSecurity, tag, "Make the key of an issuing CA, and the request with which another CA signs it", true}, d.createRequest)
	add(d, route{"withdraw-issuer-request", http.MethodDelete, "/issuer-requests/{id}", policies.ScopeSecurity, tag, "Give a request up", false}, d.withdrawRequest)
	add(d, route{"import-issuer", http.MethodPost, "/issuers/import", policies.ScopeSecurity, tag, "Bring the certificate of a CA that was requested here, or of a root of yours", true}, d.importIssuer)
}

func (d *door) listRequests(ctx context.Context, in *Paging) (*listed[issuerRequest], error) {
	rows, err := d.Authority.IssuerRequests(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b ca.IssuerRequest) int { return cmp.Compare(a.ID, b.ID) })
	return pageOfAll(d.Engine, rows, *in, "issuer-requests", func(r ca.IssuerRequest) string { return string(r.ID) }, requestOf)
}

func (d *door) createRequest(ctx context.Context, in *issuerRequestDraft) (*written[issuerRequest], error) {
	if err := d.Engine.CheckProfile(ctx, in.Body.Profile); err != nil {
		return nil, err
	}
	r, err := d.Authority.RequestIssuing(ctx, actor(ctx), ca.IssuingRequest{Name: in.Body.Name, Profile: in.Body.Profile, KeyType: policies.KeyType(in.Body.KeyType)})
	if err != nil {
		return nil, err
	}
	out := &written[issuerRequest]{Status: http.StatusCreated, Location: prefix + "/issuer-requests/" + string(r.ID)}
	out.Body, err = requestOf(r)
	return out, err
}

func (d *door) withdrawRequest(ctx context.Context, in *IssuerID) (*done, error) {
	return &done{}, d.Authority.WithdrawRequest(ctx, actor(ctx), ca.IssuerID(in.ID))
}

func (d *door) importIssuer(ctx context.Context, in *issuerImport) (*written[issuer], error) {
	chain, err := verify.ParseCertificates([]byte(in.Body.Certificates))
	if err != nil {
		return nil, at(err, "/certificates")
	}
	lifetimes, err := d.Engine.Lifetimes(ctx)
	if err != nil {
		return nil, err
	}
	i, err := d.Authority.Import(ctx, actor(ctx), ca.ImportRequest{Chain: chain, Lifetime: lifetimes})
	return d.made(ctx, i, at(err, "/certificates"))
}
