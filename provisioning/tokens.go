package provisioning

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Operator is somebody who signed in with a token.
type Operator struct {
	Name   string
	Scopes policies.Scopes
}

// Actor is the operator's name in the ledger.
func (o Operator) Actor() string { return "operator:" + o.Name }

// tokenPrefix begins every token, so that secret scanners find it; the id scope
// follows (experience §3).
const tokenPrefix = "mst_"

// TokenIDScope is the id scope that a token's text names; "" for anything that is no token.
// It says whom to ask about the token, and nothing about whether it is good.
func TokenIDScope(text string) string {
	rest, is := strings.CutPrefix(text, tokenPrefix)
	idScope, _, named := strings.Cut(rest, "_")
	if !is || !named {
		return ""
	}
	return idScope
}

const maxTokenLife = 366 * 24 * time.Hour

// CreateToken makes an operator token and returns its text, which is shown this once.
// lifetime 0 is only for development.
func (e *Engine) CreateToken(ctx context.Context, actor, name string, scopes policies.Scopes, lifetime time.Duration) (string, Token, error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", Token{}, err
	}
	text := tokenPrefix + e.idScope + "_" + base64.RawURLEncoding.EncodeToString(b[:])
	t, err := e.AdoptToken(ctx, actor, name, text, scopes, lifetime)
	return text, t, err
}

// AdoptToken records a token made elsewhere (a development folder keeps its own).
func (e *Engine) AdoptToken(ctx context.Context, actor, name, text string, scopes policies.Scopes, lifetime time.Duration) (Token, error) {
	now := e.now()
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Token{}, fault.New(fault.Malformed, "token-name", "a token's name has 1 to 64 printable characters without spaces").At("/name")
	}
	if lifetime < 0 || lifetime > maxTokenLife {
		return Token{}, fault.New(fault.Malformed, "token-lifetime", "a token lives at most a year").At("/lifetime")
	}
	t := Token{Name: name, Hash: sha256.Sum256([]byte(text)), Scopes: scopes, Created: now}
	if lifetime > 0 {
		t.Expires = now.Add(lifetime)
	}
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		return first(tx.InsertToken(t), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.TokenCreated, Subject: "token:" + name,
			Body: audit.Body(map[string]any{"scopes": scopes.String()})}))
	})
	return t, err
}

// RevokeToken refuses a token from the commit on (INV-T3).
func (e *Engine) RevokeToken(ctx context.Context, actor, name string) error {
	now := e.now()
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		return first(tx.RevokeToken(name, now), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.TokenRevoked, Subject: "token:" + name, Body: audit.Body(map[string]any{})}))
	})
}

// Tokens lists operator tokens by name, without their texts.
func (e *Engine) Tokens(ctx context.Context) (list []Token, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Tokens()
		return err
	})
	return list, err
}

// Authenticate says which operator a bearer token is. It reads the row every time.
func (e *Engine) Authenticate(ctx context.Context, bearer string) (Operator, error) {
	refused := fault.New(fault.Unauthenticated, "token", "sign in with a valid token: Authorization: Bearer mst_…")
	if !strings.HasPrefix(bearer, tokenPrefix+e.idScope+"_") || len(bearer) > 256 {
		return Operator{}, refused
	}
	now := e.now()
	var t Token
	err := e.store.View(ctx, func(tx Tx) (err error) {
		t, err = tx.Token(sha256.Sum256([]byte(bearer)))
		return err
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return Operator{}, refused
	case err != nil:
		return Operator{}, err
	case !t.RevokedAt.IsZero() || !t.Expires.IsZero() && !now.Before(t.Expires):
		return Operator{}, refused
	}
	return Operator{Name: t.Name, Scopes: t.Scopes}, nil
}

// Refused records that somebody known was denied an act for want of a right (INV-L1); may is
// what he may do.
func (e *Engine) Refused(ctx context.Context, actor, may, act string) error {
	now := e.now()
	return e.store.Update(ctx, func(tx Tx) error {
		return tx.Append(audit.Event{At: now, Actor: actor, Action: audit.ActRefused, Subject: "act:" + act, Body: audit.Body(map[string]any{"may": may})})
	})
}
