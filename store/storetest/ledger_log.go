package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// ledgerLog holds an engine to what the log of the ledger rests on.
func ledgerLog(t *testing.T, open Open) {
	t.Run("no row appears at or below a horizon", func(t *testing.T) {
		db := store.New(open(t))
		const writers, each = 8, 25
		var writing sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				for i := range each {
					err := db.CA().Update(t.Context(), func(tx ca.Tx) error {
						e := audit.Event{At: time.UnixMicro(int64(i + 1)), Actor: "operator:o", Action: audit.HubLinked, Subject: fmt.Sprintf("hub:%d-%d", w, i), Body: []byte("{}")}
						if err := tx.Append(e); err != nil || i%5 > 0 {
							return err
						}
						if _, err := tx.Issuers(); err != nil { // sends the row, and time passes
							return err
						}
						if i%10 == 0 {
							return fault.New(fault.Conflict, "given-up", "This leaves a gap.")
						}
						return nil
					})
					if err != nil && fault.RuleOf(err) != "given-up" {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { writing.Wait(); close(done) }()
		seen, last := 0, int64(0)
		for finished := false; ; {
			select {
			case <-done:
				finished = true
			default:
			}
			horizon, err := db.Log().Horizon(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows, err := db.Log().Rows(t.Context(), last, horizon, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if r.Seq <= last || r.Seq > horizon {
					t.Fatalf("row %d after %d, up to %d", r.Seq, last, horizon)
				}
				last = r.Seq
			}
			seen, last = seen+len(rows), horizon
			if finished {
				break
			}
		}
		if want := writers * (each - 3); seen != want {
			t.Errorf("read %d rows, want %d", seen, want)
		}
		if n, err := db.Log().Behind(t.Context(), last-1); err != nil || n != 1 {
			t.Errorf("behind by %d, %v", n, err)
		}
	})
	t.Run("the key of the log is given once", func(t *testing.T) {
		db := store.New(open(t))
		l := db.Log()
		if _, err := l.GivenKey(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
		for range 2 {
			e := audit.Event{At: time.UnixMicro(1), Actor: "job:log", Action: audit.LogStarted, Subject: "log:x", Body: []byte("{}")}
			if key, err := l.Key(t.Context(), "first", e); err != nil || key != "first" {
				t.Fatal(key, err)
			}
		}
		if key, err := l.Key(t.Context(), "second", audit.Event{}); err != nil || key != "first" {
			t.Fatal(key, err)
		}
		if n, err := l.Behind(t.Context(), 0); err != nil || n != 1 {
			t.Fatalf("%d rows, %v", n, err)
		}
	})
}
