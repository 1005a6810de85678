package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.step.sm/crypto/x509util"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

const (
	year = 365 * 24 * time.Hour

	defaultRootLifetime    = 20 * year
	defaultIssuingLifetime = 5 * year

	// caBackdate lets a device whose clock is late take part from the first day.
	caBackdate = 5 * time.Minute

	// offlineCRLLifetime is for the one CRL an offline root signs before its key leaves.
	offlineCRLLifetime = year
)

// RootRequest describes a root to be made. Name is its common name, 1 to 64 printable
// characters. The zero KeyType is EC-P256, the zero Lifetime 20 years.
type RootRequest struct {
	Name     string
	KeyType  policies.KeyType
	Lifetime time.Duration
}

// IssuingRequest describes an issuing CA to be made; it never outlives its root. Name
// is as in RootRequest. The zero KeyType is EC-P256, the zero Lifetime 5 years; the zero
// Profile stands for all profiles that have no issuer of their own.
type IssuingRequest struct {
	Name     string
	Profile  string
	KeyType  policies.KeyType
	Lifetime time.Duration
}

// CreateRoot makes a self-signed root whose key stays with Keys. Its path length is 2: an
// issuing CA below it, and one below another root that it cross-signs. The first root is
// Active, one beside it Prepared. The root and its ledger entry are durable before it is
// returned. The actor is an operator: "operator:NAME".
func (a *Authority) CreateRoot(ctx context.Context, actor string, r RootRequest) (Issuer, error) {
	root, err := a.draftRoot(ctx, a.keys, r, a.now())
	if err != nil {
		return Issuer{}, err
	}
	err = a.establish(ctx, actor, nil, root)
	return root.Issuer, err
}

// CreateIssuing makes an issuing CA (path length 0) below a root whose key is here; its
// key stays with Keys. The first of its profile is Active, one beside it Prepared: see
// Promote. Conflict: "issuer-prepared" (there is a prepared one already),
// "issuer-key-elsewhere" (the root's key is not on this host) and "issuer-not-root";
// NotFound "no-issuer".
func (a *Authority) CreateIssuing(ctx context.Context, actor string, parent IssuerID, r IssuingRequest) (Issuer, error) {
	root, err := a.signingRoot(parent)
	if err != nil {
		return Issuer{}, err
	}
	issuing, err := a.draftIssuing(ctx, root, r, a.now())
	if err != nil {
		return Issuer{}, err
	}
	err = a.establish(ctx, actor, nil, issuing)
	return issuing.Issuer, err
}

// signingRoot is a root that signs CAs here. A Prepared one does: what is below it is to be
// ready when it is promoted.
func (a *Authority) signingRoot(id IssuerID) (*issuer, error) {
	root, about := a.current.Load().byID(id), "issuer "+string(id)
	switch {
	case root == nil:
		return nil, noIssuer(id)
	case root.Role != RoleRoot || root.State != IssuerActive && root.State != IssuerPrepared:
		return nil, fault.New(fault.Conflict, "issuer-not-root", "Only an active or prepared root signs a CA.").About(about)
	case root.signer == nil:
		return nil, fault.New(fault.Conflict, "issuer-key-elsewhere", "The root's key is not on this host.").About(about)
	}
	return root, nil
}

// signsStill says in the transaction what signingRoot said before it: another process may have
// ended the root meanwhile.
func signsStill(tx Tx, id IssuerID) error {
	rows, err := tx.Issuers()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(rows, func(i Issuer) bool { return i.ID == id && (i.State == IssuerActive || i.State == IssuerPrepared) }) {
		return fault.New(fault.Conflict, "issuer-not-root", "Only an active or prepared root signs a CA.").About("issuer " + string(id))
	}
	return nil
}

