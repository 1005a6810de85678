// Package testpg gives each test its own schema on a private PostgreSQL server.
//
// One schema is one ID scope, so a fresh schema is a whole fresh store. The server is the
// one MUSTER_TEST_PG_DSN names (make test starts one for all packages); without it, the
// first call in a test binary starts one through scripts/with-postgres.sh, and that server
// ends when the test binary ends, in whatever way it ends. Where PostgreSQL is not
// installed the test is skipped with the reason, or fails if MUSTER_REQUIRE_EXTERNAL=1.
//
// It is test support: only _test.go files import it.
package testpg

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/pgdsn"
)

// missing is the exit status of scripts/with-postgres.sh where there is no PostgreSQL.
const missing = 69

var errMissing = errors.New("PostgreSQL is missing")

// instance is a running server. Its script reads standard input to the end, so the end of
// this process, however sudden, closes stdin and ends the server: stdin only has to stay
// reachable until then.
type instance struct {
	dsn   string
	stdin io.Closer
}

// server is started at most once in a test binary: starting costs about a second, a schema
// a few milliseconds.
var server = sync.OnceValues(start)

// DSN makes an empty schema for t and returns a connection string whose search_path is that
// schema and nothing else. The schema is dropped when t ends, after whatever t has
// registered to close in later Cleanup calls; a connection that still holds a transaction
// in it by then fails the test.
func DSN(t testing.TB) string {
	t.Helper()
	srv, err := server()
	switch {
	case errors.Is(err, errMissing) && os.Getenv("MUSTER_REQUIRE_EXTERNAL") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	schema := "test_" + strings.ToLower(rand.Text())
	if err := execute(srv.dsn, "CREATE SCHEMA "+schema); err != nil {
		t.Fatalf("making a schema: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(srv.dsn, "DROP SCHEMA "+schema+" CASCADE"); err != nil {
			t.Errorf("dropping the schema of this test (is a transaction left open?): %v", err)
		}
	})
	return pgdsn.Within(srv.dsn, schema)
}

func execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "SET lock_timeout = '10s'; "+statement)
	return err
}

func start() (instance, error) {
	if dsn := os.Getenv("MUSTER_TEST_PG_DSN"); dsn != "" {
		return instance{dsn: dsn}, nil
	}
	script, err := findScript()
	if err != nil {
		return instance{}, err
	}
	cmd := exec.Command("bash", script)
	// An interrupt from the keyboard reaches this process; the script must outlive it long
	// enough to stop the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return instance{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return instance{}, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return instance{}, err
	}
	out := bufio.NewReader(stdout)
	line, _ := out.ReadString('\n')
	if strings.HasPrefix(line, "postgres://") {
		return instance{dsn: strings.TrimSpace(line), stdin: stdin}, nil
	}
	rest, _ := io.ReadAll(out)
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() == missing {
		return instance{}, fmt.Errorf("%w: %s", errMissing, strings.TrimSpace(line))
	}
	return instance{}, fmt.Errorf("starting PostgreSQL: %w: %s%s", err, line, rest)
}

// findScript looks upward from the package under test, where go test runs its binary.
func findScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "scripts", "with-postgres.sh")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("scripts/with-postgres.sh is in no folder above the test")
		}
		dir = parent
	}
}
