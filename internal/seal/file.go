package seal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/passmuster/muster/internal/fault"
)

// WriteFile writes a new secret file with mode 0600. When it returns nil the file is
// whole and survives a power cut; when it fails, or the process dies on the way, there
// is no file of that name. A file that exists is left alone: fault.Conflict, rule
// "file-exists", because overwriting a key is losing everything it opened.
func WriteFile(path string, data []byte) error {
	return place(path, data, secret, func(tmp string) error {
		// A link, unlike a rename, fails when the name is taken.
		err := os.Link(tmp, path)
		if errors.Is(err, fs.ErrExist) {
			return fault.New(fault.Conflict, "file-exists", "A file of this name exists and is not replaced.").About(path)
		}
		return errors.Join(err, os.Remove(tmp))
	})
}

// ReplaceFile is WriteFile where the name may be taken: readers see the old file or the
// new one, whole, also after a power cut. Of two at once one is last.
func ReplaceFile(path string, data []byte) error {
	return place(path, data, secret, func(tmp string) error { return os.Rename(tmp, path) })
}

// ReplacePublicFile is ReplaceFile of what everybody on this host may read.
func ReplacePublicFile(path string, data []byte) error {
	return place(path, data, public, func(tmp string) error { return os.Rename(tmp, path) })
}

const (
	secret fs.FileMode = 0o600
	public fs.FileMode = 0o644
)

// place writes a file under a name of its own, which name turns into path.
func place(path string, data []byte, mode fs.FileMode, name func(tmp string) error) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*") // CreateTemp makes files 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()

	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := name(tmp.Name()); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the new names in a folder durable, not only the bytes behind it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
