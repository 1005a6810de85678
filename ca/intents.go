package ca

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Intent is one request to an upstream. It is on record before anything is asked, so that
// no certificate can be made for us that we do not know of (INV-S2).
type Intent struct {
	ID             string // a random UUID
	Issuer         IssuerID
	RegistrationID verify.RegistrationID
	CSR            []byte // DER; nil for one with a challenge password
	Created        time.Time
	State          IntentState
	Settled        time.Time // when it left open; zero while it is
	Serial         Serial    // of what came back; "" while that is not known
	Certificate    []byte    // DER of what came back, likewise
	Detail         string    // why it is refused or orphaned
}

// IntentState is where an intent stands.
type IntentState string

// An intent is open until it is known what came of it. Issued: its certificate is on
// record. Refused: there is no certificate. Orphaned: there is or may be one that nobody
// was given; it stays so until the upstream has confirmed its revocation (revoked), or an
// operator has found out that there is none (refused).
const (
	IntentOpen     IntentState = "open"
	IntentIssued   IntentState = "issued"
	IntentRefused  IntentState = "refused"
	IntentOrphaned IntentState = "orphaned"
	IntentRevoked  IntentState = "revoked"
)

// IntentFilter narrows a list of intents, which is oldest first. Zero values do not narrow.
type IntentFilter struct {
	Issuer  IssuerID
	State   IntentState
	Before  time.Time // created before
	After   Intent    // the last one seen; only its Created and ID count
	Limit   int
	Unended bool // open or orphaned
}

// UpstreamRevocation is what an upstream is to be told to revoke, or has been.
type UpstreamRevocation struct {
	Issuer      IssuerID
	Serial      Serial
	Reason      Reason
	Certificate []byte // DER; nil where only the serial is known
	Intent      string // the orphaned intent it settles; "" for a certificate on record
	Created     time.Time
	Tries       int
	Next        time.Time // when to try
	Told        time.Time // when the upstream confirmed; zero until then
	Detail      string    // what the upstream said last
}

// UpstreamTx is what the work with upstreams reads and writes in one transaction.
type UpstreamTx interface {
	InsertIntent(Intent) error
	Intent(id string) (Intent, error)
	Intents(IntentFilter) ([]Intent, error)
	// UpdateIntent writes state, settled, serial, certificate and detail of an intent whose
	// stored state is was; else fault.Conflict, rule "intent-settled".
	UpdateIntent(i Intent, was IntentState) error
	// CloseIntent makes an open intent issued; else fault.Conflict, rule "intent-settled".
	CloseIntent(id string, at time.Time) error
	// TellUpstream queues the revocation of a certificate on record for the upstream of its
	// issuer. It does nothing where there is none, or where it is queued.
	TellUpstream(c Certificate, at time.Time) error
	// InsertUpstreamRevocation does nothing where the certificate has one.
	InsertUpstreamRevocation(UpstreamRevocation) error
	// UpdateUpstreamRevocation writes tries, next, told and detail.
	UpdateUpstreamRevocation(UpstreamRevocation) error
	// DueUpstreamRevocations are those of an issuer, and of an intent unless that is "", that
	// are not told and whose time has come, longest due first.
	DueUpstreamRevocations(issuer IssuerID, intent string, now time.Time, limit int) ([]UpstreamRevocation, error)
	// UpstreamBacklog counts what is not done.
	UpstreamBacklog() (UpstreamBacklog, error)
}

// UpstreamBacklog is how much is not done at upstreams: intents that are open or orphaned,
// and revocations that are not confirmed.
type UpstreamBacklog struct{ Open, Orphaned, Revocations int64 }

// upstreamActor is who tidies up in the ledger.
const upstreamActor = "job:upstream"

// newIntentID is a random UUID (RFC 9562 §5.4): some upstreams ask for one.
func newIntentID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Intents lists intents, oldest first.
func (a *Authority) Intents(ctx context.Context, f IntentFilter) (list []Intent, err error) {
	err = a.store.View(ctx, func(tx Tx) (err error) {
		list, err = tx.Intents(f)
		return err
	})
	return list, err
}

