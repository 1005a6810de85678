package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
)

// tend keeps an id scope's issuers: those whose time has come retire, and CRLs are
// published. One that fails does not hold up the next.
func (h *house) tend(ctx context.Context, own *house) error {
	return errors.Join(h.sweeper.SweepIssuers(ctx), h.learn(ctx, own), h.sweeper.SweepStatus(ctx))
}

// learn takes note of what became of the issuers, through this process or another.
func (h *house) learn(ctx context.Context, own *house) error {
	err := errors.Join(h.authority.Reload(ctx), h.sweeper.Reload(ctx))
	_, bundle := writeBundle(h, own)
	return errors.Join(err, bundle)
}

// replaceChanged is seal.ReplaceFile where the file does not hold the data already.
func replaceChanged(path string, data []byte) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, data) {
		return nil
	}
	return seal.ReplaceFile(path, data)
}

// actorHost is who acts on the host itself, in the ledger.
const actorHost = "operator:host"

// createRoot makes a root as the host's own act: no token makes a server hold a root's key.
func (c *caCreateCmd) createRoot(ctx context.Context, s streams) error {
	conf, err := c.config()
	if err != nil {
		return err
	}
	if !conf.dev && !conf.AllowOnlineRoot {
		return unsafe("the key of the new root would stay on this host", "allowOnlineRoot: true")
	}
	return c.onHost(ctx, s, conf, func(h *house) (ca.Issuer, error) {
		return h.authority.CreateRoot(ctx, actorHost, ca.RootRequest{Name: c.Name, KeyType: c.KeyType, Lifetime: time.Duration(c.Lifetime)})
	})
}

// onHost opens the installation, which with SQLite the server must have left, and shows what
// came of an act.
func (c *hostAct) onHost(ctx context.Context, s streams, conf config, act func(*house) (ca.Issuer, error)) error {
	h, err := openHouse(ctx, conf, newLogger(conf, s.Err), nil, false)
	if err != nil {
		return err
	}
	i, err := act(h)
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{
		"id": i.ID, "name": i.Name, "role": i.Role, "state": i.State, "profile": i.Profile, "parent": i.Parent, "keyHere": i.KeyURI != "",
	})
	if err != nil {
		return err
	}
	return c.one(s.Out, issuerTable, text)
}

// importKey brings a CA whose key is at hand in a file, or kept where Muster opens keys.
func (c *caImportCmd) importKey(ctx context.Context, s streams) error {
	conf, err := c.config()
	if err != nil {
		return err
	}
	chain, err := readCertificates(c.File)
	if err != nil {
		return err
	}
	if isRoot := chain[0].CheckSignatureFrom(chain[0]) == nil; isRoot && !conf.dev && !conf.AllowOnlineRoot {
		return unsafe("the key of a root would stay on this host", "allowOnlineRoot: true")
	}
	r := ca.ImportRequest{Chain: chain, Profile: c.Profile, KeyURI: c.KeyURI}
	if c.Key != "" {
		if r.Key, err = c.key(); err != nil {
			return err
		}
	}
	return c.onHost(ctx, s, conf, func(h *house) (ca.Issuer, error) { return bring(ctx, h, r) })
}

// key opens the key file.
func (c *caImportCmd) key() (crypto.Signer, error) {
	var passphrase []byte
	if c.KeyPassphraseFile != "" {
		// Whatever its maker thought long enough.
		text, err := os.ReadFile(c.KeyPassphraseFile)
		if err != nil {
			return nil, err
		}
		passphrase = bytes.TrimRight(text, "\r\n")
	}
	text, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, err
	}
	key, err := keys.Read(text, passphrase)
	if known := fault.As(err); known != nil {
		return nil, known.About(c.Key)
	}
	return key, err
}

// bring imports a CA; a key at hand is kept among those of the installation.
func bring(ctx context.Context, h *house, r ca.ImportRequest) (ca.Issuer, error) {
	if err := h.engine.CheckProfile(ctx, r.Profile); err != nil {
		return ca.Issuer{}, err
	}
	var err error
	if r.Lifetime, err = h.engine.Lifetimes(ctx); err != nil {
		return ca.Issuer{}, err
	}
	passphrase, err := h.config.passphrase()
	if err != nil {
		return ca.Issuer{}, err
	}
	folder, err := keys.OpenFolder(keysFolder(h.config), passphrase)
	if err != nil {
		return ca.Issuer{}, err
	}
	r.Keep = func(_ context.Context, name string) (string, error) { return folder.Adopt(name, r.Key) }
	return h.authority.Import(ctx, actorHost, r)
}
