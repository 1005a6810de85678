package device

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Protocol names how an Agent gets its certificates.
type Protocol string

// The protocols.
const (
	DPS Protocol = "dps-http" // register with a CSR; also tells the device its hub
	EST Protocol = "est"      // simpleenroll and simplereenroll; knows no hubs
)

// AgentConfig is what an Agent works with.
type AgentConfig struct {
	// Server says who and where; its Credential is the onboarding one: the factory's
	// certificate or the symmetric key. It may be zero once the folder holds a certificate.
	Server   Config
	Folder   *Folder
	Protocol Protocol // empty means DPS
	// KeyType of new keys; empty keeps the kind of the key before.
	KeyType KeyType
	// TPM makes and keeps new keys, in place of the folder; nil: there is none.
	TPM TPM
	// Payload goes with every registration (DPS only).
	Payload json.RawMessage
	// Events receives progress, in order, from the caller's goroutine; may be nil.
	Events func(Event)
	// Random spreads renewals and retries; nil means crypto/rand.
	Random io.Reader
}

// Agent keeps one device provisioned: it registers, stores, renews, and falls back to
// the certificate before and then to the onboarding credential when the current one
// is refused. Its methods are for one goroutine, HubRefused apart.
type Agent struct {
	config  AgentConfig
	now     func() time.Time
	refused chan struct{}
	// pending is the request in flight. A retry after a temporary failure repeats it,
	// so that a server which had issued already answers with the same certificate.
	pending *pending
	// freshKey is set when a request was refused for what it says: the next one must
	// not carry the same key.
	freshKey bool
}

type pending struct {
	key    crypto.Signer
	csr    []byte
	before *x509.Certificate // the one in use when it was made; nil: none was
}

// NewAgent checks the configuration.
func NewAgent(config AgentConfig) (*Agent, error) {
	if config.Folder == nil {
		return nil, errors.New("device: an agent needs a folder")
	}
	if config.Protocol == "" {
		config.Protocol = DPS
	}
	if config.Protocol != DPS && config.Protocol != EST {
		return nil, fmt.Errorf("device: %q is not a protocol", config.Protocol)
	}
	if config.Server.Now == nil {
		config.Server.Now = time.Now
	}
	if config.Random == nil {
		config.Random = rand.Reader
	}
	if config.Events == nil {
		config.Events = func(Event) {}
	}
	if config.Protocol == EST && config.Server.Credential.TPM != nil {
		return nil, errors.New("device: a TPM proves itself over dps-http, not over est")
	}
	if config.TPM != nil {
		config.Folder.UseTPM(config.TPM)
	}
	client, err := New(config.Server)
	if err != nil {
		return nil, err
	}
	client.Close()
	return &Agent{config: config, now: config.Server.Now, refused: make(chan struct{}, 1)}, nil
}

// Register registers now with the onboarding credential, or with the folder's
// certificate if there is no other, and stores the certificate.
func (a *Agent) Register(ctx context.Context) error {
	stored, err := a.stored()
	if err != nil {
		return err
	}
	onboarding := proof{name: "onboarding credential", credential: a.config.Server.Credential}
	if onboarding.credential.IsZero() {
		onboarding = proof{name: "own certificate", credential: stored.Credential(), reenroll: true}
	}
	return a.noting(a.obtain(ctx, stored, onboarding))
}

// Renew gets a new certificate now, proving itself with the current one: for a new key, or for
// the one that is in the TPM.
func (a *Agent) Renew(ctx context.Context) error {
	stored, err := a.stored()
	if err != nil {
		return err
	}
	return a.noting(a.obtain(ctx, stored, proof{name: "own certificate", credential: stored.Credential(), reenroll: true}))
}

// Once does what is due, if anything: a first registration, a renewal, or one again
// after the certificate ran out.
func (a *Agent) Once(ctx context.Context) error {
	_, err := a.step(ctx, false)
	return err
}

// step does what is due, or registers regardless when forced. It returns when to
// look again.
func (a *Agent) step(ctx context.Context, forced bool) (time.Time, error) {
	stored, err := a.stored()
	if err != nil {
		return time.Time{}, err
	}
	state := a.state()
	now := a.now()
	if leaf := stored.Leaf(); leaf != nil && !forced && now.Before(leaf.NotAfter) {
		if state.Thumbprint == thumbprint(leaf) && now.Before(state.RenewAt) {
			return state.RenewAt, nil
		}
		// Over EST a lost state.json is just drawn again. Over DPS it also named the
		// hub, and only registering tells that.
		if state.Thumbprint != thumbprint(leaf) && a.config.Protocol == EST {
			if state, err = a.describe(stored, State{}); err != nil {
				return time.Time{}, err
			}
			if now.Before(state.RenewAt) {
				return state.RenewAt, a.config.Folder.SaveState(state)
			}
		}
	}
	if err := a.noting(a.obtain(ctx, stored, a.proofs(stored)...)); err != nil {
		return time.Time{}, err
	}
	state = a.state()
	life := state.NotAfter.Sub(now)
	return later(state.RenewAt, a.now().Add(min(minInterval, life/3))), nil
}

