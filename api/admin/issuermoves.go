package admin

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

type (
	issuerDraft struct {
		Body struct {
			Name     string `json:"name" doc:"The common name in its subject."`
			Parent   string `json:"parent" doc:"The root that signs it, whose key is on the server's host."`
			Profile  string `json:"profile,omitempty" doc:"The one profile it signs for."`
			KeyType  string `json:"keyType,omitempty" doc:"EC-P256 (unless given), EC-P384, EC-P521, Ed25519, RSA-2048, RSA-3072, RSA-4096."`
			Lifetime string `json:"lifetime,omitempty" doc:"ISO 8601; five years unless given, and never beyond the root." example:"P1825D"`
		}
	}
	issuerPromotion struct {
		IssuerID
		Body *struct {
			Overlap string `json:"overlap,omitempty" doc:"How long the former issuer goes on signing status, ISO 8601; until its last certificate has ended unless given."`
			Force   bool   `json:"force,omitempty" doc:"Even when the overlap ends before the former issuer's last certificate."`
		}
	}
	issuerRetirement struct {
		IssuerID
		Body *struct {
			Force bool `json:"force,omitempty" doc:"Even while certificates of it are good."`
		}
	}
	issuerRevocation struct {
		IssuerID
		Body struct {
			Reason string `json:"reason" doc:"cACompromise, keyCompromise, superseded, cessationOfOperation, …"`
		}
	}
	issuerRevoked struct {
		Body struct {
			Issuer      issuer   `json:"issuer"`
			Below       []string `json:"below" nullable:"false" doc:"The ids of the issuers that were revoked with it."`
			OnParentCRL bool     `json:"onParentCRL" doc:"Its parent's next CRL names it. Otherwise who holds the parent's key must revoke it there; of a root, whoever trusts it must be told."`
		}
	}
	crlPublication struct {
		IssuerID
		Body struct {
			CRL string `json:"crl" doc:"The root's next CRL, PEM."`
		}
	}
	crossSigning struct {
		IssuerID
		Body struct {
			By string `json:"by" doc:"The root that signs."`
		}
	}
	caSigning struct {
		IssuerID
		Body struct {
			CSR      string `json:"csr" doc:"PKCS#10 of the other CA, PEM."`
			Lifetime string `json:"lifetime,omitempty" doc:"ISO 8601; five years unless given, and never beyond the root."`
		}
	}
	caSigned struct {
		Body struct {
			Serial      string `json:"serial"`
			Certificate string `json:"certificate" doc:"PEM."`
			Chain       string `json:"chain" doc:"The certificates above it, PEM."`
		}
	}
)

func (d *door) addIssuerMoves() {
	const tag, one = "issuers", "/issuers/{id}"
	add(d, route{"create-issuer", http.MethodPost, "/issuers", policies.ScopeSecurity, tag, "Make an issuing CA below a root of ours; beside an active one it is prepared", true}, d.createIssuer)
	add(d, route{"promote-issuer", http.MethodPost, one + "/promote", policies.ScopeSecurity, tag, "Make a prepared issuer the active one; the former one retires", false}, d.promoteIssuer)
	add(d, route{"retire-issuer", http.MethodPost, one + "/retire", policies.ScopeSecurity, tag, "Retire an issuer early, or give a prepared one up", false}, d.retireIssuer)
	add(d, route{"revoke-issuer", http.MethodPost, one + "/revoke", policies.ScopeSecurity, tag, "Revoke an issuer and all below it for good; certificates of it authenticate nothing", false}, d.revokeIssuer)
	add(d, route{"publish-crl", http.MethodPost, one + "/crl", policies.ScopeSecurity, tag, "Publish the CRL of a root whose key is elsewhere", false}, d.publishCRL)
	add(d, route{"cross-sign-issuer", http.MethodPost, one + "/cross-sign", policies.ScopeSecurity, tag, "Have a root's key certified by another root", false}, d.crossSign)
	add(d, route{"sign-ca", http.MethodPost, one + "/sign", policies.ScopeSecurity, tag, "Sign another authority's CA by a root of ours", false}, d.signCA)
}

// answered is an issuer as it stands after an act on it. Other processes and jobs of this
// one learn of it soon.
func (d *door) answered(ctx context.Context, i ca.Issuer, err error) (*found[issuer], error) {
	if err != nil {
		return nil, err
	}
	d.AfterRevoke()
	return d.getIssuer(ctx, &IssuerID{ID: string(i.ID)})
}

func optionalDuration(text, pointer string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return parseDuration(text, pointer)
}