// Backlog counts what is not done at upstreams.
func (a *Authority) Backlog(ctx context.Context) (b UpstreamBacklog, err error) {
	err = a.store.View(ctx, func(tx Tx) (err error) {
		b, err = tx.UpstreamBacklog()
		return err
	})
	return b, err
}

// Abandon says that a certificate will not be recorded. What an upstream signed becomes an
// orphan, to be revoked there, unless it is on record after all; what a key of ours signed
// never was. It may be called after any outcome, and ends even if ctx has ended.
func (a *Authority) Abandon(ctx context.Context, u Unrecorded, why string) error {
	if u.intent == "" {
		return nil
	}
	ctx, cancel := tidying(ctx)
	defer cancel()
	return a.orphan(ctx, u.intent, u.certificate.Serial, u.certificate.DER, why)
}

// tidyLimit bounds what is done for an upstream's sake after the caller has gone.
const tidyLimit = 30 * time.Second

func tidying(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
}

// orphan makes an intent an orphan and, where its certificate is known, queues its
// revocation.
func (a *Authority) orphan(ctx context.Context, id string, serial Serial, der []byte, why string) error {
	now := a.now().UTC()
	return a.store.Update(ctx, func(tx Tx) error { return orphanIn(tx, id, serial, der, why, now) })
}

// orphanIn does nothing to an intent that is settled. serial and der are "" and nil where
// no more is known than is on record.
func orphanIn(tx Tx, id string, serial Serial, der []byte, why string, now time.Time) error {
	i, err := tx.Intent(id)
	if err != nil || i.State != IntentOpen && i.State != IntentOrphaned {
		return err
	}
	was := i.State
	if was == IntentOrphaned && i.Serial != "" {
		return nil // its revocation is queued
	}
	if serial != "" {
		i.Serial, i.Certificate = serial, der
	}
	i.State, i.Settled, i.Detail = IntentOrphaned, now, clip(why)
	if i.Serial != "" {
		switch _, err := tx.Certificate(i.Issuer, i.Serial); {
		case err == nil:
			// The upstream gave one serial twice. To revoke it would revoke what a device holds.
			i.Detail = clip(why + "; not revoked: a certificate on record has its serial number")
		case !fault.Is(err, fault.NotFound):
			return err
		default:
			if err := tx.InsertUpstreamRevocation(UpstreamRevocation{
				Issuer: i.Issuer, Serial: i.Serial, Reason: CessationOfOperation, Certificate: i.Certificate, Intent: i.ID, Created: now, Next: now,
			}); err != nil {
				return err
			}
		}
	}
	if err := tx.UpdateIntent(i, was); err != nil {
		return err
	}
	return tx.Append(intentEvent(i, audit.UpstreamOrphaned, upstreamActor, now))
}

// refuse settles an intent that has come to nothing.
func (a *Authority) refuse(ctx context.Context, i Intent, why string) error {
	now := a.now().UTC()
	return a.store.Update(ctx, func(tx Tx) error {
		stored, err := tx.Intent(i.ID)
		if err != nil || stored.Serial != "" || stored.State != IntentOpen && stored.State != IntentOrphaned {
			return err
		}
		was := stored.State
		stored.State, stored.Settled, stored.Detail = IntentRefused, now, clip(why)
		return tx.UpdateIntent(stored, was)
	})
}

// answered notes what came back, before the transaction that records it is begun: from
// here on a crash leaves an orphan that can be revoked.
func (a *Authority) answered(ctx context.Context, i Intent) error {
	return a.store.Update(ctx, func(tx Tx) error { return tx.UpdateIntent(i, IntentOpen) })
}

func intentEvent(i Intent, action audit.Action, actor string, at time.Time) audit.Event {
	facts := map[string]any{"intent": i.ID, "issuer": i.Issuer, "detail": i.Detail}
	if i.Serial != "" {
		facts["serial"] = i.Serial
	}
	return audit.Event{At: at, Actor: actor, Action: action, Subject: "registration:" + i.RegistrationID.String(), Body: audit.Body(facts)}
}

// maxDetail bounds what is kept of an upstream's words.
const maxDetail = 400

// clip makes a text that came from elsewhere fit for a row and a terminal.
func clip(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return !unicode.IsPrint(r) }), " ")
	if r := []rune(s); len(r) > maxDetail {
		return string(r[:maxDetail]) + "…"
	}
	return s
}
