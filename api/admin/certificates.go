package admin

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// issued is an issued certificate on record.
type issued struct {
	Serial         string     `json:"serial"`
	RegistrationID string     `json:"registrationId"`
	Thumbprint     string     `json:"thumbprint" doc:"SHA-256."`
	NotBefore      *time.Time `json:"notBefore"`
	NotAfter       *time.Time `json:"notAfter"`
	Status         string     `json:"status" enum:"valid,expired,revoked" doc:"revoked outlasts expired."`
	Issuer         string     `json:"issuer" doc:"The issuer's id."`
	Issued         *time.Time `json:"issued"`
	AttestedBy     string     `json:"attestedBy,omitempty" doc:"SHA-256 of the certificate that the request was made with."`
	KeyAttestation string     `json:"keyAttestation,omitempty" enum:"tpm" doc:"tpm: the key is in the device's TPM, as that has attested."`
	RevokedAt      *time.Time `json:"revokedAt,omitempty"`
	Reason         string     `json:"reason,omitempty" doc:"As RFC 5280 spells it."`
	Pem            string     `json:"pem,omitempty" doc:"In GET of one."`
	Chain          string     `json:"chain,omitempty" doc:"The issuers above it as PEM, the root last; in GET of one."`
}

// The states of a certificate.
const (
	valid   = "valid"
	expired = "expired"
	revoked = "revoked"
)

func (d *door) statusOf(c ca.Certificate) string {
	switch {
	case c.IsRevoked():
		return revoked
	case d.Now().After(c.NotAfter):
		return expired
	}
	return valid
}

func (d *door) issuedOf(c ca.Certificate) (issued, error) {
	out := issued{
		Serial: string(c.Serial), RegistrationID: c.RegistrationID.String(), Thumbprint: c.Thumbprint.String(),
		NotBefore: instant(c.NotBefore), NotAfter: instant(c.NotAfter), Status: d.statusOf(c), Issuer: string(c.Issuer),
		Issued: instant(c.Issued), RevokedAt: instant(c.RevokedAt), Reason: string(c.Reason),
		KeyAttestation: string(c.KeyAttestation),
	}
	if !c.Parent.IsZero() {
		out.AttestedBy = c.Parent.String()
	}
	return out, nil
}

type certificateList struct {
	Paging
	RegistrationID string    `query:"registrationId" maxLength:"128"`
	Serial         string    `query:"serial" maxLength:"63" doc:"Hex in any spelling."`
	Thumbprint     string    `query:"thumbprint" maxLength:"192" doc:"SHA-256, hex in any spelling."`
	Issuer         string    `query:"issuer" maxLength:"64" doc:"The issuer's id."`
	Status         string    `query:"status" enum:"valid,expired,revoked"`
	ExpiresBefore  time.Time `query:"expiresBefore"`
	KeyAttestation string    `query:"keyAttestation" enum:"tpm,none" doc:"Where the key is known to be: in the device's TPM, or nowhere."`
}

// Serial is the serial number in a path, and the issuer it may need.
type Serial struct {
	Serial string `path:"serial" maxLength:"63" doc:"Hex in any spelling."`
	Issuer string `query:"issuer" maxLength:"64" doc:"The issuer's id: only when two issuers have the serial."`
}

type revocation struct {
	Serial
	Body *struct {
		Reason string `json:"reason,omitempty" doc:"unspecified (unless given), keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn. keyCompromise refuses the key for ever."`
	}
}

func (d *door) addCertificates() {
	const tag = "certificates"
	add(d, route{"list-certificates", http.MethodGet, "/certificates", policies.ScopeRead, tag, "List issued certificates, newest first. A page may be short of its limit; the end has no next", false}, d.listCertificates)
	add(d, route{"get-certificate", http.MethodGet, "/certificates/{serial}", policies.ScopeRead, tag, "Read an issued certificate", false}, d.getCertificate)
	add(d, route{"revoke-certificate", http.MethodPost, "/certificates/{serial}/revoke", policies.ScopeSecurity, tag, "Revoke a certificate for good", false}, d.revoke)
}