func (d *door) createIssuer(ctx context.Context, in *issuerDraft) (*written[issuer], error) {
	lifetime, err := optionalDuration(in.Body.Lifetime, "/lifetime")
	if err != nil {
		return nil, err
	}
	if err := d.Engine.CheckProfile(ctx, in.Body.Profile); err != nil {
		return nil, err
	}
	i, err := d.Authority.CreateIssuing(ctx, actor(ctx), ca.IssuerID(in.Body.Parent), ca.IssuingRequest{
		Name: in.Body.Name, Profile: in.Body.Profile, KeyType: policies.KeyType(in.Body.KeyType), Lifetime: lifetime,
	})
	return d.made(ctx, i, err)
}

func (d *door) made(ctx context.Context, i ca.Issuer, err error) (*written[issuer], error) {
	got, err := d.answered(ctx, i, err)
	if err != nil {
		return nil, err
	}
	return &written[issuer]{Status: http.StatusCreated, Location: prefix + "/issuers/" + string(i.ID), Body: got.Body}, nil
}

func (d *door) promoteIssuer(ctx context.Context, in *issuerPromotion) (*found[issuer], error) {
	var p ca.Promotion
	if in.Body != nil {
		p.Force = in.Body.Force
		if in.Body.Overlap != "" {
			overlap, err := parseDuration(in.Body.Overlap, "/overlap")
			if err != nil {
				return nil, err
			}
			p.Overlap = &overlap
		}
	}
	i, err := d.Authority.Promote(ctx, actor(ctx), ca.IssuerID(in.ID), p)
	return d.answered(ctx, i, err)
}

func (d *door) retireIssuer(ctx context.Context, in *issuerRetirement) (*found[issuer], error) {
	i, err := d.Authority.Retire(ctx, actor(ctx), ca.IssuerID(in.ID), in.Body != nil && in.Body.Force)
	return d.answered(ctx, i, err)
}

func (d *door) revokeIssuer(ctx context.Context, in *issuerRevocation) (*issuerRevoked, error) {
	reason, err := ca.ParseReason(in.Body.Reason)
	if err != nil {
		return nil, at(err, "/reason")
	}
	done, err := d.Authority.RevokeIssuer(ctx, actor(ctx), ca.IssuerID(in.ID), reason)
	got, err := d.answered(ctx, done.Issuer, err)
	if err != nil {
		return nil, err
	}
	out := &issuerRevoked{}
	out.Body.Issuer, out.Body.OnParentCRL, out.Body.Below = got.Body, done.OnCRL, []string{}
	for _, i := range done.Below {
		out.Body.Below = append(out.Body.Below, string(i.ID))
	}
	return out, nil
}

func (d *door) publishCRL(ctx context.Context, in *crlPublication) (*found[issuer], error) {
	block, rest := pem.Decode([]byte(in.Body.CRL))
	bad := fault.New(fault.Malformed, "crl", "the CRL is not one in PEM").At("/crl")
	if block == nil || block.Type != "X509 CRL" || strings.TrimSpace(string(rest)) != "" {
		return nil, bad
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, bad.Because(err)
	}
	err = d.Authority.PublishCRL(ctx, actor(ctx), ca.IssuerID(in.ID), list)
	return d.answered(ctx, ca.Issuer{ID: ca.IssuerID(in.ID)}, err)
}

func (d *door) crossSign(ctx context.Context, in *crossSigning) (*found[issuer], error) {
	c, err := d.Authority.CrossSign(ctx, actor(ctx), ca.IssuerID(in.ID), ca.IssuerID(in.Body.By))
	return d.answered(ctx, ca.Issuer{ID: c.Issuer}, err)
}

func (d *door) signCA(ctx context.Context, in *caSigning) (*caSigned, error) {
	lifetime, err := optionalDuration(in.Body.Lifetime, "/lifetime")
	if err != nil {
		return nil, err
	}
	csr, err := requestIn(in.Body.CSR)
	if err != nil {
		return nil, err
	}
	c, err := d.Authority.SignCA(ctx, actor(ctx), ca.IssuerID(in.ID), csr, lifetime)
	if err != nil {
		return nil, err
	}
	out := &caSigned{}
	out.Body.Serial, out.Body.Certificate = string(ca.SerialOf(c.SerialNumber)), pemOf(c.Raw)
	out.Body.Chain = pemOf(d.Authority.Chain(ca.IssuerID(in.ID))...)
	return out, nil
}

func requestIn(text string) (*x509.CertificateRequest, error) {
	bad := fault.New(fault.Malformed, "csr", "the request is not PKCS#10 in PEM").At("/csr")
	block, rest := pem.Decode([]byte(text))
	if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") || strings.TrimSpace(string(rest)) != "" {
		return nil, bad
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, bad.Because(err)
	}
	return csr, nil
}
