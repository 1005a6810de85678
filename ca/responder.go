package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"time"

	"go.step.sm/crypto/x509util"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

const (
	// responderLifetime is how long OCSP can do without the issuer's key at the most; half of
	// it, at the least.
	responderLifetime = 7 * 24 * time.Hour
	responderActor    = "job:ocsp"
	// responderLook is how often a responder that should have been renewed is looked up, in
	// case another replica has done it.
	responderLook = time.Minute
)

// oidOCSPNoCheck says that the certificate is not to be asked about (RFC 6960 §4.2.2.2.1).
var oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// responder signs answers for one issuer.
type responder struct {
	issuer      IssuerID
	certificate *x509.Certificate
	key         crypto.Signer
	keyHash     [sha1.Size]byte
	looked      time.Time // when its row was read
}

// renewAt is when half its life is over.
func (r *responder) renewAt() time.Time {
	return r.certificate.NotAfter.Add(-r.certificate.NotAfter.Sub(r.certificate.NotBefore) / 2)
}

// SweepResponders makes an OCSP responder for every issuing CA that has none or whose
// responder is past half its life. A CA whose key cannot sign now keeps the one it has; the
// others are not held up, and all failures are reported. It does nothing without a Box.
func (a *Authority) SweepResponders(ctx context.Context) error {
	if a.config.Box == nil {
		return nil
	}
	now := a.now()
	var failed []error
	for _, i := range a.current.Load().issuers {
		if i.Role != RoleIssuing || i.signer == nil || !now.Before(i.certificate.NotAfter) {
			continue
		}
		if err := a.renewResponder(ctx, i, now); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (a *Authority) renewResponder(ctx context.Context, i *issuer, now time.Time) error {
	row, err := a.responderRow(ctx, i.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err == nil {
		was, err := a.openResponder(row, now)
		// One that does not open, because the KEK is another, is replaced.
		if err == nil && was.serves(now) && now.Before(was.renewAt()) {
			return nil
		}
	}
	next, u, err := a.makeResponder(i, now)
	if err != nil {
		return err
	}
	err = a.store.Update(ctx, func(tx Tx) error {
		if err := tx.PutOCSPResponder(next, row.Certificate); err != nil {
			return err
		}
		_, err := Record(tx, u, audit.Event{Actor: responderActor, Subject: "ocsp:" + string(i.ID)})
		return err
	})
	if fault.RuleOf(err) == "responder-moved" {
		return nil // another replica was first
	}
	return err
}

// makeResponder makes a key and a certificate for it, neither of which is on record yet.
func (a *Authority) makeResponder(i *issuer, now time.Time) (OCSPResponder, Unrecorded, error) {
	// Always of this type, whatever the issuer's: it is the quickest that everybody can check.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return OCSPResponder{}, Unrecorded{}, err
	}
	template, err := a.responderTemplate(key.Public(), i, now)
	if err != nil {
		return OCSPResponder{}, Unrecorded{}, err
	}
	standIn, err := i.standIn()
	if err != nil {
		return OCSPResponder{}, Unrecorded{}, err
	}
	if err := a.shapes.lint(template, standIn); err != nil {
		return OCSPResponder{}, Unrecorded{}, err
	}
	made, err := sign(template, i.certificate, i.signer)
	if err != nil {
		return OCSPResponder{}, Unrecorded{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return OCSPResponder{}, Unrecorded{}, err
	}
	row := OCSPResponder{Issuer: i.ID, Certificate: made.Raw, SealedKey: a.config.Box.Seal(responderPurpose(i.ID), pkcs8), NotAfter: made.NotAfter}
	return row, Unrecorded{certificate: Certificate{
		Issuer: i.ID, Serial: SerialOf(made.SerialNumber), Thumbprint: verify.ThumbprintOf(made.Raw),
		KeyHash: verify.KeyHashOf(made.RawSubjectPublicKeyInfo), NotBefore: made.NotBefore, NotAfter: made.NotAfter, Issued: now.UTC(), DER: made.Raw,
	}}, nil
}

// responderTemplate is a delegated responder (RFC 6960 §4.2.2.2): nothing but that.
func (a *Authority) responderTemplate(public crypto.PublicKey, i *issuer, now time.Time) (*x509.Certificate, error) {
	keyID, err := x509util.GenerateSubjectKeyID(public)
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber: newSerial(now), Subject: pkix.Name{CommonName: "OCSP " + string(i.ID)},
		NotBefore: later(now.Add(-caBackdate), i.certificate.NotBefore), NotAfter: now.Add(responderLifetime),
		PublicKey: public, SubjectKeyId: keyID, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, BasicConstraintsValid: true,
		IssuingCertificateURL: []string{a.certificateURL(i.ID)},
		ExtraExtensions:       []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}},
	}
	if end := i.certificate.NotAfter; t.NotAfter.After(end) {
		t.NotAfter = end
	}
	return t, nil
}