// proof is one way for the device to say who it is.
type proof struct {
	name       string
	credential Credential
	reenroll   bool // a certificate of the server's own, so EST calls it re-enrollment
}

// proofs lists what may be tried, best first: certificates within their dates, then
// the onboarding credential.
func (a *Agent) proofs(stored Stored) []proof {
	var all []proof
	now := a.now()
	add := func(name string, s Stored) {
		if leaf := s.Leaf(); leaf != nil && now.Before(leaf.NotAfter) {
			all = append(all, proof{name: name, credential: s.Credential(), reenroll: true})
		}
	}
	add("own certificate", stored)
	if previous, err := a.config.Folder.Previous(); err == nil {
		add("previous certificate", previous)
	}
	if onboarding := a.config.Server.Credential; !onboarding.IsZero() {
		all = append(all, proof{name: "onboarding credential", credential: onboarding})
	}
	return all
}

// ErrNoProof means that an Agent has nothing to show the server.
var ErrNoProof = errors.New("device: nothing to prove the device with: no certificate within its dates, no onboarding credential")

// obtain asks for a certificate with one proof after the other until one is not
// refused as unauthorized, and stores what comes.
func (a *Agent) obtain(ctx context.Context, stored Stored, proofs ...proof) error {
	request, err := a.request(stored)
	if err != nil {
		return err
	}
	err = ErrNoProof
	proofs = a.attesting(stored, request, proofs)
	for i, p := range proofs {
		if p.credential.IsZero() {
			continue
		}
		a.event(Registering, "%s with %s, by %s", a.config.Server.RegistrationID, a.config.Server.URL, p.name)
		var result Result
		result, err = a.ask(ctx, p, request)
		if err == nil {
			if err = a.store(stored, request.key, result); err == nil && p.reenroll {
				a.putToUse(ctx)
			}
			return err
		}
		if !IsRefused(err, http.StatusUnauthorized) {
			break
		}
		if i < len(proofs)-1 {
			a.event(Rejected, "%s: %v", p.name, err)
		}
	}
	if IsRefused(err, http.StatusBadRequest) || IsRefused(err, http.StatusForbidden) {
		a.pending, a.freshKey = nil, true
		if kept := stored.Leaf() != nil && certifies(stored.Leaf(), request.key); kept && IsRefused(err, http.StatusBadRequest) {
			a.event(Rejected, "%v; asking for a new key", err)
			if err = a.obtain(ctx, stored, proofs...); IsRefused(err, http.StatusBadRequest) {
				a.freshKey = false // it was not the key: the next time begins with the one that is kept
			}
		}
	}
	return err
}

// attesting are the proofs for a request. For a new key in the TPM that which the TPM gives itself
// comes first, as it vouches for the key: a certificate vouches for its own.
func (a *Agent) attesting(stored Stored, r *pending, proofs []proof) []proof {
	onboarding := a.config.Server.Credential
	if onboarding.TPM == nil || !inTPM(r.key) || stored.Leaf() == nil || certifies(stored.Leaf(), r.key) {
		return proofs
	}
	first := []proof{{name: "onboarding credential", credential: onboarding}}
	return append(first, slices.DeleteFunc(proofs, func(p proof) bool { return p.credential.TPM != nil })...)
}

// request returns the pending request, or makes one: for the folder's key before the
// first certificate, or while it is in the TPM, which it cannot have left; for a new key else.
func (a *Agent) request(stored Stored) (*pending, error) {
	leaf := stored.Leaf()
	if p := a.pending; p != nil && (leaf == nil || !certifies(leaf, p.key) || leaf.Equal(p.before)) {
		return p, nil
	}
	key := stored.Key
	if key == nil || a.freshKey || leaf != nil && !(a.config.TPM != nil && inTPM(key)) {
		kind := a.config.KeyType
		if kind == "" {
			kind = kindOf(stored.Key)
		}
		var err error
		if a.config.TPM != nil {
			key, err = a.config.TPM.NewKey()
		} else {
			key, err = NewKey(kind)
		}
		if err != nil {
			return nil, err
		}
	}
	csr, err := NewCSR(key, a.config.Server.RegistrationID)
	if err != nil {
		return nil, err
	}
	a.pending = &pending{key: key, csr: csr, before: leaf}
	return a.pending, nil
}