// CreateOffline makes a root whose key is not kept here, and its first issuing CA.
// rootKeys writes the root's key where the operator takes it from, before anything is
// on record; the root's row then has no KeyURI. While the key is at hand the root
// signs one CRL, without entries and good for a year; the next one comes from
// wherever the key went. Both issuers, the CRL and their ledger entries commit
// together.
func (a *Authority) CreateOffline(ctx context.Context, actor string, rootKeys Keys, r RootRequest, i IssuingRequest) (root, issuing Issuer, err error) {
	now := a.now()
	top, err := a.draftRoot(ctx, rootKeys, r, now)
	if err != nil {
		return Issuer{}, Issuer{}, err
	}
	top.KeyURI = ""
	below, err := a.draftIssuing(ctx, top, i, now)
	if err != nil {
		return Issuer{}, Issuer{}, err
	}
	thisUpdate := now.UTC().Truncate(time.Second)
	d := draft{number: 1, thisUpdate: thisUpdate, nextUpdate: thisUpdate.Add(offlineCRLLifetime)}
	crls, err := d.sign(nil, top, crlList{})
	if err != nil {
		return Issuer{}, Issuer{}, err
	}
	err = a.establish(ctx, actor, &crls[0], top, below)
	return top.Issuer, below.Issuer, err
}

// establish puts new issuers on record and begins to use them. A certificate that another
// issuer of ours signed is in that one's inventory too, so that its CRL can name it.
func (a *Authority) establish(ctx context.Context, actor string, crl *CRL, made ...*issuer) error {
	return a.establishIf(ctx, actor, func(Tx) error { return nil }, crl, made...)
}

// establishIf is establish where something still holds in the transaction that does it.
func (a *Authority) establishIf(ctx context.Context, actor string, holds func(Tx) error, crl *CRL, made ...*issuer) error {
	err := a.store.UpdateTrust(ctx, func(tx Tx) error {
		if err := holds(tx); err != nil {
			return err
		}
		for _, i := range made {
			if i.Parent != i.ID {
				if err := signsStill(tx, i.Parent); err != nil {
					return err
				}
			}
			if err := place(tx, &i.Issuer); err != nil {
				return err
			}
			if err := tx.Append(issuerEvent(actor, audit.IssuerCreated, i)); err != nil {
				return err
			}
			if i.Parent == i.ID {
				continue
			}
			if err := recordCA(tx, i.Parent, i.certificate, i.Created, actor, "issuer:"+string(i.ID)); err != nil {
				return err
			}
		}
		if crl == nil {
			return nil
		}
		return publish(tx, actor, *crl)
	})
	if err != nil {
		return err
	}
	return a.Reload(ctx)
}

func issuerEvent(actor string, action audit.Action, i *issuer) audit.Event {
	return audit.Event{
		At: i.Created, Actor: actor, Action: action, Subject: "issuer:" + string(i.ID),
		Body: audit.Body(map[string]any{
			"name": i.Name, "role": i.Role, "profile": i.Profile, "state": i.State, "parent": i.Parent, "keyHere": i.KeyURI != "",
			"serial": SerialOf(i.certificate.SerialNumber), "notAfter": i.certificate.NotAfter,
			"sha256": verify.ThumbprintOf(i.certificate.Raw).String(),
		}),
	}
}

func (a *Authority) draftRoot(ctx context.Context, keys Keys, r RootRequest, now time.Time) (*issuer, error) {
	t, err := caTemplate(r.Name, r.Lifetime, defaultRootLifetime, now)
	if err != nil {
		return nil, err
	}
	t.MaxPathLen = 2
	return a.draft(ctx, keys, t, r.KeyType, nil, now)
}

func (a *Authority) draftIssuing(ctx context.Context, root *issuer, r IssuingRequest, now time.Time) (*issuer, error) {
	t, err := issuingTemplate(root, r, a.addresses(root.ID), now)
	if err != nil {
		return nil, err
	}
	issuing, err := a.draft(ctx, a.keys, t, r.KeyType, root, now)
	if err == nil {
		issuing.Profile = r.Profile
	}
	return issuing, err
}

// issuingTemplate is the certificate of an issuing CA below a root, but for its key.
func issuingTemplate(root *issuer, r IssuingRequest, at Addresses, now time.Time) (*x509.Certificate, error) {
	t, err := caTemplate(r.Name, r.Lifetime, defaultIssuingLifetime, now)
	if err != nil {
		return nil, err
	}
	t.MaxPathLenZero = true
	return t, fit(t, root, at, now)
}

