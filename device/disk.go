package device

import (
	"errors"
	"io/fs"
	"os"
)

// disk is every way in which a Folder changes its directory. Each call is one step of
// a save; tests let every step in turn fail, and cut the power after it.
type disk interface {
	// Mkdir makes a directory for its owner alone; it may be there already.
	Mkdir(path string) error
	// Write makes a new file, 0600, whose bytes are on the medium when it returns; its
	// name is so only after Sync of its directory.
	Write(path string, data []byte) error
	// Sync makes the names in a directory durable.
	Sync(dir string) error
	// Symlink makes a link; Rename replaces newPath in one step; Remove of nothing is fine.
	Symlink(target, path string) error
	Rename(oldPath, newPath string) error
	Remove(path string) error
}

type osDisk struct{}

func (osDisk) Mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (osDisk) Write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (osDisk) Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) Symlink(target, path string) error { return os.Symlink(target, path) }

func (osDisk) Rename(oldPath, newPath string) error { return os.Rename(oldPath, newPath) }

func (osDisk) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