// ask makes the one call, by the protocol.
func (a *Agent) ask(ctx context.Context, p proof, r *pending) (Result, error) {
	config := a.config.Server
	config.Credential = p.credential
	client, err := New(config)
	if err != nil {
		return Result{}, err
	}
	defer client.Close()
	if a.config.Protocol == DPS {
		request := Request{CSR: r.csr, Payload: a.config.Payload}
		if p.credential.TPM != nil && inTPM(r.key) {
			request.Key = r.key
		}
		return client.Register(ctx, request)
	}
	enroll := client.SimpleEnroll
	if p.reenroll {
		enroll = client.SimpleReenroll
	}
	chain, err := enroll(ctx, r.csr)
	if err != nil {
		return Result{}, err
	}
	// The leaf alone is a working credential, so failing to learn what is above it
	// is no reason to throw it away.
	if pool, err := client.CACerts(ctx); err == nil {
		chain = extend(chain, pool)
	}
	return Result{Chain: chain}, nil
}

// putToUse shows the server the certificate it has just given: from then on it knows that
// the device has it, and lets the one before go. That can wait for the next registration, so
// a failure is only told. EST has no call for it.
func (a *Agent) putToUse(ctx context.Context) {
	if a.config.Protocol != DPS {
		return
	}
	current, err := a.stored()
	if err == nil {
		_, err = a.ask(ctx, proof{credential: current.Credential()}, new(pending))
	}
	if err != nil {
		a.event(Failed, "the new certificate is not in use yet: %v", err)
	}
}

// store writes the credential first: a crash before the state is written costs one
// more registration, the other way round would leave a state about a lost key.
func (a *Agent) store(before Stored, key crypto.Signer, result Result) error {
	folder := a.config.Folder
	if err := folder.Save(key, result.Chain); err != nil {
		return err
	}
	a.pending, a.freshKey = nil, false
	stored, err := folder.Current()
	if err != nil {
		return err
	}
	state, err := a.describe(stored, State{AssignedHub: result.AssignedHub, DeviceID: result.DeviceID})
	if err != nil {
		return err
	}
	if w, ok := advised(result.Payload, stored.Leaf()); ok {
		at, err := w.draw(a.config.Random)
		if err != nil {
			return err
		}
		state.RenewAt = at.UTC()
	}
	state.RegisteredAt = a.now()
	if err := folder.SaveState(state); err != nil {
		return err
	}
	kind, to := Renewed, ""
	if before.Leaf() == nil {
		kind = Registered
	}
	if state.AssignedHub != "" {
		to = "assigned to " + state.AssignedHub + ", "
	}
	a.event(kind, "%scertificate to %s, renews from %s", to, date(state.NotAfter), date(state.RenewAt))
	return nil
}

// describe fills a state with what the credential says, and draws when to renew it.
func (a *Agent) describe(stored Stored, s State) (State, error) {
	leaf := stored.Leaf()
	at, err := renewAt(leaf.NotBefore, leaf.NotAfter, a.config.Random)
	if err != nil {
		return State{}, err
	}
	s.RegistrationID, s.Slot = a.config.Server.RegistrationID, stored.Slot
	s.Thumbprint, s.NotAfter, s.RenewAt = thumbprint(leaf), leaf.NotAfter, at.UTC()
	return s, nil
}

// noting keeps the last error in state.json for the person who looks. The same text
// is written once: a device that fails for days must not wear out its flash.
func (a *Agent) noting(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	state := a.state()
	if text := oneLine(err.Error()); state.LastError != text {
		state.RegistrationID = a.config.Server.RegistrationID
		state.LastError, state.LastErrorAt = text, a.now().UTC()
		err = errors.Join(err, a.config.Folder.SaveState(state))
	}
	return err
}

// stored reads the credential. A damaged one is as good as none where an onboarding
// credential can replace it.
func (a *Agent) stored() (Stored, error) {
	stored, err := a.config.Folder.Current()
	if err != nil && !a.config.Server.Credential.IsZero() && !errors.Is(err, errKeyInTPM) {
		a.event(Failed, "%v; starting over with the onboarding credential", err)
		return Stored{}, nil
	}
	return stored, err
}

// state reads state.json; an unreadable one counts as lost, and the next save heals it.
func (a *Agent) state() State {
	state, err := a.config.Folder.State()
	if err != nil {
		a.event(Failed, "%v", err)
	}
	return state
}

func (a *Agent) event(kind EventKind, format string, args ...any) {
	a.config.Events(Event{Time: a.now(), Kind: kind, Text: fmt.Sprintf(format, args...)})
}

func thumbprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

func kindOf(key crypto.Signer) KeyType {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P384() {
			return P384
		}
	case *rsa.PrivateKey:
		return RSA2048
	case ed25519.PrivateKey:
		return Ed25519
	}
	return P256
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
