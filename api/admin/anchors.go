package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// anchor is a trust anchor: an uploaded CA certificate. What a write takes of it is
// name, certificate and vouched.
type anchor struct {
	Name                string     `json:"name,omitempty" doc:"Letters, digits and - . _; at most 64."`
	Certificate         string     `json:"certificate" doc:"PEM, or base64 of PEM or DER."`
	Vouched             bool       `json:"vouched,omitempty" writeOnly:"true" doc:"Your word, put on record, in place of a proof of possession."`
	Thumbprint          string     `json:"thumbprint,omitempty" readOnly:"true" doc:"SHA-256."`
	Subject             string     `json:"subject,omitempty" readOnly:"true"`
	Issuer              string     `json:"issuer,omitempty" readOnly:"true"`
	NotBefore           *time.Time `json:"notBefore,omitempty" readOnly:"true"`
	NotAfter            *time.Time `json:"notAfter,omitempty" readOnly:"true"`
	IsVerified          bool       `json:"isVerified" readOnly:"true"`
	VerifiedBy          string     `json:"verifiedBy,omitempty" readOnly:"true" doc:"proof, or operator:NAME."`
	VerifiedAt          *time.Time `json:"verifiedAt,omitempty" readOnly:"true"`
	VerificationCode    string     `json:"verificationCode,omitempty" readOnly:"true" doc:"Only in the answer of generateVerificationCode."`
	CodeExpires         *time.Time `json:"verificationCodeExpires,omitempty" readOnly:"true"`
	Etag                string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

func anchorOf(a verify.TrustAnchor) anchor {
	r, cert := a.Record(), a.Link().Cert
	return anchor{
		Name: r.Name, Certificate: pemOf(r.Certificate),
		Thumbprint: a.Link().Thumbprint.String(), Subject: cert.Subject.String(), Issuer: cert.Issuer.String(),
		NotBefore: instant(cert.NotBefore), NotAfter: instant(cert.NotAfter),
		IsVerified: a.IsVerified(), VerifiedBy: r.VerifiedBy, VerifiedAt: instant(r.VerifiedAt),
		Etag: etag(r.Version), CreatedDateTimeUtc: instant(r.Created), LastUpdatedDateTime: instant(r.Updated),
	}
}

// AnchorName is the name in a path.
type AnchorName struct {
	Name string `path:"name" maxLength:"64"`
}

type (
	anchorUpload struct {
		Conditions
		Body anchor
	}
	anchorPut struct {
		AnchorName
		Conditions
		Body anchor
	}
	anchorAct struct {
		AnchorName
		Conditions
	}
	anchorProof struct {
		AnchorName
		Conditions
		Body struct {
			Certificate string `json:"certificate" doc:"The verification certificate: CN = the code, signed by the anchor. PEM, or base64 of PEM or DER."`
		}
	}
)

func (d *door) addAnchors() {
	const tag = "anchors"
	add(d, route{"list-anchors", http.MethodGet, "/anchors", policies.ScopeRead, tag, "List trust anchors", false}, d.listAnchors)
	add(d, route{"create-anchor", http.MethodPost, "/anchors", policies.ScopeSecurity, tag, "Upload a CA certificate", true}, d.createAnchor)
	add(d, route{"get-anchor", http.MethodGet, "/anchors/{name}", policies.ScopeRead, tag, "Read a trust anchor", false}, d.getAnchor)
	add(d, route{"put-anchor", http.MethodPut, "/anchors/{name}", policies.ScopeSecurity, tag, "Upload or replace a CA certificate", true}, d.putAnchor)
	add(d, route{"delete-anchor", http.MethodDelete, "/anchors/{name}", policies.ScopeSecurity, tag, "Delete a trust anchor; groups that name it lose it", false}, d.deleteAnchor)
	add(d, route{"generate-verification-code", http.MethodPost, "/anchors/{name}/generateVerificationCode", policies.ScopeSecurity, tag, "Make a verification code", false}, d.newCode)
	add(d, route{"verify-anchor", http.MethodPost, "/anchors/{name}/verify", policies.ScopeSecurity, tag, "Prove possession of the CA's key", false}, d.proveAnchor)
}

func (d *door) listAnchors(ctx context.Context, in *Paging) (*listed[anchor], error) {
	after, err := in.after(d.Engine, "anchors")
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.Anchors(ctx, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "anchors", verify.TrustAnchor.Name, func(a verify.TrustAnchor) (anchor, error) { return anchorOf(a), nil })
}

func (d *door) createAnchor(ctx context.Context, in *anchorUpload) (*written[anchor], error) {
	if in.Body.Name == "" {
		return nil, fault.New(fault.Malformed, "anchor-name", "the anchor needs a name").At("/name")
	}
	return d.upload(ctx, in.Body.Name, in.Body, in.Conditions)
}

func (d *door) putAnchor(ctx context.Context, in *anchorPut) (*written[anchor], error) {
	if in.Body.Name != "" && in.Body.Name != in.Name {
		return nil, otherName("/name")
	}
	return d.upload(ctx, in.Name, in.Body, in.Conditions)
}

func (d *door) upload(ctx context.Context, name string, body anchor, c Conditions) (*written[anchor], error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	// The very same bytes need no precondition, so only a look tells what was there.
	if _, err := d.Engine.Anchor(ctx, name); fault.Is(err, fault.NotFound) {
		status = http.StatusCreated
	}
	a, err := d.Engine.UploadAnchor(ctx, actor(ctx), name, []byte(body.Certificate), body.Vouched, pre)
	if err != nil {
		return nil, err
	}
	out := &written[anchor]{Status: status, ETag: etag(a.Version()), Body: anchorOf(a)}
	if status == http.StatusCreated {
		out.Location = prefix + "/anchors/" + a.Name()
	}
	return out, nil
}

func (d *door) getAnchor(ctx context.Context, in *AnchorName) (*found[anchor], error) {
	return foundAnchor(d.Engine.Anchor(ctx, in.Name))
}

func foundAnchor(a verify.TrustAnchor, err error) (*found[anchor], error) {
	if err != nil {
		return nil, err
	}
	return &found[anchor]{ETag: etag(a.Version()), Body: anchorOf(a)}, nil
}

func (d *door) deleteAnchor(ctx context.Context, in *anchorAct) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, d.Engine.DeleteAnchor(ctx, actor(ctx), in.Name, pre)
}

func (d *door) newCode(ctx context.Context, in *anchorAct) (*found[anchor], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	a, err := d.Engine.NewVerificationCode(ctx, actor(ctx), in.Name, pre)
	out, err := foundAnchor(a, err)
	if err != nil {
		return nil, err
	}
	out.Body.VerificationCode, out.Body.CodeExpires = a.Record().Code, instant(a.Record().CodeExpires)
	return out, nil
}

func (d *door) proveAnchor(ctx context.Context, in *anchorProof) (*found[anchor], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return foundAnchor(d.Engine.ProveAnchor(ctx, actor(ctx), in.Name, []byte(in.Body.Certificate), pre))
}

// otherName refuses a body that names another resource than its path.
func otherName(pointer string) error {
	return fault.New(fault.Malformed, "name-mismatch", "the body names another resource than the path").At(pointer)
}
