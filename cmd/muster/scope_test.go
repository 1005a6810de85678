package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/provisioning"
)

// newTenant makes a further id scope and returns its name and first token.
func (h host) newTenant(args ...string) (idScope, token string) {
	h.t.Helper()
	args = append([]string{"scope", "create", "--config", h.path("muster.yaml"), "--root-key-out", filepath.Join(h.t.TempDir(), "root.pem")}, args...)
	code, out, talk := h.muster(args...)
	if code != exitDone {
		h.t.Fatalf("scope create: exit %d: %s", code, talk)
	}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "MUSTER_TOKEN":
			token = value
		case "MUSTER_ID_SCOPE":
			idScope = value
		}
	}
	return idScope, token
}

func (h host) scopes() string {
	h.t.Helper()
	code, out, talk := h.muster("scope", "list", "--config", h.path("muster.yaml"))
	if code != exitDone {
		h.t.Fatalf("scope list: exit %d: %s", code, talk)
	}
	return out
}

func TestAnIDScopeIsMadeExportedRestoredAndDeletedAlone(t *testing.T) {
	h := newHost(t)
	h.init("--root-key-out", h.path("root-key.pem"))
	if out := h.scopes(); out != "" {
		t.Errorf("id scopes of a new installation: %q", out)
	}
	code, out, talk := h.muster("token", "create", "--config", h.path("muster.yaml"), "own")
	own := provisioning.TokenIDScope(strings.TrimSpace(out))
	if code != exitDone || own == "" {
		t.Fatalf("a token of the installation itself: exit %d: %s%s", code, out, talk)
	}
	id, token := h.newTenant("0neAcme")
	if id != "0neAcme" || !strings.HasPrefix(token, "mst_0neAcme_") {
		t.Fatalf("made %q with token %q", id, token)
	}
	if out := h.scopes(); !strings.HasPrefix(out, "0neAcme\t") {
		t.Errorf("listed %q", out)
	}

	file := h.path("acme.tar")
	if code, _, talk := h.muster("scope", "export", "--config", h.path("muster.yaml"), "0neacme", file); code != exitDone {
		t.Fatalf("export: exit %d: %s", code, talk)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the export: %v, %v", info, err)
	}
	names := unpack(t, file, filepath.Join(h.dir, "data", "scopes", "..", "restored"))
	for _, want := range []string{"0neacme/id-scope", "0neacme/keys/kek.pem", "0neacme/muster.db"} {
		if !slices.Contains(names, want) {
			t.Errorf("the export holds %q, without %s", names, want)
		}
	}

	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"a name that is taken", []string{"create", "0NEACME"}, exitConflict},
		{"a name that is none", []string{"create", "a/../b"}, exitUsage},
		{"a word of an address", []string{"create", "Devices"}, exitUsage},
		{"the name of the installation itself", []string{"create", strings.ToUpper(own)}, exitConflict},
		{"a root kept online against the settings", []string{"create", "--keep-root", "0neOnline"}, exitUsage},
		{"deleting without saying yes", []string{"delete", "0neAcme"}, exitUsage},
		{"deleting one that is not there", []string{"delete", "--yes", "0neOther"}, exitNotFound},
		{"deleting one without a name", []string{"delete", "--yes", ""}, exitNotFound},
		{"deleting the installation itself", []string{"delete", "--yes", own}, exitNotFound},
		{"exporting one without a name", []string{"export", "", h.path("x.tar")}, exitNotFound},
		{"exporting over a file", []string{"export", "0neAcme", file}, exitConflict},
		{"exporting one that is not there", []string{"export", "0neOther", h.path("x.tar")}, exitNotFound},
	} {
		args := append([]string{"scope", c.args[0], "--config", h.path("muster.yaml")}, c.args[1:]...)
		if code, _, talk := h.muster(args...); code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.name, code, c.code, talk)
		}
	}

	if code, _, talk := h.muster("scope", "delete", "--config", h.path("muster.yaml"), "--yes", "0neAcme"); code != exitDone {
		t.Fatalf("delete: exit %d: %s", code, talk)
	}
	if out := h.scopes(); out != "" {
		t.Errorf("after deleting it: %q", out)
	}
	if err := os.Rename(h.path("data/restored/0neacme"), h.path("data/scopes/0neacme")); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := h.muster("doctor", "--config", h.path("muster.yaml"), "--id-scope", "0neAcme"); code != exitDone {
		t.Errorf("the restored id scope: exit %d: %s", code, talk)
	}
	if code, out, talk := h.muster("token", "create", "--config", h.path("muster.yaml"), "--id-scope", "0neAcme", "again"); code != exitDone || !strings.HasPrefix(out, "mst_0neAcme_") {
		t.Errorf("a token of the restored id scope: exit %d: %s%s", code, out, talk)
	}
}

func TestAnIDScopeOnPostgreSQLIsASchema(t *testing.T) {
	h := newHost(t)
	h.write("dsn", testpg.DSN(t)+"\n", 0o600)
	h.init("--dsn-file", h.path("dsn"), "--root-key-out", h.path("root-key.pem"))
	id, _ := h.newTenant("0nePg" + strings.ToUpper(filepath.Base(h.dir)))
	if code, _, talk := h.muster("doctor", "--config", h.path("muster.yaml"), "--id-scope", id); code != exitDone {
		t.Errorf("doctor: exit %d: %s", code, talk)
	}
	if code, _, talk := h.muster("scope", "delete", "--config", h.path("muster.yaml"), "--yes", id); code != exitDone {
		t.Fatalf("delete: exit %d: %s", code, talk)
	}
	if again, _ := h.newTenant(id); again != id {
		t.Errorf("made again as %q", again)
	}
	if code, _, talk := h.muster("scope", "delete", "--config", h.path("muster.yaml"), "--yes", id); code != exitDone {
		t.Fatalf("delete: exit %d: %s", code, talk)
	}
}

// unpack writes an archive's files below dir and returns their names.
func unpack(t *testing.T, file, dir string) (names []string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, head.Name)
		path := filepath.Join(dir, filepath.FromSlash(head.Name))
		body, err := io.ReadAll(r)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
