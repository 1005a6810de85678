package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
)

// What a server answers decides the exit code and what is said.
func TestAnswersBecomeExitCodes(t *testing.T) {
	problem := func(title, rule string) string {
		return fmt.Sprintf(`{"title":%q,"detail":"A sentence.","traceId":"abc","refusedBy":{"rule":%q,"object":"group line-3"}}`, title, rule)
	}
	for name, c := range map[string]struct {
		status int
		body   string
		exit   int
		says   []string
	}{
		"bad input names the value":             {400, `{"title":"Bad input","detail":"Two things.","errors":[{"pointer":"/a","detail":"One."},{"location":"query.q","detail":"Two."}],"refusedBy":{"rule":"schema"}}`, exitUsage, []string{"(rule schema)", "/a: One.", "query.q: Two."}},
		"one bad value is said once":            {400, `{"title":"Bad input","detail":"One.","errors":[{"pointer":"/a","detail":"One."}],"refusedBy":{"rule":"r"}}`, exitUsage, []string{"muster: /a: One. (rule r)\n"}},
		"no token":                              {401, problem("Not signed in", "token-missing"), exitNotAllowed, []string{"next: set MUSTER_TOKEN"}},
		"a token without the right":             {403, problem("Not allowed", "scope-missing"), exitNotAllowed, []string{"group line-3: A sentence. (rule scope-missing)"}},
		"refused by policy":                     {403, problem("Disallowed", "key-disallowed"), exitRefused, []string{"rule key-disallowed"}},
		"not found":                             {404, problem("Not found", "no-enrollment"), exitNotFound, []string{"next: muster enroll list"}},
		"conflict":                              {409, problem("Conflict", "exists"), exitConflict, nil},
		"changed meanwhile":                     {412, problem("Changed meanwhile", "etag-mismatch"), exitConflict, []string{"repeat the command"}},
		"a version is needed":                   {428, problem("Precondition required", "if-match-required"), exitConflict, nil},
		"too large":                             {413, problem("Too large", "body-too-large"), exitUsage, nil},
		"too many requests":                     {429, problem("Too many requests", "paced"), exitUnreachable, nil},
		"an error of the server's":              {500, problem("Internal error", ""), exitFailed, nil},
		"stopping":                              {503, problem("Unavailable", "stopping"), exitUnreachable, nil},
		"a proxy's page":                        {502, "<html>", exitUnreachable, []string{"not as Muster's API does"}},
		"another service":                       {404, "404 page not found", exitNotFound, []string{"admin listener"}},
		"a redirect, which could lead anywhere": {302, "", exitFailed, []string{"answered 302"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/enrollments/dev-1" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			t.Setenv("MUSTER_ADMIN_URL", server.URL+"/")
			t.Setenv(tokenEnv, "mst_test")
			code, out, talk := muster("enroll", "show", "dev-1")
			if code != c.exit || out != "" {
				t.Errorf("exit %d, want %d; printed %q", code, c.exit, out)
			}
			for _, want := range c.says {
				if !strings.Contains(talk, want) {
					t.Errorf("said %q, without %q", talk, want)
				}
			}
			if _, _, talk := muster("enroll", "show", "dev-1", "--verbose"); strings.Contains(c.body, "traceId") != strings.Contains(talk, `"traceId": "abc"`) {
				t.Errorf("--verbose says %q", talk)
			}
		})
	}
}

func muster(args ...string) (code int, out, talk string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// An id may hold what means something in a path; it reaches the server as it is.
func TestIDsReachTheServerWhole(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.EscapedPath()
		_, _ = io.WriteString(w, `{"registrationId":"x"}`)
	}))
	defer server.Close()
	t.Setenv("MUSTER_ADMIN_URL", server.URL)
	for id, path := range map[string]string{"a:b": "a:b", "a/b": "a%2Fb", "a?b": "a%3Fb", "ä": "%C3%A4"} {
		if code, _, talk := muster("enroll", "show", id); code != exitDone || asked != "/api/v1/enrollments/"+path {
			t.Errorf("%q: exit %d, asked for %s: %s", id, code, asked, talk)
		}
	}
	for _, id := range []string{"", ".", ".."} {
		if asked = ""; true {
			if code, _, _ := muster("enroll", "show", id); code != exitUsage || asked != "" {
				t.Errorf("%q: exit %d, asked for %q", id, code, asked)
			}
		}
	}
}

