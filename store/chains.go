package store

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	insertChain = statement("INSERT INTO chains (id) VALUES (?) ON CONFLICT DO NOTHING")
	insertLink  = statement("INSERT INTO chain_links (chain, position, thumbprint, key_hash, der, issuer_hash) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
	selectChain = statement("SELECT der FROM chain_links WHERE chain = ? ORDER BY position")
)

func (t *tx) Chain(id provisioning.ChainID) ([][]byte, error) {
	chain, err := all(t, selectChain, (*row).blob, int64(id))
	if err == nil && len(chain) == 0 {
		return nil, notFound("chain")
	}
	return chain, err
}

func (t *tx) PutChain(id provisioning.ChainID, links []verify.Link) error {
	if err := t.exec(insertChain, int64(id)); err != nil {
		return err
	}
	for i, l := range links {
		issuer := verify.NameHash(l.Cert.RawIssuer)
		if err := t.exec(insertLink, int64(id), int64(i), l.Thumbprint[:], l.KeyHash[:], l.Cert.Raw, issuer[:]); err != nil {
			return err
		}
	}
	return nil
}
