package testpg_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/testpg"
)

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func read(t *testing.T, conn *pgx.Conn, query string) string {
	t.Helper()
	var value string
	if err := conn.QueryRow(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func TestEachTestHasASchemaOfItsOwn(t *testing.T) {
	for _, name := range []string{"one", "another"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testpg.DSN(t))
			if _, err := conn.Exec(t.Context(), "CREATE TABLE devices (name text)"); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "INSERT INTO devices VALUES ($1)", name); err != nil {
				t.Fatal(err)
			}
			if got := read(t, conn, "SELECT string_agg(name, ',') FROM devices"); got != name {
				t.Errorf("devices = %q, want only its own row %q", got, name)
			}
		})
	}
}

func TestTheSchemaIsGoneAfterItsTest(t *testing.T) {
	conn := connect(t, testpg.DSN(t))
	var schema string
	t.Run("inner", func(t *testing.T) {
		schema = read(t, connect(t, testpg.DSN(t)), "SELECT current_schema()")
	})
	if schema == "" {
		t.Fatal("the inner test had no schema")
	}
	var there bool
	err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there)
	if err != nil {
		t.Fatal(err)
	}
	if there {
		t.Errorf("schema %s outlived its test", schema)
	}
}

func TestTheServerKeepsWhatMusterChecks(t *testing.T) {
	conn := connect(t, testpg.DSN(t))
	if got := read(t, conn, "SHOW synchronous_commit"); got != "on" {
		t.Errorf("synchronous_commit = %s", got)
	}
	if got := read(t, conn, "SHOW server_encoding"); got != "UTF8" {
		t.Errorf("server_encoding = %s", got)
	}
}

// TestTheServerDiesWithItsTestBinary runs this binary again as a child that only holds a
// server, kills the child without warning, and waits for the socket to go silent.
func TestTheServerDiesWithItsTestBinary(t *testing.T) {
	if os.Getenv("TESTPG_CHILD") == "1" {
		os.Stdout.WriteString("dsn " + testpg.DSN(t) + "\n")
		select {}
	}
	testpg.DSN(t) // skips here, before the child would, where there is no PostgreSQL
	child := exec.Command(os.Args[0], "-test.run=^TestTheServerDiesWithItsTestBinary$", "-test.timeout=1m")
	child.Env = append(os.Environ(), "TESTPG_CHILD=1", "MUSTER_TEST_PG_DSN=")
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	dsn, found := strings.CutPrefix(strings.TrimSpace(line), "dsn ")
	if !found {
		t.Fatalf("the child said %q", line)
	}
	conn := connect(t, dsn)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	// The server says goodbye on every open connection when it stops.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := conn.WaitForNotification(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the server was still there 30 s after its test binary was killed (%v)", err)
	}
}
