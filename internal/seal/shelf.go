package seal

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// The files of a Shelf. The names say what their keys do, so a key moves by a rename.
const (
	sealingFile = "kek.pem"      // seals and opens
	nextFile    = "kek-next.pem" // opens already: it may be sealing for another server
	oldFile     = "kek-old.pem"  // opens still, until nothing is left under it
)

// Shelf is the folder of the KEKs. A KEK is replaced in steps, each of which every server
// that sees the folder takes up within moments, so that none is ever unable to open what
// another has sealed (INV-K3): Prepare makes the next one, Rotate begins to seal with it,
// then everything under the old one is sealed anew, and Retire puts that away.
type Shelf struct {
	dir        string
	passphrase []byte
	box        *Box

	mu    sync.Mutex
	seen  map[string]os.FileInfo       // the files as last read
	known map[[sha256.Size]byte]opened // by the digest of a file: opening one takes a while
	kept  map[string]opened            // by file name, as last read
}

type opened struct {
	kek KEK
	id  KEKID
}

// OpenShelf loads the KEKs of a folder. With create a KEK is made where there is none. Its
// rules are those of [LoadKEK].
func OpenShelf(dir string, passphrase []byte, create bool) (*Shelf, error) {
	s := &Shelf{dir: dir, passphrase: passphrase, known: map[[sha256.Size]byte]opened{}}
	if create {
		if _, err := os.Stat(s.path(sealingFile)); errors.Is(err, fs.ErrNotExist) {
			if _, err := CreateKEK(s.path(sealingFile), passphrase); err != nil {
				return nil, err
			}
		}
	}
	return s, s.Refresh()
}

func (s *Shelf) path(name string) string { return filepath.Join(s.dir, name) }

// Box seals and opens with the KEKs of the folder, as they are now and as they change.
func (s *Shelf) Box() *Box { return s.box }

// Refresh takes up what has changed in the folder. It costs little when nothing has. When
// it fails the Box goes on with what it had.
func (s *Shelf) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refresh()
}

func (s *Shelf) refresh() error {
	seen := map[string]os.FileInfo{}
	for _, name := range []string{sealingFile, nextFile, oldFile} {
		info, err := os.Stat(s.path(name))
		if err == nil {
			seen[name] = info
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.box != nil && unchanged(s.seen, seen) {
		return nil
	}
	kept := map[string]opened{}
	for _, name := range []string{sealingFile, nextFile, oldFile} {
		k, err := s.load(name)
		switch {
		case err == nil:
			kept[name] = k
		case name == sealingFile || !fault.Is(err, fault.NotFound):
			return err
		}
	}
	s.seen, s.kept = seen, kept
	var opening []KEK
	for _, k := range kept {
		opening = append(opening, k.kek)
	}
	if s.box == nil {
		s.box = NewBox(kept[sealingFile].kek)
		s.box.learn = func() { _ = s.Refresh() } // what it does not find is the caller's error
	}
	s.box.Use(kept[sealingFile].kek, opening...)
	return nil
}

func unchanged(a, b map[string]os.FileInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for name, was := range a {
		is, there := b[name]
		if !there || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) || was.Size() != is.Size() {
			return false
		}
	}
	return true
}

func (s *Shelf) load(name string) (opened, error) {
	raw, err := readKEK(s.path(name)) // once: by the second time the file may be another
	if err != nil {
		return opened{}, err
	}
	if k, known := s.known[sha256.Sum256(raw)]; known {
		return k, nil
	}
	kek, err := parseKEK(s.path(name), raw, s.passphrase)
	if err != nil {
		return opened{}, err
	}
	k := opened{kek: kek, id: kek.ID()}
	s.known[sha256.Sum256(raw)] = k
	return k, nil
}

// Prepare makes the next KEK: it opens from now on, and seals nothing yet. Where servers
// run on several hosts its file is now copied to each. Conflict: "file-exists".
func (s *Shelf) Prepare() (KEKID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prepare()
}

func (s *Shelf) prepare() (KEKID, error) {
	kek, err := CreateKEK(s.path(nextFile), s.passphrase)
	if err != nil {
		return KEKID{}, err
	}
	return kek.ID(), s.refresh()
}

// Rotate seals with the next KEK from now on, which is made if there is none, and keeps the
// old one to open with. Conflict, rule "kek-rewrap-open": an older one is still in use. It
// may be called again when it was interrupted.
func (s *Shelf) Rotate(now time.Time) (sealing, old KEKID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return KEKID{}, KEKID{}, err
	}
	was := s.kept[sealingFile]
	if older, there := s.kept[oldFile]; there && older.id != was.id {
		return KEKID{}, KEKID{}, fault.New(fault.Conflict, "kek-rewrap-open", "Something may still be sealed by the key before this one: muster keys rewrap comes first.")
	}
	if _, there := s.kept[nextFile]; !there {
		if _, err := s.prepare(); err != nil {
			return KEKID{}, KEKID{}, err
		}
	}
	// Each step leaves a folder that works, and the last one is what counts.
	if err := os.Link(s.path(sealingFile), s.path(oldFile)); err != nil && !errors.Is(err, fs.ErrExist) {
		return KEKID{}, KEKID{}, err
	}
	err = errors.Join(os.Chtimes(s.path(oldFile), now, now), os.Rename(s.path(nextFile), s.path(sealingFile)), SyncDir(s.dir), s.refresh())
	return s.kept[sealingFile].id, was.id, err
}

// Old says which KEK waits for everything under it to be sealed anew, and since when;
// false where there is none.
func (s *Shelf) Old() (id KEKID, since time.Time, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, there := s.kept[oldFile]
	if !there || old.id == s.kept[sealingFile].id {
		return KEKID{}, time.Time{}, false
	}
	return old.id, s.seen[oldFile].ModTime(), true
}

// Retire puts the old KEK away, under which nothing may be sealed any more: its file is
// renamed, and returned, and never read again. NotFound, rule "kek-missing", where there is none.
func (s *Shelf) Retire() (file string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, there := s.kept[oldFile]
	if !there {
		return "", fault.New(fault.NotFound, "kek-missing", "No key-encryption key waits to be retired.")
	}
	file = s.path("kek-retired-" + old.id.String() + ".pem")
	return file, errors.Join(os.Rename(s.path(oldFile), file), SyncDir(s.dir), s.refresh())
}