func (d *door) filter(in certificateList) (f provisioning.CertificateFilter, err error) {
	f = provisioning.CertificateFilter{Limit: in.Limit + 1, Issuer: ca.IssuerID(in.Issuer), ExpiresBefore: in.ExpiresBefore}
	if f.Before, err = in.before(d.Engine, "certificates"); err != nil {
		return f, err
	}
	if in.RegistrationID != "" {
		if f.RegistrationID, err = verify.ParseRegistrationID(in.RegistrationID); err != nil {
			return f, err
		}
	}
	if in.Serial != "" {
		if f.Serial, err = ca.ParseSerial(in.Serial); err != nil {
			return f, err
		}
	}
	if in.Thumbprint != "" {
		if f.Thumbprint, err = verify.ParseThumbprint(in.Thumbprint); err != nil {
			return f, err
		}
	}
	if in.Status != "" {
		isRevoked := in.Status == revoked
		f.Revoked = &isRevoked
	}
	if in.KeyAttestation != "" {
		attested := in.KeyAttestation != keyAttestationNone
		f.KeyAttested = &attested
	}
	if in.Status == expired && (f.ExpiresBefore.IsZero() || f.ExpiresBefore.After(d.Now())) {
		f.ExpiresBefore = d.Now()
	}
	return f, nil
}

// rounds bounds how many pages of the inventory one request for valid certificates
// looks through: which of them have expired is seen row by row.
const rounds = 8

func (d *door) listCertificates(ctx context.Context, in *certificateList) (*listed[issued], error) {
	f, err := d.filter(*in)
	if err != nil {
		return nil, err
	}
	out := &listed[issued]{Body: page[issued]{Items: []issued{}}}
	for range rounds {
		rows, err := d.Engine.Certificates(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Body.Next = ""
		for i, c := range rows {
			if i == in.Limit || len(out.Body.Items) == in.Limit {
				out.Body.Next = cursor(d.Engine, "certificates", strconv.FormatInt(f.Before, 10))
				break
			}
			f.Before = c.Position
			if in.Status != "" && d.statusOf(c) != in.Status {
				continue
			}
			item, err := d.issuedOf(c)
			if err != nil {
				return nil, err
			}
			out.Body.Items = append(out.Body.Items, item)
		}
		if out.Body.Next == "" || len(out.Body.Items) == in.Limit {
			break
		}
	}
	return out, nil
}

func (in Serial) parse() (ca.IssuerID, ca.Serial, error) {
	serial, err := ca.ParseSerial(in.Serial)
	return ca.IssuerID(in.Issuer), serial, err
}

func (d *door) getCertificate(ctx context.Context, in *Serial) (*found[issued], error) {
	issuer, serial, err := in.parse()
	if err != nil {
		return nil, err
	}
	c, err := d.Engine.Certificate(ctx, issuer, serial)
	if err != nil {
		return nil, err
	}
	body, err := d.issuedOf(c)
	body.Pem, body.Chain = pemOf(c.DER), pemOf(d.Authority.Chain(c.Issuer)...)
	return &found[issued]{Body: body}, err
}

func (d *door) revoke(ctx context.Context, in *revocation) (*found[issued], error) {
	issuer, serial, err := in.parse()
	if err != nil {
		return nil, err
	}
	reason := ca.Unspecified
	if in.Body != nil && in.Body.Reason != "" {
		if reason, err = ca.ParseReason(in.Body.Reason); err != nil {
			return nil, at(err, "/reason")
		}
	}
	c, err := d.Engine.Revoke(ctx, actor(ctx), issuer, serial, reason)
	if err != nil {
		return nil, err
	}
	d.AfterRevoke()
	body, err := d.issuedOf(c)
	return &found[issued]{Body: body}, err
}