// fit keeps a template in the dates of the CA that signs it, with that one's addresses.
func fit(t *x509.Certificate, by *issuer, at Addresses, now time.Time) error {
	t.IssuingCertificateURL = []string{at.Certificate}
	t.CRLDistributionPoints = []string{at.CRL}
	if end := by.certificate.NotAfter; t.NotAfter.After(end) {
		t.NotAfter = end
	}
	if start := by.certificate.NotBefore; t.NotBefore.Before(start) {
		t.NotBefore = start
	}
	if !t.NotAfter.After(now) {
		return fault.New(fault.Unavailable, "issuer-expiring", "The root has expired.").About("issuer " + string(by.ID))
	}
	return nil
}

// draft makes an issuer that is not on record yet: its key, which is durable, and its
// certificate, signed by the parent, or by itself where there is none. A key left over
// by a crash after this belongs to no certificate anyone has.
func (a *Authority) draft(ctx context.Context, keys Keys, t *x509.Certificate, kt policies.KeyType, parent *issuer, now time.Time) (*issuer, error) {
	if kt == "" {
		kt = policies.KeyECP256
	}
	if err := a.lintCA(*t, kt, parent); err != nil {
		return nil, err
	}
	row := Issuer{ID: newIssuerID(), Name: t.Subject.CommonName, Role: RoleRoot, State: IssuerActive, Created: now.UTC()}
	uri, signer, err := keys.Create(ctx, string(row.ID), kt)
	if err != nil {
		return nil, err
	}
	if err := setKey(t, signer); err != nil {
		return nil, err
	}
	row.KeyURI, row.Parent = uri, row.ID
	above, key := t, signer
	if parent != nil {
		row.Role, row.Parent = RoleIssuing, parent.ID
		above, key = parent.certificate, parent.signer
	}
	made, err := sign(t, above, key)
	if err != nil {
		return nil, err
	}
	row.Certificate = made.Raw
	return newIssuer(row, made, signer), nil
}

// lintCA lints a CA's certificate before its real key is made. The template is a copy.
func (a *Authority) lintCA(t x509.Certificate, kt policies.KeyType, parent *issuer) error {
	signer, err := throwAwayKey(kt)
	if err != nil {
		return err
	}
	if err := setKey(&t, signer); err != nil {
		return err
	}
	by := &standIn{certificate: &t, signer: signer}
	if parent != nil {
		if by, err = parent.standIn(); err != nil {
			return err
		}
	}
	if err := a.shapes.lint(&t, by); err != nil {
		return err.About("issuer " + t.Subject.CommonName)
	}
	return nil
}

// caTemplate is what RFC 5280 §4.2.1 asks of every CA certificate.
func caTemplate(name string, lifetime, usual time.Duration, now time.Time) (*x509.Certificate, error) {
	if !validCAName(name) {
		return nil, fault.New(fault.Malformed, "issuer-name", "The name of an issuer has 1 to 64 printable characters.").At("/name")
	}
	if lifetime == 0 {
		lifetime = usual
	}
	if lifetime < time.Hour || lifetime > 50*year {
		return nil, fault.New(fault.Malformed, "issuer-lifetime", "An issuer lives between 1 hour and 50 years.").At("/lifetime")
	}
	now = now.UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber:          newSerial(now),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-caBackdate),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}, nil
}

func validCAName(name string) bool {
	return name != "" && utf8.ValidString(name) && utf8.RuneCountInString(name) <= maxCommonName &&
		strings.TrimSpace(name) == name && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

func setKey(t *x509.Certificate, signer crypto.Signer) (err error) {
	t.PublicKey = signer.Public()
	t.SubjectKeyId, err = x509util.GenerateSubjectKeyID(t.PublicKey)
	return err
}

func newIssuerID() IssuerID {
	var b [8]byte
	rand.Read(b[:])
	return IssuerID(hex.EncodeToString(b[:]))
}
