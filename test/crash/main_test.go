package crash_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/passmuster/muster/store/storetest"
	"github.com/passmuster/muster/test/instance"
)

// binaries is the folder that the server is built into.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "muster-crash-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(binaries)
	return m.Run()
}

var build = sync.OnceValues(func() (string, error) { return instance.Build(context.Background(), binaries) })

// binary is the server, built once for all tests.
func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// doctor wants every invariant of an installation's store to hold.
func doctor(t *testing.T, c instance.Config) {
	t.Helper()
	args := append(c.Wrap, c.Binary, "doctor", "--data", c.Data)
	if c.DSNFile != "" {
		args = append(args, "--dsn-file", c.DSNFile)
	}
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("muster doctor: %v\n%s", err, out)
	}
}

// start starts a server that is gone when the test ends, whatever becomes of it.
func start(t *testing.T, c instance.Config) *instance.Instance {
	t.Helper()
	s, err := instance.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { storetest.LintFolder(t, c.Data) })
	t.Cleanup(s.Kill)
	return s
}

// folder is a new data folder.
func folder(t *testing.T) string { return filepath.Join(t.TempDir(), "data") }
