package ctlog

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/passmuster/muster/internal/seal"
)

// folder is where the files of a log lie. Names in it are slash-separated.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

func (f folder) read(name string) ([]byte, error) { return os.ReadFile(f.path(name)) }

// file is one that is to be written.
type file struct {
	name string
	data []byte
}

// write makes files durable under their names, each whole or not there at all.
func (f folder) write(files ...file) error {
	var order []string
	seen := map[string]bool{}
	for _, x := range files {
		path := f.path(x.name)
		dir := filepath.Dir(path)
		if !seen[dir] {
			made, err := makeFolder(dir)
			if err != nil {
				return err
			}
			seen[dir] = true
			order = append(append(order, dir), made...)
		}
		if err := replace(path, x.data); err != nil {
			return err
		}
	}
	for _, dir := range order {
		if err := seal.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// makeFolder returns the folders that hold what it made.
func makeFolder(dir string) (holders []string, err error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		holders = append(holders, filepath.Dir(at))
	}
	return holders, os.MkdirAll(dir, 0o700)
}

func replace(path string, data []byte) (err error) {
	tmp := path + ".new" // one writer: the name is free, or left by a crash
	t, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // it has no meaning to anybody
	}
	return err
}

func (f folder) stat(name string) (os.FileInfo, error) { return os.Stat(f.path(name)) }