// Two operators at once: whoever comes second is told, and nothing is lost.
func TestAnUpdateCarriesTheVersionItRead(t *testing.T) {
	var match string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"7"`)
		if r.Method == http.MethodPatch {
			match = r.Header.Get("If-Match")
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, `{"title":"Changed meanwhile","detail":"It was changed."}`)
			return
		}
		_, _ = io.WriteString(w, `{"registrationId":"dev-1"}`)
	}))
	defer server.Close()
	t.Setenv("MUSTER_ADMIN_URL", server.URL)
	if code, _, _ := muster("enroll", "update", "dev-1", "--device-id", "x"); code != exitConflict || match != `"7"` {
		t.Errorf("exit %d with If-Match %s", code, match)
	}
}

func TestSettingsOfADevelopmentFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("MUSTER_ADMIN_URL", "")
	t.Setenv(tokenEnv, "")
	if err := os.Mkdir(filepath.Dir(devEnvFile), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "export MUSTER_ADMIN_URL=http://127.0.0.1:8080\nexport MUSTER_TOKEN=" + shellWord("it's") + "\n# nothing\n"
	if err := os.WriteFile(devEnvFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var c connection
	api, err := c.ProvideClient(streams{})
	if err != nil || api.base != "http://127.0.0.1:8080" || api.token != "it's" {
		t.Fatalf("%+v, %v", api, err)
	}
	// A server named elsewhere does not get the development token.
	api, err = (&connection{AdminURL: "https://muster.example.net"}).ProvideClient(streams{})
	if err != nil || api.token != "" {
		t.Errorf("%+v, %v", api, err)
	}
	t.Setenv(tokenEnv, "mst_x")
	for url, rule := range map[string]string{"http://muster.example.net": "token-in-the-clear", "muster.example.net": "admin-url", "ftp://x": "admin-url", "": "no-server"} {
		if _, err := (&connection{AdminURL: url}).ProvideClient(streams{}); fault.RuleOf(err) != rule {
			t.Errorf("%q: %v, want rule %s", url, err, rule)
		}
	}
	for _, url := range []string{"http://localhost:1", "http://[::1]:1", "http://127.0.0.1", "https://muster.example.net"} {
		if _, err := (&connection{AdminURL: url}).ProvideClient(streams{}); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// Pages are followed to the end, or to the limit.
func TestListsAreReadPageByPage(t *testing.T) {
	var limits []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits = append(limits, r.URL.Query().Get("limit"))
		next := map[string]string{"": "b", "b": "c", "c": ""}[r.URL.Query().Get("cursor")]
		fmt.Fprintf(w, `{"items":[{"id":"x%s"}],"next":%q}`, next, next)
	}))
	defer server.Close()
	t.Setenv("MUSTER_ADMIN_URL", server.URL)
	for _, c := range []struct {
		flags, out, limits string
		more               bool
	}{
		{"--all", "xb\nxc\nx\n", "500 500 500", false},
		{"--limit=1", "xb\n", "1", true},
		{"--limit=2", "xb\nxc\n", "2 1", true},
		{"--limit=900", "xb\nxc\nx\n", "500 500 500", false},
	} {
		limits = nil
		code, out, talk := muster("ca", "list", "-o", "name", c.flags)
		if code != exitDone || out != c.out || strings.Join(limits, " ") != c.limits || strings.Contains(talk, "more") != c.more {
			t.Errorf("%s: exit %d, printed %q, asked for %v, said %q", c.flags, code, out, limits, talk)
		}
	}
	if _, out, _ := muster("ca", "list", "--limit=2", "-o", "json"); out != "{\n  \"items\": [\n    {\n      \"id\": \"xb\"\n    },\n    {\n      \"id\": \"xc\"\n    }\n  ],\n  \"next\": \"c\"\n}\n" {
		t.Errorf("json is %s", out)
	}
}
