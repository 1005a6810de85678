package main

import (
	"crypto/sha1" // Azure names CA certificates by it; a name, never a proof
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/passmuster/muster/verify"
)

// shelf is certificates by their thumbprints, upper-case hex of SHA-256 and of SHA-1.
type shelf map[string]string

// maxShelved bounds a file that is looked into.
const maxShelved = 1 << 20

// readShelf reads every certificate below a folder; what is none is passed over.
func readShelf(dir string) (shelf, error) {
	found := shelf{}
	if dir == "" {
		return found, nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() > maxShelved {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		certs, err := verify.ParseCertificates(raw)
		if err != nil {
			return nil
		}
		for _, c := range certs {
			text, long, short := pemText(c), sha256.Sum256(c.Raw), sha1.Sum(c.Raw)
			found[strings.ToUpper(hex.EncodeToString(long[:]))] = text
			found[strings.ToUpper(hex.EncodeToString(short[:]))] = text
		}
		return nil
	})
	return found, err
}
