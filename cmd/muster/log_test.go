package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tesseraclient "github.com/transparency-dev/tessera/client"

	"github.com/passmuster/muster/ca/ctlog"
)

// checkpoint waits until the log covers at least n leaves.
func (s devServer) checkpoint(n uint64) ctlog.Checkpoint {
	s.t.Helper()
	path := "/log/" + s.env["MUSTER_ID_SCOPE"]
	_, key := s.get(path + "/key")
	for range 300 {
		if status, note := s.get(path + "/checkpoint"); status == http.StatusOK {
			c, err := ctlog.ParseCheckpoint(note, strings.TrimSpace(string(key)))
			if err != nil {
				s.t.Fatal(err)
			}
			if c.Size >= n {
				return c
			}
		}
		time.Sleep(50 * time.Millisecond) // a server of its own: nothing tells us
	}
	s.t.Fatal("the log does not get there")
	return ctlog.Checkpoint{}
}

func TestAnybodyFollowsTheLogOverHTTP(t *testing.T) {
	s := newDevServer(t)
	path := "/log/" + s.env["MUSTER_ID_SCOPE"]
	first := s.checkpoint(1)
	s.register("press-1")
	later := s.checkpoint(first.Size + 1)

	var proof struct{ Hashes [][]byte }
	read := func(query string) {
		t.Helper()
		status, text := s.get(path + query)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, status, text)
		}
		if err := json.Unmarshal(text, &proof); err != nil {
			t.Fatal(err)
		}
	}
	read(fmt.Sprintf("/proof/consistency?from=%d&to=%d", first.Size, later.Size))
	if err := later.Extends(first, proof.Hashes); err != nil {
		t.Fatal(err)
	}
	leaves, err := os.ReadFile(filepath.Join(s.dir, "log", "ledger", "tile", "entries", fmt.Sprintf("000.p/%d", later.Size)))
	if err != nil {
		t.Fatal(err)
	}
	leaf := leaves[2 : 2+int(leaves[0])<<8+int(leaves[1])]
	read(fmt.Sprintf("/proof/inclusion?index=0&size=%d", later.Size))
	if l, err := later.Includes(leaf, 0, proof.Hashes); err != nil || l.Seq != 1 {
		t.Fatal(l, err)
	}
	if _, err := later.Includes(append(bytes.Clone(leaf), 0), 0, proof.Hashes); err == nil {
		t.Fatal("another leaf has the same proof")
	}

	// Tessera's client reads the tiles where it expects them.
	root, err := url.Parse(s.env["MUSTER_PKI_URL"] + path + "/")
	if err != nil {
		t.Fatal(err)
	}
	fetch, err := tesseraclient.NewHTTPFetcher(root, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tesseraclient.NewProofBuilder(t.Context(), later.Size, fetch.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := b.InclusionProof(t.Context(), later.Size-1)
	if err != nil || len(hashes) == 0 {
		t.Fatal(hashes, err)
	}

	for query, want := range map[string]int{
		"/tile/entries/000.p/1":                    http.StatusNotFound, // leaves name devices
		"/tile/0/000":                              http.StatusNotFound,
		"/tile/0/x001/000":                         http.StatusNotFound,
		"/tile/9/000.p/1":                          http.StatusNotFound,
		"/tile/0/000.p/256":                        http.StatusNotFound,
		"/tile/0/../checkpoint":                    http.StatusNotFound,
		"/tile/x":                                  http.StatusNotFound,
		"/proof/inclusion":                         http.StatusBadRequest,
		"/proof/inclusion?index=5&size=99999999":   http.StatusNotFound,
		"/proof/inclusion?index=-1&size=2":         http.StatusBadRequest,
		"/proof/consistency?from=0&to=1":           http.StatusBadRequest,
		"/proof/consistency?from=5&to=2":           http.StatusBadRequest,
		"/proof/consistency?from=1&to=99999999999": http.StatusNotFound,
		"/nothing":                                 http.StatusNotFound,
	} {
		if status, text := s.get(path + query); status != want {
			t.Errorf("%s: %d, want %d: %s", query, status, want, text)
		}
	}
	if status, _ := s.get("/log/nobody/checkpoint"); status != http.StatusNotFound {
		t.Error("the log of nobody is there")
	}
}

func TestAServerGoesOnWhenItsLogCannotBeWritten(t *testing.T) {
	s := newDevServer(t)
	s.checkpoint(1)
	folder := filepath.Join(s.dir, "log", "ledger")
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // as a full or lost disk would refuse it
		t.Fatal(err)
	}
	s.register("press-1")
	behind := regexp.MustCompile(`(?m)^muster_audit_log_behind\{.*\} [1-9]`)
	for tries := 0; !behind.MatchString(s.ops("/metrics")); tries++ {
		if tries == 300 {
			t.Fatal("no metric says that the log is behind")
		}
		time.Sleep(50 * time.Millisecond) // a server of its own: nothing tells us
	}
	if ready := s.ops("/readyz?verbose"); !strings.Contains(ready, `"log":"behind by `) || !strings.Contains(ready, `"store":"ok"`) {
		t.Errorf("readyz: %s", ready)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+"-away", folder); err != nil {
		t.Fatal(err)
	}
	before := s.checkpoint(1)
	s.checkpoint(before.Size + 1)
}

// ops fetches from the health listener.
func (s devServer) ops(path string) string {
	s.t.Helper()
	resp, err := http.Get(s.env["MUSTER_ADMIN_URL"] + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatal(resp.StatusCode, err)
	}
	return b.String()
}
