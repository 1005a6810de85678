package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTheBlockListIsReadAgainWhenItHasChanged(t *testing.T) {
	h := newHost(t)
	blocked := strings.Repeat("a1", 32)
	h.write("blocked", blocked+"\n", 0o600)
	b := blockListFile{path: h.path("blocked")}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	told := func(what, want string) {
		t.Helper()
		log.Reset()
		b.reload(nil, logger)
		if want == "" && log.Len() > 0 || !strings.Contains(log.String(), want) {
			t.Errorf("%s: the log says %q, want %q", what, log.String(), want)
		}
	}
	told("at first", "block list of keys read")
	told("unchanged", "")
	h.write("blocked", blocked+"\nhello\n", 0o600)
	told("with a mistake", "line 2 of the block list")
	h.write("blocked", "# nothing\n", 0o600)
	told("mended", "block list of keys read")
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(h.path("blocked"), later, later); err != nil {
		t.Fatal(err)
	}
	told("touched", "block list of keys read")
	if err := os.Remove(h.path("blocked")); err != nil {
		t.Fatal(err)
	}
	told("removed", "stays as it was")
	if read, err := new(blockListFile).load(nil); read || err != nil {
		t.Errorf("no file: %v, %v", read, err)
	}
}

func TestTheServerDoesNotStartOnABlockListWithAMistake(t *testing.T) {
	h := newHost(t)
	h.init("--root-key-out", h.path("root-key.pem"))
	h.write("muster.yaml", strings.Replace(h.read("muster.yaml"), `keyBlockList: ""`, "keyBlockList: "+h.path("blocked"), 1), 0o600)
	for text, want := range map[string]string{"#\nhello\n": "line 2 of the block list", "": "no such file"} {
		if text != "" {
			h.write("blocked", text, 0o600)
		} else if err := os.Remove(h.path("blocked")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if code, _, talk := h.muster("serve", "--config", h.path("muster.yaml")); code == exitDone || !strings.Contains(talk, want) {
			t.Errorf("exit %d: %s, want %q", code, talk, want)
		}
	}
}
