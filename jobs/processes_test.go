package jobs

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/passmuster/muster/internal/testpg"
)

// Started with this variable, the test binary is one of several processes that share a
// database: it moves what is due until its standard input ends (TestMain).
const mover = "MUSTER_TEST_MOVER_DSN"

func move(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	c := Config{DSN: dsn, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Sweeps: []Sweep{
		{Scope: "0neA", Name: "move", Every: time.Second, Run: func(ctx context.Context) (bool, error) { return movePage(ctx, pool) }},
	}}
	j, err := Open(ctx, c)
	if err != nil {
		return err
	}
	if err := j.Start(ctx); err != nil {
		return err
	}
	fmt.Println(j.river.ID())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return j.Stop(ctx)
}

// movePage does as the domain's sweeps do: it claims what is due, moves it and puts that on
// record, in one transaction.
func movePage(ctx context.Context, pool *pgxpool.Pool) (more bool, err error) {
	const page = 5
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id FROM due WHERE due_at <= now() AND NOT moved ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED", page)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		more = len(ids) == page
		for _, id := range ids {
			if _, err := tx.Exec(ctx, "UPDATE due SET moved = true WHERE id = $1", id); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO moves (id, process) VALUES ($1, $2)", id, os.Getpid()); err != nil {
				return err
			}
		}
		return nil
	})
	return more, err
}

type process struct {
	*exec.Cmd
	leader string // as River calls it
	stdin  io.Closer
}

func startProcess(t *testing.T, dsn string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), mover+"="+dsn)
	p.Stderr = os.Stderr
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	t.Cleanup(func() {
		_ = stdin.Close() // that ends it
		_ = p.Wait()      // it may have been killed
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the process did not start: %v", err)
	}
	p.leader = strings.TrimSpace(line)
	return p
}

func TestWhenTheLeaderIsKilledAnotherGoesOnAndEachMoveHappensOnce(t *testing.T) {
	ctx, dsn := t.Context(), testpg.DSN(t)
	db, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	// Something is due each 50 ms for a minute and a half, more than the test takes.
	if _, err := db.Exec(ctx, `
		CREATE TABLE due (id BIGINT PRIMARY KEY, due_at TIMESTAMPTZ NOT NULL, moved BOOLEAN NOT NULL DEFAULT false);
		CREATE TABLE moves (id BIGINT NOT NULL, process BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());
		INSERT INTO due SELECT n, now() + n * interval '50 ms' FROM generate_series(1, 1800) n`); err != nil {
		t.Fatal(err)
	}
	one := func(statement string, args ...any) (n int) {
		t.Helper()
		if err := db.QueryRow(ctx, statement, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	await := func(what, statement string, args ...any) {
		t.Helper()
		for late := time.Now().Add(time.Minute); one(statement, args...) == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal(what)
			}
		}
	}
	first, second := startProcess(t, dsn), startProcess(t, dsn)
	await("nobody leads", "SELECT count(*) FROM river_leader WHERE leader_id IN ($1, $2)", first.leader, second.leader)
	await("nothing is moved", "SELECT count(*) FROM moves")
	leader, other := first, second
	if one("SELECT count(*) FROM river_leader WHERE leader_id = $1", second.leader) == 1 {
		leader, other = second, first
	}
	if err := leader.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	await("nobody took over", "SELECT count(*) FROM river_leader WHERE leader_id = $1", other.leader)
	await("the work was not resumed", "SELECT count(*) FROM moves WHERE id = (SELECT max(id) FROM due WHERE due_at <= now() - interval '3 s')")
	resumed := time.Since(killed)
	t.Logf("work resumed %s after the leader was killed", resumed.Round(time.Millisecond))
	if resumed > 30*time.Second {
		t.Errorf("work resumed after %s", resumed)
	}
	if n := one("SELECT count(*) FROM (SELECT id FROM moves GROUP BY id HAVING count(*) > 1) twice"); n > 0 {
		t.Errorf("%d moves happened twice", n)
	}
	if n := one("SELECT count(*) FROM due WHERE due_at <= now() - interval '3 s' AND NOT moved"); n > 0 {
		t.Errorf("%d moves did not happen", n)
	}
}

func TestTwoProcessesRunASweepOnceInItsPeriod(t *testing.T) {
	c := Config{DSN: testpg.DSN(t)}
	n := newCounter()
	c.Sweeps = []Sweep{{Scope: "0neA", Name: "shared", Every: time.Second, Run: n.run}}
	start(t, c)
	start(t, c)
	n.await(t, 1)
	began := time.Now()
	n.await(t, 4)
	if took := time.Since(began); took < 2500*time.Millisecond {
		t.Errorf("four periods were over in %s: both processes run it", took)
	}
}

func TestJobsGoOnWhenTheirConnectionsAreLost(t *testing.T) {
	ctx, dsn := t.Context(), testpg.DSN(t)
	db, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	n, name := newCounter(), "jobs-"+rand.Text()
	start(t, Config{DSN: dsn + "&application_name=" + name, Sweeps: []Sweep{{Scope: "0neA", Name: "quick", Every: time.Second, Run: n.run}}})
	n.await(t, 2)
	lost := 0
	if err := db.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1", name).Scan(&lost); err != nil || lost == 0 {
		t.Fatal(lost, err)
	}
	for len(n.seen) > 0 {
		<-n.seen
	}
	n.await(t, 3)
}
