package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"net/http"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// issuer is a CA of ours. Where its key is kept is not told (INV-K5).
type issuer struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Role        string     `json:"role" enum:"root,issuing,external"`
	Profile     string     `json:"profile,omitempty" doc:"The profile it signs for; without one, for all that have no issuer of their own."`
	State       string     `json:"state" enum:"prepared,active,retiring,retired,revoked"`
	RetireAt    *time.Time `json:"retireAt,omitempty" doc:"Of a retiring one: when it is retired."`
	Parent      string     `json:"parent" doc:"The issuer that signed it; its own id for a root."`
	KeyHere     bool       `json:"keyHere" doc:"Its key is on this host."`
	Upstream    string     `json:"upstream,omitempty" doc:"The CA elsewhere that signs for it."`
	Subject     string     `json:"subject"`
	Serial      string     `json:"serial"`
	Thumbprint  string     `json:"thumbprint" doc:"SHA-256."`
	NotBefore   *time.Time `json:"notBefore"`
	NotAfter    *time.Time `json:"notAfter"`
	Certificate string     `json:"certificate" doc:"PEM."`
	CRL         *crl       `json:"crl,omitempty" doc:"The latest; absent while there is none."`
	Cross       []cross    `json:"crossCertificates,omitempty" nullable:"false" doc:"Further certificates for its name and key."`
	Created     *time.Time `json:"createdDateTimeUtc"`
}

// cross is a certificate that another root signed for the issuer's key.
type cross struct {
	SignedBy    string     `json:"signedBy" doc:"The other root's id."`
	NotAfter    *time.Time `json:"notAfter"`
	Certificate string     `json:"certificate" doc:"PEM."`
}

type crl struct {
	Number     int64      `json:"number"`
	NextUpdate *time.Time `json:"nextUpdate"`
	IsCurrent  bool       `json:"isCurrent" doc:"It lists every revocation there is."`
}

func (d *door) issuerOf(i ca.Issuer, shards []ca.CRLShard) (issuer, error) {
	cert, err := x509.ParseCertificate(i.Certificate)
	if err != nil {
		return issuer{}, err
	}
	out := issuer{
		ID: string(i.ID), Name: i.Name, Role: string(i.Role), Profile: i.Profile, State: string(i.State), Parent: string(i.Parent), KeyHere: i.KeyURI != "", Upstream: i.Upstream,
		Subject: cert.Subject.String(), Serial: string(ca.SerialOf(cert.SerialNumber)), Thumbprint: verify.ThumbprintOf(i.Certificate).String(),
		NotBefore: instant(cert.NotBefore), NotAfter: instant(cert.NotAfter), Certificate: pemOf(i.Certificate), Created: instant(i.Created),
	}
	if i.State == ca.IssuerRetiring {
		out.RetireAt = instant(i.RetireAt)
	}
	out.CRL = d.crlOf(i.ID, shards)
	out.Cross, err = d.crossOf(i.ID)
	return out, err
}

func (d *door) crossOf(id ca.IssuerID) (out []cross, err error) {
	for _, c := range d.Authority.CrossCertificates() {
		if c.Issuer != id {
			continue
		}
		cert, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return nil, err
		}
		out = append(out, cross{SignedBy: string(c.SignedBy), NotAfter: instant(cert.NotAfter), Certificate: pemOf(c.Certificate)})
	}
	return out, nil
}

// crlOf sums up the lists of an issuer's shards: the number of the first, the earliest
// nextUpdate, and whether all of them are current; nil while one of them has none. A shard
// that needs no list any more is passed over.
func (d *door) crlOf(id ca.IssuerID, shards []ca.CRLShard) *crl {
	var out *crl
	for _, s := range shards {
		if s.Issuer != id || d.Authority.Ended(s) {
			continue
		}
		if s.Number == 0 {
			return nil
		}
		if out == nil {
			out = &crl{Number: s.Number, NextUpdate: instant(s.Next), IsCurrent: true}
		}
		if s.Next.Before(*out.NextUpdate) {
			out.NextUpdate = instant(s.Next)
		}
		out.IsCurrent = out.IsCurrent && s.Covers >= s.Revocations
	}
	return out
}

// IssuerID is the id in a path.
type IssuerID struct {
	ID string `path:"id" maxLength:"64"`
}

func (d *door) addIssuers() {
	const tag = "issuers"
	add(d, route{"list-issuers", http.MethodGet, "/issuers", policies.ScopeRead, tag, "List our issuers", false}, d.listIssuers)
	add(d, route{"get-issuer", http.MethodGet, "/issuers/{id}", policies.ScopeRead, tag, "Read an issuer, by id", false}, d.getIssuer)
	d.addIssuerMoves()
	d.addIssuerRequests()
}

func issuerKey(i ca.Issuer) string { return string(i.ID) }

func (d *door) listIssuers(ctx context.Context, in *Paging) (*listed[issuer], error) {
	rows, err := d.Authority.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	shards, err := d.Authority.CRLShards(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b ca.Issuer) int { return cmp.Compare(a.ID, b.ID) })
	return pageOfAll(d.Engine, rows, *in, "issuers", issuerKey, func(i ca.Issuer) (issuer, error) { return d.issuerOf(i, shards) })
}

func (d *door) getIssuer(ctx context.Context, in *IssuerID) (*found[issuer], error) {
	rows, err := d.Authority.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rows, func(r ca.Issuer) bool { return string(r.ID) == in.ID })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "no-issuer", "there is no such issuer")
	}
	shards, err := d.Authority.CRLShards(ctx)
	if err != nil {
		return nil, err
	}
	body, err := d.issuerOf(rows[i], shards)
	return &found[issuer]{Body: body}, err
}
