package seal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

func shelf(t testing.TB, dir string) *Shelf {
	t.Helper()
	s, err := OpenShelf(dir, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARotationThatIsCutShortGoesOn(t *testing.T) {
	tests := map[string]func(dir string) error{
		"before anything": func(string) error { return nil },
		"after the next key was made": func(dir string) error {
			_, err := shelf(t, dir).Prepare()
			return err
		},
		"after the old key was kept": func(dir string) error {
			_, err := shelf(t, dir).Prepare()
			return errors.Join(err, os.Link(filepath.Join(dir, "kek.pem"), filepath.Join(dir, "kek-old.pem")))
		},
	}
	for name, cut := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := shelf(t, dir)
			sealed := before.Box().Seal("p", []byte("secret"))
			if err := cut(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := shelf(t, dir).Box().Open("p", sealed); err != nil {
				t.Errorf("a start in between: %v", err)
			}
			if _, _, err := shelf(t, dir).Rotate(time.Now()); err != nil {
				t.Fatal(err)
			}
			after := shelf(t, dir)
			if _, err := after.Box().Open("p", sealed); err != nil || after.Box().Sealing() == before.Box().Sealing() {
				t.Errorf("the rotation was called again: %v, it seals with %s", err, after.Box().Sealing())
			}
			if _, _, err := after.Rotate(time.Now()); fault.RuleOf(err) != "kek-rewrap-open" {
				t.Errorf("a second rotation before the first is over: %v", err)
			}
			if _, err := after.Retire(); err != nil {
				t.Error(err)
			}
			if _, err := after.Retire(); fault.RuleOf(err) != "kek-missing" {
				t.Errorf("retired twice: %v", err)
			}
			if _, err := shelf(t, dir).Box().Open("p", sealed); fault.RuleOf(err) != "sealed-by-other-key" {
				t.Errorf("after the old key was put away: %v", err)
			}
		})
	}
}

func TestAShelfTakesUpWhatChangesInItsFolder(t *testing.T) {
	dir := t.TempDir()
	server, host := shelf(t, dir), shelf(t, dir)
	before := server.Box().Seal("p", []byte("secret"))
	mac := server.Box().MAC("cursor", "where a page ended")
	if _, err := host.Prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Prepare(); fault.RuleOf(err) != "file-exists" {
		t.Errorf("prepared twice: %v", err)
	}
	if server.Refresh() != nil || server.Box().Sealing() != NewBox(loaded(t, dir, sealingFile)).Sealing() {
		t.Error("a key that is only prepared seals")
	}
	sealing, old, err := host.Rotate(time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	after := host.Box().Seal("p", []byte("secret"))
	if _, err := server.Box().Open("p", after); err != nil {
		t.Errorf("it was not told and met a value of the new key: %v", err)
	}
	if err := server.Refresh(); err != nil || server.Box().Sealing() != sealing {
		t.Errorf("after a look at the folder it seals with %s, %v", server.Box().Sealing(), err)
	}
	if id, since, waits := server.Old(); !waits || id != old || since.Unix() != 1_700_000_000 {
		t.Errorf("the old key: %s since %s, %v", id, since, waits)
	}
	if _, err := host.Retire(); err != nil {
		t.Fatal(err)
	}
	if err := server.Refresh(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Box().Open("p", before); err != nil {
		t.Errorf("a process that had the old key goes on opening with it: %v", err)
	}
	for name, box := range map[string]*Box{"the same process": server.Box(), "the host": host.Box()} {
		if !box.CheckMAC("cursor", "where a page ended", mac[:16]) || box.CheckMAC("cursor", "elsewhere", mac[:16]) || box.CheckMAC("cursor", "where a page ended", nil) {
			t.Errorf("%s does not know its MAC of before", name)
		}
	}
	if err := os.Remove(filepath.Join(dir, sealingFile)); err != nil {
		t.Fatal(err)
	}
	if err := server.Refresh(); fault.RuleOf(err) != "kek-missing" {
		t.Errorf("the file went: %v", err)
	}
	if _, err := server.Box().Open("p", after); err != nil {
		t.Errorf("a running server goes on without its file: %v", err)
	}
}

func loaded(t *testing.T, dir, name string) KEK {
	t.Helper()
	k, err := LoadKEK(filepath.Join(dir, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
