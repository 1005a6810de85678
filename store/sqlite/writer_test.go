package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

var (
	insertKey = &store.Stmt{Text: "INSERT INTO meta (key, value) VALUES (?, ?)", Kept: true}
	countKeys = &store.Stmt{Text: "SELECT count(*), coalesce(max(length(value)), 0) FROM meta", Kept: true}
)

func engine(t *testing.T, o Options) *Engine {
	t.Helper()
	e, err := Open(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *Engine) keys(t *testing.T) (n int64) {
	t.Helper()
	err := e.View(t.Context(), func(c store.Conn) error {
		return c.Query(countKeys, func(row []any) error { n = row[0].(int64); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// oneBatch queues all the functions behind one that holds the writer, so that they share
// a batch, and returns their errors.
func oneBatch(t *testing.T, e *Engine, functions ...func(*conn) error) []error {
	t.Helper()
	errs := make([]error, len(functions))
	release := make(chan struct{})
	held := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_ = e.Update(context.Background(), store.Devices, func(store.Conn) error { close(held); <-release; return nil })
	})
	<-held
	for i, f := range functions {
		all.Go(func() {
			errs[i] = e.Update(context.Background(), store.Devices, func(c store.Conn) error { return f(c.(*conn)) })
		})
		for len(e.writer.devices) <= i {
			runtime.Gosched()
		}
	}
	close(release)
	all.Wait()
	return errs
}

func insert(key string) func(*conn) error {
	return func(c *conn) error { return c.Exec(insertKey, key, "v") }
}

func TestABatchIsOneCommit(t *testing.T) {
	e := engine(t, Options{})
	before := e.Stats()
	var functions []func(*conn) error
	for i := range 20 {
		functions = append(functions, insert(fmt.Sprint(i)))
	}
	if err := errors.Join(oneBatch(t, e, functions...)...); err != nil {
		t.Fatal(err)
	}
	if n := e.Stats().Commits - before.Commits; n > 2 {
		t.Errorf("%d commits, want 1, and perhaps one for the function that held the writer", n)
	}
	if n := e.keys(t); n != 20 {
		t.Errorf("%d rows", n)
	}
}

func TestATransactionThatIsGoneIsRunAgainForEach(t *testing.T) {
	e := engine(t, Options{})
	lost := false
	errs := oneBatch(t, e,
		insert("a"),
		func(c *conn) error {
			if err := c.Exec(insertKey, "b", "v"); err != nil {
				return err
			}
			if lost {
				return nil
			}
			lost = true
			c.lost = store.ErrUnavailable(errors.New("disk I/O error")) // after which SQLite does this by itself:
			return c.run("ROLLBACK")
		},
		insert("c"),
		func(*conn) error { return fault.New(fault.Conflict, "mine", "no") },
	)
	if err := errors.Join(errs[:3]...); err != nil {
		t.Errorf("the neighbours: %v", err)
	}
	if fault.RuleOf(errs[3]) != "mine" {
		t.Errorf("the refused one: %v", errs[3])
	}
	if n := e.keys(t); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	if s := e.Stats(); s.Failures != 1 || s.Reruns == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestAFunctionThatFailsAfterWritingLeavesItsNeighboursAlone(t *testing.T) {
	e := engine(t, Options{})
	mine := fault.New(fault.Conflict, "mine", "no")
	errs := oneBatch(t, e,
		insert("a"),
		func(c *conn) error { return errors.Join(c.Exec(insertKey, "b", "v"), mine) },
		insert("c"),
		insert("a"),
		func(*conn) error { panic("d") },
		insert("e"),
	)
	for i, fails := range []bool{false, true, false, true, true, false} {
		if fails != (errs[i] != nil) {
			t.Errorf("Update %d: %v", i, errs[i])
		}
	}
	if fault.RuleOf(errs[1]) != "mine" {
		t.Errorf("the function's own error: %v", errs[1])
	}
	if n := e.keys(t); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	if err := e.Update(t.Context(), store.Devices, func(c store.Conn) error { return insert("b")(c.(*conn)) }); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// The disk is one of a few pages here. What does not fit is answered unavailable; what
// does, and every read, goes on (INV-S5).
func TestAFullDiskStopsWhatDoesNotFit(t *testing.T) {
	e := engine(t, Options{settings: []string{"max_page_count(90)"}})
	big := func(key string) func(*conn) error {
		return func(c *conn) error { return c.Exec(insertKey, key, string(make([]byte, 1<<20))) }
	}
	errs := oneBatch(t, e, insert("a"), big("b"), insert("c"), big("d"))
	for i, full := range []bool{false, true, false, true} {
		if full != fault.Is(errs[i], fault.Unavailable) || !full && errs[i] != nil {
			t.Errorf("Update %d: %v, want full: %v", i, errs[i], full)
		}
	}
	if n := e.keys(t); n != 2 {
		t.Errorf("%d rows, want the 2 that fitted", n)
	}
	if err := e.Update(t.Context(), store.Devices, func(c store.Conn) error { return insert("e")(c.(*conn)) }); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestACallerThatGivesUpInTheQueueIsPassedOver(t *testing.T) {
	e := engine(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	errs := oneBatch(t, e, insert("a"), func(*conn) error {
		go func() {
			gone <- e.Update(ctx, store.Jobs, func(c store.Conn) error { return insert("never")(c.(*conn)) })
		}()
		for len(e.writer.jobs) == 0 {
			runtime.Gosched()
		}
		cancel()
		return nil
	}, insert("b"))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller was told: %v", err)
	}
	if err := e.Update(context.Background(), store.Jobs, func(c store.Conn) error { return insert("c")(c.(*conn)) }); err != nil {
		t.Fatal(err)
	}
	if n := e.keys(t); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestClosingFinishesWhatIsQueued(t *testing.T) {
	e, err := Open(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	errs := make([]error, 50)
	for i := range errs {
		all.Go(func() {
			errs[i] = e.Update(context.Background(), store.Devices, func(c store.Conn) error { return insert(fmt.Sprint(i))(c.(*conn)) })
		})
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	again, err := Open(t.Context(), e.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	told := int64(0)
	for _, err := range errs {
		switch {
		case err == nil:
			told++
		case fault.RuleOf(err) != "database-closed":
			t.Errorf("an Update was told: %v", err)
		}
	}
	if n := again.keys(t); n != told {
		t.Errorf("%d rows, and %d callers were told of success", n, told)
	}
	if err := e.Update(context.Background(), store.Devices, nil); fault.RuleOf(err) != "database-closed" {
		t.Errorf("after Close: %v", err)
	}
	if err := e.View(context.Background(), nil); fault.RuleOf(err) != "database-closed" {
		t.Errorf("after Close: %v", err)
	}
}
