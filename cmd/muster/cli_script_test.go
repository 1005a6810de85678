package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/store/storetest"
)

// Started under the name of the command, this binary is the command: so shell scripts
// inside transcripts can call it.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "muster" {
		main()
	}
	os.Exit(m.Run())
}

// Every documented client command in a transcript, against a real server.
func TestTranscripts(t *testing.T) {
	family := testkit.Chain(t, `root > mid > dev-1; mid > dev-1b [cn=dev-1]; mid > old [expired]; mid > fleet-1; mid > odd [cn=No registration id.]; root > server [eku=server]; other > stranger; mid > roll-1 [cn=roller]; mid > roll-2 [cn=roller]; mid > roll-3 [cn=roller]; root > mid-2 > moved [cn=fleet-1]`,
		ending("roll-1", 2040), ending("roll-2", 2050), ending("roll-3", 2060), ending("mid-2", 2091))
	copied := family.Get("mid").Issue(t, "fleet-2", testkit.WithKey(family.Get("fleet-1").Key))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Abs(filepath.Join("testdata", "cli"))
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "muster")); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: scripts,
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { storetest.LintFolder(env.T().(testing.TB), filepath.Join(env.WorkDir, "muster-dev")) })
			env.Setenv("ROOT_BASE64", family.Get("root").Base64())
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			for _, name := range []string{"root", "mid", "dev-1", "dev-1b", "old", "fleet-1", "odd", "server", "other", "stranger", "roll-1", "roll-2", "roll-3", "mid-2", "moved", "fleet-2"} {
				e := copied
				if name != "fleet-2" {
					e = family.Get(name)
				}
				for file, text := range map[string][]byte{
					name + ".pem": e.PEM(), name + "-chain.pem": testkit.PEM(e.Chain()...), name + ".key": testkit.KeyPEM(t, e.Key),
				} {
					if err := os.WriteFile(filepath.Join(env.WorkDir, file), text, 0o600); err != nil {
						return err
					}
				}
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "openssl" {
				return false, errors.New("unknown condition")
			}
			_, err := exec.LookPath("openssl")
			return err == nil || os.Getenv("MUSTER_REQUIRE_EXTERNAL") == "1", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serving": serving, "keep": keep, "logged": logged, "until": until, "receiving": receiving,
			"muster":   func(ts *testscript.TestScript, _ bool, args []string) { exits(ts, exitDone, args) },
			"exits":    exitsWith,
			"swtpm":    func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], testkit.NewSWTPM(t).Socket) },
			"endorsed": endorsed(t),
		},
	})
}

// ending makes a certificate of the family end with a year.
func ending(name string, year int) testkit.EditOf {
	return testkit.Edit(name, func(c *x509.Certificate) { c.NotAfter = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) })
}

// serving starts a development server in ./muster-dev; it stops with the script.
func serving(ts *testscript.TestScript, _ bool, _ []string) {
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code := run(ctx, []string{
			"serve", "--dev", "--data", ts.MkAbs("muster-dev"), "--devices", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pki", "127.0.0.1:0", "--mqtt", "127.0.0.1:0",
		}, streams{Out: w, Err: io.Discard})
		_ = w.Close()
		done <- code
	}()
	ts.Defer(func() {
		stop()
		if code := <-done; code != exitDone {
			ts.Logf("the server ended with %d", code)
		}
	})
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		ts.Fatalf("the server did not start: %v", err)
	}
	go io.Copy(io.Discard, r)
	raw, err := os.ReadFile(ts.MkAbs("muster-dev/dev.env"))
	ts.Check(err)
	for name, value := range readEnvFile(raw) {
		if name == "MUSTER_ADMIN_URL" {
			ts.Setenv("ADMIN", value) // not where commands look: they find dev.env
		}
		if name == "MUSTER_DEVICE_URL" || name == "MUSTER_ID_SCOPE" || name == "MUSTER_CA_FILE" {
			ts.Setenv(name, value)
		}
	}
}

// exitsWith is muster with an exit code other than 0: exits 6 muster …
func exitsWith(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	exits(ts, want, args[2:])
}

// oneAtATime keeps scripts from sharing what a process has one of: a current folder
// and an environment. A process of its own for each command would take seconds.
var oneAtATime sync.Mutex

func exits(ts *testscript.TestScript, want int, args []string) {
	if got := invoke(ts, args, ts.Stdout(), ts.Stderr()); got != want {
		ts.Fatalf("exit %d, want %d", got, want)
	}
}

// until runs a command again and again until its output matches: until PATTERN muster …
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out, errs bytes.Buffer
	for range 300 {
		out.Reset()
		errs.Reset()
		if invoke(ts, args[2:], &out, &errs) == exitDone && pattern.Match(out.Bytes()) {
			_, err := out.WriteTo(ts.Stdout())
			ts.Check(err)
			return
		}
		time.Sleep(100 * time.Millisecond) // a job of the server's: nothing tells us
	}
	ts.Fatalf("%q never comes; the last output was:\n%s%s", args[0], &out, &errs)
}

// invoke runs main without the process, in the script's folder and environment.
func invoke(ts *testscript.TestScript, args []string, out, errs io.Writer) int {
	oneAtATime.Lock()
	defer oneAtATime.Unlock()
	home, err := os.Getwd()
	ts.Check(err)
	ts.Check(os.Chdir(ts.MkAbs(".")))
	defer os.Chdir(home)
	for _, name := range []string{"MUSTER_ADMIN_URL", "MUSTER_TOKEN", "MUSTER_CA_FILE", "MUSTER_DEVICE_URL", "MUSTER_ID_SCOPE"} {
		if v := ts.Getenv(name); v != "" {
			ts.Check(os.Setenv(name, v))
		} else {
			ts.Check(os.Unsetenv(name))
		}
	}
	return run(context.Background(), args, streams{In: strings.NewReader(""), Out: out, Err: errs})
}

// keep puts the first line of the last command's output into a variable.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	for i := range text {
		if text[i] == '\n' {
			ts.Setenv(args[0], text[:i])
			return
		}
	}
	ts.Fatalf("the last command printed no line")
}
