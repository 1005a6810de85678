package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// ImportRequest is a CA that somebody else's CA, or one of ours that is not here, has signed.
type ImportRequest struct {
	// Chain is the CA's certificate and those above it, in any order, up to a self-signed
	// root or to an issuer on record. A self-signed one alone is imported as a root.
	Chain []*x509.Certificate
	// Profile is what an issuing CA signs for; that of the request, where one is pending.
	Profile string
	// The CA's key is that of a pending request, unless one of these names it: KeyURI a key
	// that Keys opens, Key one at hand, which Keep then puts among Keys under a name, once the
	// certificate has passed. A root may come without its key.
	KeyURI string
	Key    crypto.Signer
	Keep   func(ctx context.Context, name string) (uri string, err error)
	// Lifetime is the longest of what an issuing CA of a profile signs: its certificate, and
	// those above it, must last longer. nil: that is not looked at.
	Lifetime func(profile string) time.Duration
}

// Import puts a CA on record and the CAs above it that are not ours, as external. The first
// of its role and profile is Active, one beside it Prepared.
//
// Malformed: "issuer-certificate-missing", "issuer-not-ca", "issuer-key-usage", "issuer-path-length",
// "issuer-name", "issuer-key-id", "issuer-purpose", "issuer-critical-extension",
// "issuer-weak-key", "issuer-weak-signature", "issuer-expired", "issuer-not-yet-valid",
// "issuer-ends-too-soon", "issuer-key-mismatch", "issuer-chain-incomplete". Conflict:
// "issuer-exists", "issuer-key-in-use", "issuer-prepared", "issuer-revoked". A pending
// request stays as it was when its certificate is refused.
func (a *Authority) Import(ctx context.Context, actor string, r ImportRequest) (Issuer, error) {
	if len(r.Chain) == 0 {
		return Issuer{}, fault.New(fault.Malformed, "issuer-certificate-missing", "There is no certificate to import.")
	}
	if err := a.Reload(ctx); err != nil {
		return Issuer{}, err
	}
	requests, err := a.IssuerRequests(ctx)
	if err != nil {
		return Issuer{}, err
	}
	now := a.now().UTC()
	made, err := a.imported(ctx, r, requests, now)
	if err != nil {
		return Issuer{}, err
	}
	if r.Key != nil {
		if made.ca.KeyURI, err = r.Keep(ctx, string(made.ca.ID)); err != nil {
			return Issuer{}, err
		}
	}
	err = a.store.UpdateTrust(ctx, func(tx Tx) error { return made.record(tx, actor) })
	if err != nil {
		return Issuer{}, err
	}
	return made.ca.Issuer, a.Reload(ctx)
}

// importing is a CA about to be recorded.
type importing struct {
	ca       *issuer
	above    []*issuer // external ones that are new, the topmost first
	request  IssuerID  // that it answers; "" for none
	signedBy bool      // its parent is one of ours
}

func (m *importing) record(tx Tx, actor string) error {
	for _, i := range m.above {
		if err := tx.InsertIssuer(i.Issuer); err != nil {
			return err
		}
		if err := tx.Append(issuerEvent(actor, audit.IssuerImported, i)); err != nil {
			return err
		}
	}
	if m.request != "" {
		if err := tx.DeleteIssuerRequest(m.request); err != nil {
			return err
		}
	}
	if err := place(tx, &m.ca.Issuer); err != nil {
		return err
	}
	if m.signedBy {
		if err := m.inventory(tx, actor); err != nil {
			return err
		}
	}
	return tx.Append(issuerEvent(actor, audit.IssuerImported, m.ca))
}

// inventory records what one of ours has signed, unless it was recorded when that was done.
func (m *importing) inventory(tx Tx, actor string) error {
	_, err := tx.Certificate(m.ca.Parent, SerialOf(m.ca.certificate.SerialNumber))
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	return recordCA(tx, m.ca.Parent, m.ca.certificate, m.ca.Created, actor, "issuer:"+string(m.ca.ID))
}

// imported checks all that is known before anything is written.
func (a *Authority) imported(ctx context.Context, r ImportRequest, requests []IssuerRequest, now time.Time) (*importing, error) {
	c, h := r.Chain[0], a.current.Load()
	selfSigned := isSelfSigned(c)
	if err := checkCA(c, now); err != nil {
		return nil, err
	}
	if err := h.isNew(c); err != nil {
		return nil, err
	}
	row := Issuer{ID: newIssuerID(), Name: issuerName(c), Role: RoleIssuing, Profile: r.Profile, Certificate: c.Raw, Created: now}
	made := &importing{}
	pending := slices.IndexFunc(requests, func(q IssuerRequest) bool { return q.isFor(c) })
	switch {
	case r.Key != nil:
		if !belongs(r.Key, c.PublicKey) {
			return nil, errKeyMismatch()
		}
	case r.KeyURI != "":
		signer, err := a.keys.Open(ctx, r.KeyURI)
		if err != nil {
			return nil, err
		}
		if !belongs(signer, c.PublicKey) {
			return nil, errKeyMismatch()
		}
		row.KeyURI = r.KeyURI
	case pending >= 0:
		q := requests[pending]
		made.request, row.ID, row.Name, row.Profile, row.KeyURI = q.ID, q.ID, q.Name, q.Profile, q.KeyURI
	case !selfSigned:
		return nil, errKeyMismatch()
	}
	if selfSigned {
		row.Role, row.Profile, row.Parent = RoleRoot, "", row.ID
		made.ca = newIssuer(row, c, nil)
		return made, nil
	}
	return made, a.hang(made, row, c, r, now)
}

