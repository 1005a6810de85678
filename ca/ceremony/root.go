package ceremony

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/passmuster/muster/ca"
)

// Root makes a root: its key by keys, its self-signed certificate (path length 1), and
// its CRL number 1, without entries. Where keys write a file, that is RootKeyFile in
// the session's folder.
func (s Session) Root(ctx context.Context, keys ca.Keys, r ca.RootRequest, crlLifetime time.Duration) error {
	w, err := s.begin("root", RootKeyFile, rootPEM, rootDER, rootCRL)
	if err != nil {
		return err
	}
	if err := w.log.add(asked, rootFacts{Name: r.Name, KeyType: r.KeyType, Lifetime: r.Lifetime.String(), CRLLifetime: crlLifetime.String()}); err != nil {
		return err
	}
	// A bad lifetime is refused before there is a key.
	if err := ca.CheckCRLLifetime(crlLifetime); err != nil {
		return err
	}
	root, err := ca.NewOffline(ctx, keys, r, s.Now())
	if err != nil {
		return err
	}
	if err := w.key(); err != nil {
		return err
	}
	crl, err := root.FirstCRL(s.Now(), crlLifetime)
	if err != nil {
		return err
	}
	if err := w.certificate(root.Certificate(), rootPEM, rootDER); err != nil {
		return err
	}
	if err := w.crl(crl); err != nil {
		return err
	}
	return w.end(root)
}

// key records the key's file, if the key is in one.
func (w *work) key() error {
	data, err := os.ReadFile(filepath.Join(w.Out, RootKeyFile))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.log.add(wrote, fileFacts{File: RootKeyFile, What: "private key, encrypted", SHA256: hashOf(data), Size: len(data), Secret: true})
}
