package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// RequestIssuing makes the key of an issuing CA, kept by Keys, and the PKCS#10 request with
// which somebody else's CA, or a root that is not here, signs for it. Lifetime is theirs to
// decide. What they sign comes back by Import.
func (a *Authority) RequestIssuing(ctx context.Context, actor string, r IssuingRequest) (IssuerRequest, error) {
	now := a.now().UTC()
	t, err := caTemplate(r.Name, 0, defaultIssuingLifetime, now)
	if err != nil {
		return IssuerRequest{}, err
	}
	if r.KeyType == "" {
		r.KeyType = policies.KeyECP256
	}
	made := IssuerRequest{ID: newIssuerID(), Name: r.Name, Profile: r.Profile, Created: now}
	uri, signer, err := a.keys.Create(ctx, string(made.ID), r.KeyType)
	if err != nil {
		return IssuerRequest{}, err
	}
	wanted, err := wantedExtensions()
	if err != nil {
		return IssuerRequest{}, err
	}
	made.KeyURI = uri
	made.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: t.Subject, ExtraExtensions: wanted}, signer)
	if err != nil {
		return IssuerRequest{}, fault.New(fault.Unavailable, "signing-failed", "The new key could not sign its request.").Because(err)
	}
	return made, a.store.Update(ctx, func(tx Tx) error {
		if err := tx.InsertIssuerRequest(made); err != nil {
			return err
		}
		return tx.Append(audit.Event{At: now, Actor: actor, Action: audit.IssuerRequested, Subject: "issuer:" + string(made.ID), Body: audit.Body(map[string]any{
			"name": made.Name, "profile": made.Profile, "sha256": verify.ThumbprintOf(made.CSR).String(),
		})})
	})
}

// wantedExtensions ask for what an issuing CA needs (RFC 5280 §4.2.1.3, §4.2.1.9): critical
// basicConstraints with CA and path length 0, and keyCertSign, cRLSign, digitalSignature.
func wantedExtensions() ([]pkix.Extension, error) {
	constraints, err := asn1.Marshal(struct {
		CA         bool
		PathLength int
	}{true, 0})
	if err != nil {
		return nil, err
	}
	const digitalSignature, certSignAndCRLSign = 0x80, 0x06
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{digitalSignature | certSignAndCRLSign}, BitLength: 7})
	return []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage},
	}, err
}

// IssuerRequests lists the requests that wait for their certificate.
func (a *Authority) IssuerRequests(ctx context.Context) (list []IssuerRequest, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		list, err = tx.IssuerRequests()
		return err
	})
	return list, err
}

// WithdrawRequest gives up a request; its key is never used. NotFound, rule
// "issuer-request-not-found".
func (a *Authority) WithdrawRequest(ctx context.Context, actor string, id IssuerID) error {
	now := a.now().UTC()
	return a.store.Update(ctx, func(tx Tx) error {
		list, err := tx.IssuerRequests()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(r IssuerRequest) bool { return r.ID == id })
		if at < 0 {
			return fault.New(fault.NotFound, "issuer-request-not-found", "There is no such request.").About("issuer request " + string(id))
		}
		if err := tx.DeleteIssuerRequest(id); err != nil {
			return err
		}
		return tx.Append(audit.Event{At: now, Actor: actor, Action: audit.IssuerWithdrawn, Subject: "issuer:" + string(id),
			Body: audit.Body(map[string]any{"name": list[at].Name})})
	})
}