// responder is an issuer's responder as last read, or read now where that has ended or
// should have been renewed.
func (a *Authority) responder(ctx context.Context, i *issuer, now time.Time) (*responder, error) {
	a.ocsp.mu.RLock()
	kept := a.ocsp.responders[i.ID]
	a.ocsp.mu.RUnlock()
	if kept.serves(now) && (now.Before(kept.renewAt()) || now.Sub(kept.looked).Abs() < responderLook) {
		return kept, nil
	}
	none := fault.New(fault.Unavailable, "ocsp-responder", "The issuer has no OCSP responder now; try again later.").About("issuer " + string(i.ID))
	if a.config.Box == nil {
		return nil, none
	}
	row, err := a.responderRow(ctx, i.ID)
	if fault.Is(err, fault.NotFound) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	read, err := a.openResponder(row, now)
	if err != nil {
		return nil, err
	}
	if !read.serves(now) {
		return nil, none
	}
	a.ocsp.mu.Lock()
	defer a.ocsp.mu.Unlock()
	a.ocsp.responders[i.ID] = read
	return read, nil
}

func (a *Authority) responderRow(ctx context.Context, id IssuerID) (row OCSPResponder, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		row, err = tx.OCSPResponder(id)
		return err
	})
	return row, err
}

// openResponder unseals a row.
func (a *Authority) openResponder(row OCSPResponder, now time.Time) (*responder, error) {
	about := "issuer " + string(row.Issuer)
	certificate, err := x509.ParseCertificate(row.Certificate)
	if err != nil {
		return nil, fault.New(fault.Internal, "responder-damaged", "The certificate of an OCSP responder does not parse.").About(about).Because(err)
	}
	pkcs8, err := a.config.Box.Open(responderPurpose(row.Issuer), row.SealedKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	signer, is := key.(*ecdsa.PrivateKey)
	if err != nil || !is || !signer.PublicKey.Equal(certificate.PublicKey) {
		return nil, fault.New(fault.Internal, "responder-damaged", "The key of an OCSP responder is not its certificate's.").About(about).Because(err)
	}
	return &responder{issuer: row.Issuer, certificate: certificate, key: signer, keyHash: sha1.Sum(keyBits(certificate)), looked: now}, nil
}

// serves reports whether the responder's certificate is good at a time.
func (r *responder) serves(now time.Time) bool {
	return r != nil && now.Before(r.certificate.NotAfter) && !now.Before(r.certificate.NotBefore)
}

// responderPurpose is where a responder's key belongs.
func responderPurpose(id IssuerID) string { return "ocsp_responders|" + string(id) + "|key" }

// ocspServer is the address of an issuer's responder, as certificates name it.
func (a *Authority) ocspServer(id IssuerID) []string {
	if a.config.Box == nil || a.config.OmitOCSP {
		return nil
	}
	return []string{a.config.PKIURL + "/ocsp/" + string(id)}
}
