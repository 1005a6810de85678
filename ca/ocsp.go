package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/internal/fault"
)

const (
	// unknownLifetime is how long a client may believe that a certificate is not ours.
	unknownLifetime = 5 * time.Minute
	// ocspCacheBytes bounds the answers that are kept: some twenty thousand.
	ocspCacheBytes = 32 << 20
)

// ocspService is what an Authority keeps between OCSP answers.
type ocspService struct {
	answers *answerCache

	mu         sync.RWMutex
	responders map[IssuerID]*responder
}

func newOCSPService() *ocspService {
	return &ocspService{answers: newAnswerCache(ocspCacheBytes), responders: map[IssuerID]*responder{}}
}

// ErrOCSPIssuer refuses a request about an issuer that is not here.
var ErrOCSPIssuer = fault.New(fault.NotFound, "ocsp-issuer", "The OCSP request is not about an issuer of ours.")

// OCSPAnswer is a signed answer.
type OCSPAnswer struct {
	DER        []byte
	Status     string // "good", "revoked" or "unknown"
	ThisUpdate time.Time
	NextUpdate time.Time
}

// AnswerOCSP says what the inventory says at this moment. An answer reads the certificate's
// row, unless nothing was revoked since that was read last (see [Store].TrustChanges); one signed
// before is given again only if it says just what the row says. So the commit that revokes is
// the moment from which no replica says good, and nothing has to be told to a cache.
//
// A certificate that is not in the inventory is unknown (INV-S7), and none of a Revoked issuer's
// is good, whatever its row says (RFC 6960 §2.7). An issuer is found by its
// hashes alone; only, unless it is "", is the one that the request may be about.
//
// Refusals: NotFound "ocsp-issuer" (the request is about nobody of ours); Unavailable
// "ocsp-responder" (its issuer has none yet, or none any more) and what the store says.
func (a *Authority) AnswerOCSP(ctx context.Context, q OCSPRequest, only IssuerID) (OCSPAnswer, error) {
	now := a.now()
	var refusal error = ErrOCSPIssuer
	var unknown *responder
	for _, i := range a.current.Load().issuers {
		if only != "" && i.ID != only || i.Role != RoleIssuing || !i.named(q) {
			continue
		}
		r, err := a.responder(ctx, i, now)
		if err != nil {
			refusal = err
			continue
		}
		unknown = r
		// An issuer that was renewed with its key has the name and key of the one before.
		kept := a.ocsp.answers.get(answerKey{i.ID, string(q.certID)})
		switch row, err := a.status(ctx, i.ID, q.serial, kept.row); {
		case err == nil:
			return a.answer(r, q, kept, row, now)
		case !fault.Is(err, fault.NotFound):
			return OCSPAnswer{}, err
		}
	}
	if unknown == nil {
		return OCSPAnswer{}, refusal
	}
	return unknown.answer(ocspStatement{request: q}, now, unknownLifetime)
}

func (i *issuer) named(q OCSPRequest) bool {
	for _, name := range i.names {
		if name == q.issuer {
			return true
		}
	}
	return false
}

var errNoSuchSerial = fault.New(fault.NotFound, "certificate-not-found", "No certificate has such a serial number.")

// statusRow is what a certificate's row said when so many commits had changed trust. exact
// is false where others may have done so too.
type statusRow struct {
	Revocation
	changes uint64
	exact   bool
}

// status reads a certificate's row, unless the one read before still stands.
func (a *Authority) status(ctx context.Context, id IssuerID, serial Serial, before statusRow) (row statusRow, err error) {
	if serial == "" {
		return row, errNoSuchSerial
	}
	// Counted before it is read: what changes meanwhile is read again next time.
	row.changes, row.exact = a.store.TrustChanges()
	if row.exact && before.exact && row.changes == before.changes {
		return before, nil
	}
	err = a.store.View(ctx, func(tx Tx) (err error) {
		row.Revocation, err = tx.CertificateStatus(id, serial)
		return err
	})
	return row, err
}

// answer gives the answer signed before if it says the same, or signs one. An answer is
// signed anew when half its life is over.
func (a *Authority) answer(r *responder, q OCSPRequest, kept keptAnswer, row statusRow, now time.Time) (OCSPAnswer, error) {
	lifetime, status := a.config.OCSPLifetime, row.Revocation
	if q.HasNonce() {
		return r.answer(ocspStatement{request: q, known: true, revocation: status}, now, lifetime)
	}
	if kept.by == r.keyHash && kept.says == status && !now.Before(kept.ThisUpdate) && now.Before(kept.ThisUpdate.Add(lifetime/2)) {
		if kept.row != row {
			kept.row = row
			a.ocsp.answers.put(kept)
		}
		return kept.OCSPAnswer, nil
	}
	made, err := r.answer(ocspStatement{request: q, known: true, revocation: status}, now, lifetime)
	if err == nil {
		a.ocsp.answers.put(keptAnswer{made, kept.key, row, status, r.keyHash})
	}
	return made, err
}

// answer dates and signs an answer; it does not outlive the certificate that signs it.
func (r *responder) answer(s ocspStatement, now time.Time, lifetime time.Duration) (OCSPAnswer, error) {
	s.thisUpdate = now.UTC().Truncate(time.Second)
	s.nextUpdate = s.thisUpdate.Add(lifetime)
	if end := r.certificate.NotAfter; s.nextUpdate.After(end) {
		s.nextUpdate = end
	}
	der, err := r.sign(s)
	if err != nil {
		return OCSPAnswer{}, fault.New(fault.Internal, "ocsp-signing", "An OCSP answer could not be signed.").Because(err)
	}
	made := OCSPAnswer{DER: der, Status: "good", ThisUpdate: s.thisUpdate, NextUpdate: s.nextUpdate}
	switch {
	case !s.known:
		made.Status = "unknown"
	case !s.revocation.RevokedAt.IsZero():
		made.Status = "revoked"
	}
	return made, nil
}

// Staple is the answer about a certificate for its own server to hand out (RFC 6066 §8).
// NotFound where it is none of ours; Unavailable where there is no responder yet.
func (a *Authority) Staple(ctx context.Context, certificate *x509.Certificate) (OCSPAnswer, error) {
	for _, i := range a.current.Load().issuers {
		if i.Role == RoleIssuing && bytes.Equal(i.certificate.RawSubject, certificate.RawIssuer) && bytes.Equal(i.certificate.SubjectKeyId, certificate.AuthorityKeyId) {
			der, err := ocsp.CreateRequest(certificate, i.certificate, nil)
			if err != nil {
				return OCSPAnswer{}, err
			}
			q, err := ParseOCSPRequest(der)
			if err != nil {
				return OCSPAnswer{}, err
			}
			return a.AnswerOCSP(ctx, q, i.ID)
		}
	}
	return OCSPAnswer{}, fault.New(fault.NotFound, "ocsp-issuer", "The certificate is of no issuer of ours.")
}
