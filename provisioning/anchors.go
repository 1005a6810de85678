package provisioning

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// UploadAnchor takes a CA certificate under a name, unverified. The same bytes again
// change nothing; other bytes need the current version and start unverified (B7).
// vouched marks it verified by the operator's word, recorded as such (B8).
func (e *Engine) UploadAnchor(ctx context.Context, actor, name string, upload []byte, vouched bool, pre Precondition) (verify.TrustAnchor, error) {
	now := e.now()
	cert, err := verify.ParseCertificate(upload)
	if err != nil {
		return verify.TrustAnchor{}, at400(err, "/certificate")
	}
	anchor, err := verify.NewTrustAnchor(name, cert, now)
	if err != nil {
		return anchor, err
	}
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Anchor(name)
		switch {
		case fault.Is(err, fault.NotFound):
			if err := pre.check(0); err != nil {
				return err
			}
			a := vouch(anchor, actor, vouched, now)
			anchor = a
			return first(tx.InsertAnchor(a), tx.Append(anchorEvent(actor, audit.AnchorUploaded, a, now)))
		case err != nil:
			return err
		case bytes.Equal(was.Link().Cert.Raw, cert.Raw) && (!vouched || was.IsVerified()):
			anchor = was
			return nil
		}
		if err := pre.check(was.Version()); err != nil {
			return err
		}
		a, err := was.Replace(cert, now)
		if err != nil {
			return err
		}
		anchor = vouch(a, actor, vouched, now)
		return first(tx.UpdateAnchor(anchor, was.Version()), tx.Append(anchorEvent(actor, audit.AnchorUploaded, anchor, now)))
	})
	return anchor, err
}

func vouch(a verify.TrustAnchor, actor string, vouched bool, now time.Time) verify.TrustAnchor {
	if !vouched {
		return a
	}
	return a.VouchedBy(strings.TrimPrefix(actor, "operator:"), now)
}

// first is the first error of several steps that may all be tried.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// NewVerificationCode makes a code for a proof of possession and voids the old one.
func (e *Engine) NewVerificationCode(ctx context.Context, actor, name string, pre Precondition) (verify.TrustAnchor, error) {
	now := e.now()
	// Drawn before the transaction, whose function may run twice.
	entropy := make([]byte, 64)
	if _, err := io.ReadFull(rand.Reader, entropy); err != nil {
		return verify.TrustAnchor{}, err
	}
	return e.changeAnchor(ctx, actor, name, pre, audit.AnchorCodeMade, now, func(a verify.TrustAnchor) (verify.TrustAnchor, error) {
		a, _, err := a.NewVerificationCode(bytes.NewReader(entropy), now)
		return a, err
	})
}

// ProveAnchor takes the verification certificate. On failure the state and the code
// stay as they were, and the error says which of signed, named, in date failed (B2).
func (e *Engine) ProveAnchor(ctx context.Context, actor, name string, proof []byte, pre Precondition) (verify.TrustAnchor, error) {
	now := e.now()
	cert, err := verify.ParseCertificate(proof)
	if err != nil {
		return verify.TrustAnchor{}, at400(err, "/certificate")
	}
	return e.changeAnchor(ctx, actor, name, pre, audit.AnchorVerified, now, func(a verify.TrustAnchor) (verify.TrustAnchor, error) {
		return a.ProvePossession(cert, now)
	})
}

// changeAnchor makes one change of an anchor that exists.
func (e *Engine) changeAnchor(ctx context.Context, actor, name string, pre Precondition, action audit.Action, now time.Time, change func(verify.TrustAnchor) (verify.TrustAnchor, error)) (verify.TrustAnchor, error) {
	var anchor verify.TrustAnchor
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Anchor(name)
		if err != nil {
			return err
		}
		if pre != (Precondition{}) {
			if err := pre.check(was.Version()); err != nil {
				return err
			}
		}
		if anchor, err = change(was); err != nil {
			return err
		}
		return first(tx.UpdateAnchor(anchor, was.Version()), tx.Append(anchorEvent(actor, action, anchor, now)))
	})
	return anchor, err
}

// DeleteAnchor removes an anchor. Slots that reference it are emptied in the same
// transaction, so their groups fail closed (scenarios X3).
func (e *Engine) DeleteAnchor(ctx context.Context, actor, name string, pre Precondition) error {
	now := e.now()
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Anchor(name)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version()); err != nil {
			return err
		}
		return first(tx.DeleteAnchor(name, was.Version()), tx.Append(anchorEvent(actor, audit.AnchorDeleted, was, now)))
	})
}

// Anchor reads one trust anchor.
func (e *Engine) Anchor(ctx context.Context, name string) (a verify.TrustAnchor, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		a, err = tx.Anchor(name)
		return err
	})
	return a, err
}

// Anchors lists trust anchors by name, after one, at most limit.
func (e *Engine) Anchors(ctx context.Context, after string, limit int) (list []verify.TrustAnchor, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Anchors(after, limit)
		return err
	})
	return list, err
}

func anchorEvent(actor string, action audit.Action, a verify.TrustAnchor, now time.Time) audit.Event {
	facts := map[string]any{"thumbprint": a.Link().Thumbprint.String(), "version": a.Version(), "verified": a.IsVerified()}
	if by := a.Record().VerifiedBy; by != "" {
		facts["verifiedBy"] = by
	}
	return audit.Event{At: now, Actor: actor, Action: action, Subject: "anchor:" + a.Name(), Body: audit.Body(facts)}
}
