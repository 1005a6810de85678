package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Config is what an Authority is told by its operator.
type Config struct {
	// PKIURL is the base of the addresses written into certificates: an http or https
	// URL under which PKIURL/pki/{issuer}.crt and PKIURL/pki/{issuer}.crl are published.
	PKIURL string
	// CRLLifetime is the time from a CRL's thisUpdate to its nextUpdate; zero is 24 hours.
	CRLLifetime time.Duration
	// CRLRefresh is the share of that time after which the next CRL is signed even when
	// nothing has changed: above 0, below 1; zero is 0.5.
	CRLRefresh float64
	// SCTs asks logs for the timestamps of profiles that embed them; nil: there are no logs.
	SCTs SCTSource
	// Upstreams are the CAs elsewhere that sign for issuers, by the name in their rows.
	Upstreams map[string]Upstream
	// UpstreamTimeout is how long one is waited for, 1 to 25 seconds (a device waits for 30);
	// zero is 15 seconds.
	UpstreamTimeout time.Duration
	StatusConfig
}

func (c Config) checked() (Config, error) {
	if c.CRLLifetime == 0 {
		c.CRLLifetime = 24 * time.Hour
	}
	if c.CRLRefresh == 0 {
		c.CRLRefresh = 0.5
	}
	if c.UpstreamTimeout == 0 {
		c.UpstreamTimeout = 15 * time.Second
	}
	if c.UpstreamTimeout < time.Second || c.UpstreamTimeout > 25*time.Second {
		return Config{}, fault.New(fault.Malformed, "upstream-timeout", "An upstream is waited for between 1 and 25 seconds.").At("/upstreamTimeout")
	}
	u, err := url.Parse(c.PKIURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" {
		return Config{}, fault.New(fault.Malformed, "pki-url", "The PKI URL is not an http or https URL.").At("/pkiURL")
	}
	c.PKIURL = strings.TrimRight(c.PKIURL, "/")
	if c.CRLLifetime < time.Minute {
		return Config{}, fault.New(fault.Malformed, "crl-lifetime", "A CRL lives for at least 1 minute.").At("/crlLifetime")
	}
	if !(c.CRLRefresh > 0 && c.CRLRefresh < 1) {
		return Config{}, fault.New(fault.Malformed, "crl-refresh", "The share of its life after which a CRL is renewed lies between 0 and 1.").At("/crlRefresh")
	}
	c.StatusConfig, err = c.StatusConfig.checked()
	return c, err
}

// Authority is the set of issuers of this installation with the keys that are here.
// It is safe for concurrent use.
type Authority struct {
	store  Store
	keys   Keys
	config Config
	now    func() time.Time
	shapes *shapes
	calls  calls
	ocsp   *ocspService

	recipes recipes // of profiles, by their texts

	reloading sync.Mutex // held by Reload, so that an older reading never replaces a newer one
	current   atomic.Pointer[hierarchy]
}

