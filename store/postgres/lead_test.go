package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/store/postgres"
)

func TestOneProcessLeadsAndAnotherTakesOver(t *testing.T) {
	dsn := testpg.DSN(t)
	open := func() *postgres.Engine {
		e, err := postgres.Open(t.Context(), dsn, postgres.Options{LeadEvery: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	leads := make(chan string)
	lead := func(e *postgres.Engine, name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.Lead(ctx, "log", func(ctx context.Context) {
				select {
				case leads <- name:
				case <-ctx.Done():
				}
				<-ctx.Done()
			})
		}()
		return func() { cancel(); <-done }
	}
	stopFirst := lead(open(), "first")
	if who := <-leads; who != "first" {
		t.Fatal(who)
	}
	stopSecond := lead(open(), "second")
	defer stopSecond()
	select {
	case who := <-leads:
		t.Fatalf("%s leads beside the first", who)
	case <-time.After(200 * time.Millisecond):
	}
	stopFirst()
	if who := <-leads; who != "second" {
		t.Fatal(who)
	}
}
