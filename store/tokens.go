package store

import (
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

var tokenColumns = cols("t name, b hash, t scopes, i created, i expires, i revoked_at")

var (
	selectToken  = statement("SELECT " + tokenColumns.list("") + " FROM tokens WHERE hash = ?").alone()
	selectTokens = statement("SELECT " + tokenColumns.list("") + " FROM tokens ORDER BY name")
	insertToken  = statement(insert("tokens", tokenColumns)).unique(exists("token"))
	// Revoking is one-way; a second call keeps the first time and is no error.
	revokeToken = statement("UPDATE tokens SET revoked_at = CASE WHEN revoked_at = 0 THEN ? ELSE revoked_at END WHERE name = ?").
			missed(notFound("token"))
)

func scanToken(r *row) provisioning.Token {
	k := provisioning.Token{Name: r.text(), Hash: r.hash()}
	scopes, err := policies.ParseScopes(r.text())
	if err != nil && r.err == nil {
		r.err = err
	}
	k.Scopes, k.Created, k.Expires, k.RevokedAt = scopes, r.time(), r.time(), r.time()
	return k
}

func (t *tx) Token(hash [32]byte) (provisioning.Token, error) {
	return one(t, selectToken, notFound("token"), scanToken, hash[:])
}

func (t *tx) Tokens() ([]provisioning.Token, error) { return all(t, selectTokens, scanToken) }

func (t *tx) InsertToken(k provisioning.Token) error {
	return t.exec(insertToken, k.Name, k.Hash[:], k.Scopes.String(), micros(k.Created), micros(k.Expires), micros(k.RevokedAt))
}

func (t *tx) RevokeToken(name string, at time.Time) error {
	return t.exec(revokeToken, micros(at), name)
}
