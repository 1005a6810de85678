package admin

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// token is an operator's token. Its text is answered once, by the POST that made it.
type token struct {
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes" nullable:"false"`
	Token     string     `json:"token,omitempty" doc:"The token itself, shown this once."`
	Created   *time.Time `json:"createdDateTimeUtc"`
	Expires   *time.Time `json:"expires,omitempty" doc:"Absent: a development token that does not expire."`
	RevokedAt *time.Time `json:"revokedAt,omitempty"`
}

func tokenOf(t provisioning.Token) (token, error) {
	return token{
		Name: t.Name, Scopes: strings.Fields(t.Scopes.String()),
		Created: instant(t.Created), Expires: instant(t.Expires), RevokedAt: instant(t.RevokedAt),
	}, nil
}

// defaultTokenLife is for a caller who names none: long enough for a quarter's work.
const defaultTokenLife = 90 * 24 * time.Hour

type tokenPost struct {
	Body struct {
		Name     string   `json:"name" doc:"1 to 64 printable characters without spaces."`
		Scopes   []string `json:"scopes" nullable:"false" doc:"Of read, enroll, rotate, security, admin and hub."`
		Lifetime string   `json:"lifetime,omitempty" doc:"ISO 8601, at most a year; P90D unless given." example:"P90D"`
	}
}

// TokenName is the name in a path.
type TokenName struct {
	Name string `path:"name" maxLength:"64"`
}

func (d *door) addTokens() {
	const tag = "tokens"
	add(d, route{"list-tokens", http.MethodGet, "/tokens", policies.ScopeAdmin, tag, "List operator tokens", false}, d.listTokens)
	add(d, route{"create-token", http.MethodPost, "/tokens", policies.ScopeAdmin, tag, "Make an operator token", true}, d.createToken)
	add(d, route{"revoke-token", http.MethodDelete, "/tokens/{name}", policies.ScopeAdmin, tag, "Revoke an operator token at once", false}, d.revokeToken)
}

func (d *door) listTokens(ctx context.Context, in *Paging) (*listed[token], error) {
	rows, err := d.Engine.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "tokens", func(t provisioning.Token) string { return t.Name }, tokenOf)
}

func (d *door) createToken(ctx context.Context, in *tokenPost) (*written[token], error) {
	scopes, err := policies.ParseScopes(strings.Join(in.Body.Scopes, " "))
	if err != nil {
		return nil, err
	}
	lifetime := defaultTokenLife
	if in.Body.Lifetime != "" {
		if lifetime, err = parseDuration(in.Body.Lifetime, "/lifetime"); err != nil {
			return nil, err
		}
	}
	if lifetime == 0 {
		// The engine's "never", which only a development folder may have.
		return nil, fault.New(fault.Malformed, "token-lifetime", "a token lives longer than no time").At("/lifetime")
	}
	text, t, err := d.Engine.CreateToken(ctx, actor(ctx), in.Body.Name, scopes, lifetime)
	if err != nil {
		return nil, err
	}
	body, err := tokenOf(t)
	body.Token = text
	return &written[token]{Status: http.StatusCreated, Location: prefix + "/tokens/" + url.PathEscape(t.Name), Body: body}, err
}

func (d *door) revokeToken(ctx context.Context, in *TokenName) (*done, error) {
	return &done{}, d.Engine.RevokeToken(ctx, actor(ctx), in.Name)
}
