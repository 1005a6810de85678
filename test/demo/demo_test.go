// Package demo_test holds `make demo` and `make demo-breach` to what the README says of them:
// they work, they are quick, they clean up after themselves, and the transcript of the first
// is the one in docs.
package demo_test

import (
	"bufio"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/demo-transcript.txt anew")

const (
	checkout   = "../.."
	transcript = checkout + "/docs/demo-transcript.txt"
	budget     = 30 // seconds, after the build
)

// tour is a folder with the script alone, as a checkout has it.
type tour struct{ folder, script, muster string }

func newTour(t *testing.T, name, muster string) tour {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(checkout, "scripts", name+".sh"))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "scripts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "scripts", name+".sh"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	return tour{folder, name, muster}
}

func (r tour) command(t *testing.T) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), filepath.Join(r.folder, "scripts", r.script+".sh"))
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "MUSTER_BIN="+r.muster, "MUSTER_ADMIN_URL=http://127.0.0.1:1", "MUSTER_TOKEN=of-another-server")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// leavesNothing checks that no process works in the folder and that it holds no more
// than the script and the folder of its name.
func (r tour) leavesNothing(t *testing.T) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		// A process of another user, or one that has just ended, cannot be read.
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, r.folder) {
			t.Errorf("%s still works in %s", filepath.Dir(link), at)
		}
	}
	entries, err := os.ReadDir(r.folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "scripts" && e.Name() != r.script {
			t.Errorf("the tour left %s outside ./%s", e.Name(), r.script)
		}
	}
}

// built is the program under test: MUSTER_BIN, or one made for this run.
func built(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("MUSTER_BIN"); given != "" {
		given, err := filepath.Abs(given)
		if err != nil {
			t.Fatal(err)
		}
		return given
	}
	return build(t, "cmd/muster")
}

func build(t *testing.T, folder string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(folder))
	build := exec.Command("go", "build", "-o", program, "./"+folder)
	build.Dir = checkout
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// need skips where a program is missing, and fails where all of them have to be there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("MUSTER_REQUIRE_EXTERNAL") == "1" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
}

func TestDemo(t *testing.T) {
	need(t, "bash", "openssl", "curl")
	muster := built(t)
	t.Run("the tour works, in time, and its transcript is the one in docs", func(t *testing.T) {
		t.Parallel()
		r := newTour(t, "demo", muster)
		out, err := r.command(t).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		r.leavesNothing(t)
		checkTime(t, string(out))
		for _, line := range keyLines {
			if !regexp.MustCompile(line).Match(out) {
				t.Errorf("no line matches %s in\n%s", line, out)
			}
		}
		checkTranscript(t, string(out))
	})
	t.Run("an interrupted tour stops its server", func(t *testing.T) {
		t.Parallel()
		r := newTour(t, "demo", muster)
		interrupt(t, r.command(t))
		r.leavesNothing(t)
	})
	t.Run("a server that does not start fails the tour in its first step", func(t *testing.T) {
		t.Parallel()
		r := newTour(t, "demo", "/bin/false")
		fails(t, r.command(t), "FAILED in step 1", "the server ended")
		r.leavesNothing(t)
	})
	t.Run("a missing program fails the tour before it begins", func(t *testing.T) {
		t.Parallel()
		fails(t, newTour(t, "demo", "/nonexistent/muster").command(t), "there is no muster at")
	})
	t.Run("a folder demo of somebody else's is left alone", func(t *testing.T) {
		t.Parallel()
		r := newTour(t, "demo", muster)
		own := filepath.Join(r.folder, "demo", "thesis.txt")
		if err := os.Mkdir(filepath.Dir(own), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(own, []byte("years of work"), 0o644); err != nil {
			t.Fatal(err)
		}
		fails(t, r.command(t), "is not from an earlier run")
		if _, err := os.Stat(own); err != nil {
			t.Error(err)
		}
	})
}

// keyLines are what the README promises, however the words around them change.
var keyLines = []string{
	`(?m)isVerified: false`,
	`(?m)isVerified: true$`,
	`(?m)^ +> PUT /0ne[0-9A-F]{8}/registrations/press-01/register\?api-version=2025-07-01-preview$`,
	`(?m)^ +< 202$`,
	`"issuedCertificateChain":\["MI.*","MI.*","MI.*"\]`,
	`(?m)^ +devices/press-05/cert\.pem: OK$`,
	`(?m)its next request, with Muster's certificate: +401 Unauthorized$`,
	`(?m)and one more, with the factory's certificate: +401 Unauthorized$`,
	`enrollment-disabled`,
	`(?m)^ +error 23 .*certificate revoked$`,
	`(?m)^ +press-02 +DPS, muster +\.\.[0-9a-f]{12} +Muster DEV Issuing CA +local +assigned +renewed`,
	`(?m)^ +press-03 .* disabled .*enrollment-disabled$`,
	`(?m)^ +press-04 .* revoked .*certificate-revoked$`,
	`(?m)^ +press-05 +EST, curl .* assigned `,
}

func checkTime(t *testing.T, out string) {
	t.Helper()
	done := regexp.MustCompile(`(?m)^Done in (\d+) s\.`).FindStringSubmatch(out)
	if done == nil {
		t.Fatalf("the tour does not say how long it took:\n%s", out)
	}
	if seconds, err := strconv.Atoi(done[1]); err != nil || seconds >= budget {
		t.Errorf("the tour took %s s, the budget is %d s", done[1], budget)
	}
}

// varying is what differs from run to run, and what stands for it when two are compared.
var varying = []struct{ pattern, standIn string }{
	{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
	{`0ne[0-9A-F]{8}`, "0neSCOPE"},
	{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z`, "TIME"},
	{`"operationId":"[^"]*"`, `"operationId":"ID"`},
	{`"etag":"[^,]*"`, `"etag":"ETAG"`},
	{`\b[0-9A-Fa-f]{30,64}\b`, "HEX"},
	{`\.\.[0-9a-f]{12} `, "..HEX "},
	{`/pki/[^ /]+/1\.crl`, "/pki/ISSUER/1.crl"},
	{`"MI[A-Za-z0-9+/]*\.\.\."`, `"MI..."`},
	{`Done in \d+ s`, "Done in N s"},
}

func steady(s string) string {
	for _, v := range varying {
		s = regexp.MustCompile(v.pattern).ReplaceAllString(s, v.standIn)
	}
	return s
}

func checkTranscript(t *testing.T, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(transcript, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(transcript)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(steady(got), "\n"), strings.Split(steady(string(want)), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := at(gotLines, i), at(wantLines, i)
		if g != w {
			t.Fatalf("line %d of the transcript (write it anew with -update)\n got %s\nwant %s", i+1, g, w)
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(no such line)"
}

// interrupt ends the tour by a signal once its server runs.
func interrupt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(strings.TrimSpace(lines.Text()), "2.") {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("an interrupted tour ended with %v, want status 1", err)
	}
}

// fails runs a tour that must end with status 1 and say these words.
func fails(t *testing.T, cmd *exec.Cmd, words ...string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if code := exitCode(err); code != 1 {
		t.Errorf("status %d, want 1", code)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			t.Errorf("%q is not in\n%s", w, out)
		}
	}
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}