// New loads the issuers on record and opens the keys of those that sign here. A key
// that is missing, locked or another issuer's is an error: see Reload. One that is only
// away (fault.Unavailable) is not: status goes on, and issuing begins when it is back.
func New(ctx context.Context, store Store, keys Keys, config Config, now func() time.Time) (*Authority, error) {
	config, err := config.checked()
	if err != nil {
		return nil, err
	}
	a := &Authority{store: store, keys: keys, config: config, now: now, shapes: newShapes(), calls: make(calls, maxCalls), ocsp: newOCSPService()}
	a.current.Store(&hierarchy{})
	if err := a.Reload(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the issuers on record again, and opens keys that are not open yet: how a
// replica learns of an issuer another one made or moved. The keys of the Retired and the
// Revoked stay closed, so that they sign nothing. When it fails the Authority goes on with
// what it had; but a key that does not open keeps nobody from learning the rest: it is said
// once, and its issuer signs nothing until it opens. Rules, besides those of Keys.Open:
// "issuer-key-mismatch" (the key is not the certificate's) and "issuer-damaged".
func (a *Authority) Reload(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	var rows []Issuer
	next := &hierarchy{}
	err := a.store.View(ctx, func(tx Tx) (err error) {
		if rows, err = tx.Issuers(); err == nil {
			next.cross, err = tx.CrossCertificates()
		}
		return err
	})
	if err != nil {
		return err
	}
	var closed []error
	for _, row := range rows {
		i, err := a.open(ctx, row)
		if i == nil {
			return err
		}
		next.issuers, closed = append(next.issuers, i), append(closed, err)
	}
	a.current.Store(next)
	return errors.Join(closed...)
}

// open is an issuer as it is used. With an error it is one whose key does not open; nil for
// one that cannot be used at all.
func (a *Authority) open(ctx context.Context, row Issuer) (*issuer, error) {
	about := "issuer " + string(row.ID)
	certificate, err := x509.ParseCertificate(row.Certificate)
	if err != nil {
		return nil, fault.New(fault.Internal, "issuer-damaged", "The certificate of an issuer does not parse.").About(about).Because(err)
	}
	if row.KeyURI == "" || row.State == IssuerRetired || row.State == IssuerRevoked {
		return newIssuer(row, certificate, nil), nil
	}
	late := newIssuer(row, certificate, &lateKey{keys: a.keys, uri: row.KeyURI, public: certificate.PublicKey})
	if was := a.current.Load().byID(row.ID); was != nil && was.signer != nil && was.certificate.Equal(certificate) {
		again := *was
		again.Issuer = row
		if was.KeyURI == row.KeyURI {
			return &again, nil
		}
		late = &again // of the key that was open
	}
	signer, err := a.keys.Open(ctx, row.KeyURI)
	if err == nil && belongs(signer, certificate.PublicKey) {
		return newIssuer(row, certificate, signer), nil
	}
	switch {
	case fault.Is(err, fault.Unavailable):
		return late, nil
	case err != nil:
		return late, err
	}
	return late, otherKey().About(about)
}

// Issuers lists the issuers on record, read now.
func (a *Authority) Issuers(ctx context.Context) ([]Issuer, error) {
	var rows []Issuer
	err := a.store.View(ctx, func(tx Tx) (err error) {
		rows, err = tx.Issuers()
		return err
	})
	return rows, err
}

// IssuerCertificate is the certificate of an issuer; fault.NotFound, rule "no-issuer".
func (a *Authority) IssuerCertificate(id IssuerID) (*x509.Certificate, error) {
	if i := a.current.Load().byID(id); i != nil {
		return i.certificate, nil
	}
	return nil, noIssuer(id)
}

// Chain is the issuer's certificate and those above it, its root last, in DER: what
// follows a leaf in issuedCertificateChain. An unknown issuer has none.
func (a *Authority) Chain(id IssuerID) [][]byte {
	var chain [][]byte
	h := a.current.Load()
	for i := h.byID(id); i != nil; i = h.byID(i.Parent) {
		chain = append(chain, i.certificate.Raw)
		// A parent that stands twice would be a damaged row, not a longer chain.
		if i.Parent == i.ID || len(chain) > len(h.issuers) {
			break
		}
	}
	return chain
}

// Bundle is what is to be trusted, and what leads there, in DER: issuing CAs and external
// ones, cross certificates, then roots. It is what EST hands out as CA certificates (RFC 7030
// §4.1.3). The prepared are in it, so that who trusts it is ready before they sign; the
// revoked and the expired are not.
func (a *Authority) Bundle() [][]byte {
	var between, roots [][]byte
	h, now := a.current.Load(), a.now()
	for _, i := range h.issuers {
		switch {
		case i.State == IssuerRevoked || now.After(i.certificate.NotAfter):
		case i.Parent == i.ID:
			roots = append(roots, i.certificate.Raw)
		default:
			between = append(between, i.certificate.Raw)
		}
	}
	for _, c := range h.standing(now) {
		between = append(between, c.Certificate)
	}
	return append(between, roots...)
}

// standing are the cross certificates that have not ended, and neither end of which is revoked.
func (h *hierarchy) standing(now time.Time) (all []CrossCertificate) {
	for _, c := range h.cross {
		made, err := x509.ParseCertificate(c.Certificate)
		if err == nil && !now.After(made.NotAfter) && h.byID(c.SignedBy).stands() && h.byID(c.Issuer).stands() {
			all = append(all, c)
		}
	}
	return all
}

// CrossCertificates lists the cross certificates on record, as last read.
func (a *Authority) CrossCertificates() []CrossCertificate {
	return slices.Clone(a.current.Load().cross)
}

// IsOurs reports whether a certificate names one of our issuing CAs, by name and key
// identifier, as its issuer, or names it so that only its signature shows it. It says where to
// look, not whom to trust.
func (a *Authority) IsOurs(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(a.current.Load().issuers, func(i *issuer) bool {
		return i.Role == RoleIssuing && bytes.Equal(leaf.RawIssuer, i.certificate.RawSubject) &&
			(len(leaf.AuthorityKeyId) == 0 || bytes.Equal(leaf.AuthorityKeyId, i.certificate.SubjectKeyId) || signed(i.certificate, leaf))
	})
}

func (a *Authority) certificateURL(id IssuerID) string {
	return a.config.PKIURL + "/pki/" + string(id) + ".crt"
}

// addresses are those of an issuer's certificate and CRL.
func (a *Authority) addresses(id IssuerID) Addresses {
	return Addresses{Certificate: a.certificateURL(id), CRL: a.crlURL(id)}
}

func (a *Authority) crlURL(id IssuerID) string {
	return a.config.PKIURL + "/pki/" + string(id) + ".crl"
}

// hierarchy is the issuers as last read. It never changes once it is published.
type hierarchy struct {
	issuers []*issuer
	cross   []CrossCertificate
}

// byID returns nil for an issuer that is not there.
func (h *hierarchy) byID(id IssuerID) *issuer {
	for _, i := range h.issuers {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// active is the issuing CA that signs certificates of a profile: the profile's own, or
// the one for all others; nil where there is none. There is at most one of each
// (architecture §7, one-open). Its key may be elsewhere.
func (h *hierarchy) active(profile string) *issuer {
	var general *issuer
	for _, i := range h.issuers {
		if i.Role != RoleIssuing || i.State != IssuerActive {
			continue
		}
		if i.Profile == profile {
			return i
		}
		if i.Profile == "" {
			general = i
		}
	}
	return general
}

func noIssuer(id IssuerID) error {
	return fault.New(fault.NotFound, "no-issuer", "There is no such issuer.").About("issuer " + string(id))
}
