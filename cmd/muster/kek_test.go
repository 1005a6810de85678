package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// keks are the files of key-encryption keys.
func (h host) keks() (names []string) {
	h.t.Helper()
	all, err := filepath.Glob(h.path("data/keys/kek*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range all {
		names = append(names, filepath.Base(f))
	}
	return names
}

// keys runs a command about the key-encryption key.
func (h host) keys(want int, args ...string) (talk string) {
	h.t.Helper()
	code, _, talk := h.muster(append(append([]string{"keys"}, args...), "--config", h.path("muster.yaml"))...)
	if code != want {
		h.t.Fatalf("keys %s: exit %d: %s", strings.Join(args, " "), code, talk)
	}
	return talk
}

func TestTheKEKIsReplacedBesideARunningServer(t *testing.T) {
	h := newHost(t)
	h.init("--keep-root")
	first := h.read("data/keys/kek.pem")
	h.serve()

	h.keys(exitDone, "rotate", "--prepare")
	next := h.read("data/keys/kek-next.pem")
	if h.read("data/keys/kek.pem") != first {
		t.Error("a key that is only prepared seals")
	}
	h.keys(exitDone, "rotate")
	if h.read("data/keys/kek.pem") != next || h.read("data/keys/kek-old.pem") != first {
		t.Error("the keys have not moved up")
	}
	h.keys(exitConflict, "rotate")
	// The server seals anew, this cannot; and it counts none left before it retires the key.
	if talk := h.keys(exitDone, "rewrap", "--settle", "0s"); !strings.Contains(talk, "nothing is left under key-encryption key") {
		t.Errorf("rewrap said: %s", talk)
	}
	if files := h.keks(); len(files) != 2 || !strings.HasPrefix(files[0], "kek-retired-") || h.read("data/keys/"+files[0]) != first {
		t.Errorf("the keys are now %v", files)
	}
	if code, out, talk := h.muster("doctor", "--config", h.path("muster.yaml")); code != exitDone {
		t.Errorf("doctor: exit %d: %s%s", code, out, talk)
	}
}

func TestTheKEKIsReplacedWithoutAServer(t *testing.T) {
	h := newHost(t)
	h.init("--keep-root")
	if talk := h.keys(exitDone, "rewrap"); !strings.Contains(talk, "keys rotate comes first") {
		t.Errorf("nothing to do: %s", talk)
	}
	h.keys(exitDone, "rotate")
	h.keys(exitDone, "rewrap", "--settle", "0s")
	if files := h.keks(); len(files) != 2 {
		t.Errorf("the keys are now %v", files)
	}
	if code, out, talk := h.muster("token", "create", "after", "--config", h.path("muster.yaml")); code != exitDone {
		t.Errorf("the installation does not open: %s%s", out, talk)
	}
}