// hang finds what stands above a CA and checks the whole path.
func (a *Authority) hang(made *importing, row Issuer, c *x509.Certificate, r ImportRequest, now time.Time) error {
	h := a.current.Load()
	above, top, err := h.climb(c, r.Chain[1:])
	if err != nil {
		return err
	}
	path := append([]*x509.Certificate{c}, above...)
	for i := top; i != nil && len(path) <= maxAbove; i = h.byID(i.Parent) {
		path = append(path, i.certificate)
		if i.Parent == i.ID {
			break
		}
	}
	var lifetime time.Duration
	if r.Lifetime != nil {
		lifetime = r.Lifetime(row.Profile)
	}
	if err := checkPath(path, lifetime, now); err != nil {
		return err
	}
	row.Parent = ""
	for _, outside := range slices.Backward(above) {
		x := Issuer{ID: newIssuerID(), Name: issuerName(outside), Role: RoleExternal, State: IssuerActive, Certificate: outside.Raw, Created: now}
		switch {
		case row.Parent != "":
			x.Parent = row.Parent
		case top != nil:
			x.Parent = top.ID
		default:
			x.Parent = x.ID
		}
		row.Parent = x.ID
		made.above = append(made.above, newIssuer(x, outside, nil))
	}
	if row.Parent == "" {
		row.Parent = top.ID
		made.signedBy = top.Role != RoleExternal
	}
	made.ca = newIssuer(row, c, nil)
	return nil
}

func (q IssuerRequest) isFor(c *x509.Certificate) bool {
	csr, err := x509.ParseCertificateRequest(q.CSR)
	return err == nil && bytes.Equal(csr.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
}

func errKeyMismatch() error {
	return fault.New(fault.Malformed, "issuer-key-mismatch", "The certificate is not for a key that was requested or given here.")
}

// isNew refuses a certificate that is on record, and a key that another issuer has or had: a
// new certificate takes a new key.
func (h *hierarchy) isNew(c *x509.Certificate) error {
	for _, i := range h.issuers {
		about := "issuer " + string(i.ID)
		switch {
		case i.certificate.Equal(c):
			return fault.New(fault.Conflict, "issuer-exists", "This certificate is on record.").About(about)
		case bytes.Equal(i.certificate.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo):
			return fault.New(fault.Conflict, "issuer-key-in-use", "Another issuer has this key: a new one takes a new key.").About(about)
		}
	}
	return nil
}

// maxAbove bounds a chain (INV-C4).
const maxAbove = 10

// climb goes from a certificate up, by what was sent, to an issuer on record (top), or to a
// self-signed root (the last of above).
func (h *hierarchy) climb(from *x509.Certificate, sent []*x509.Certificate) (above []*x509.Certificate, top *issuer, err error) {
	for at := from; ; at = above[len(above)-1] {
		if i := h.signerOf(at); i != nil && i.State == IssuerRevoked {
			return nil, nil, fault.New(fault.Conflict, "issuer-revoked", "What stands above the certificate is revoked.").About("issuer " + string(i.ID))
		} else if i != nil {
			return above, i, nil
		}
		if isSelfSigned(at) {
			return above, nil, nil
		}
		if err := checkStrength(at); err != nil {
			return nil, nil, err // a signature that is not looked at leads nowhere
		}
		next := slices.IndexFunc(sent, func(c *x509.Certificate) bool { return signed(c, at) })
		if next < 0 || len(above) == maxAbove {
			return nil, nil, fault.New(fault.Malformed, "issuer-chain-incomplete", "No root, and no issuer on record, is reached: the certificate above %q is missing.", at.Subject)
		}
		above = append(above, sent[next])
	}
}

// signerOf is the issuer on record whose key verifies a certificate, or that it is itself.
func (h *hierarchy) signerOf(c *x509.Certificate) *issuer {
	for _, i := range h.issuers {
		if i.certificate.Equal(c) || signed(i.certificate, c) {
			return i
		}
	}
	return nil
}

func signed(by, c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, by.RawSubject) && by.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func isSelfSigned(c *x509.Certificate) bool { return signed(c, c) }

// issuerName is what people call a CA, within the bounds of a name here.
func issuerName(c *x509.Certificate) string {
	name := []rune(c.Subject.CommonName)
	if len(name) == 0 {
		name = []rune(c.Subject.String())
	}
	return string(name[:min(len(name), maxCommonName)])
}
