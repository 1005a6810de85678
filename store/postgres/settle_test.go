package postgres_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/store"
)

func TestAHorizonWaitsForARowThatIsWrittenAndNotCommitted(t *testing.T) {
	db := store.New(openDSN(t, testpg.DSN(t)))
	row := func(hold func()) error {
		return db.CA().Update(t.Context(), func(tx ca.Tx) error {
			if err := tx.Append(audit.Event{At: time.UnixMicro(1), Actor: "operator:o", Action: audit.HubLinked, Subject: "hub:h", Body: []byte("{}")}); err != nil {
				return err
			}
			_, err := tx.Issuers() // sends the row: it has its number now
			hold()
			return err
		})
	}
	written, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { done <- row(func() { close(written); <-release }) }()
	<-written
	if err := row(func() {}); err != nil { // with a higher number, and visible first
		t.Fatal(err)
	}
	horizon := make(chan int64, 1)
	go func() {
		h, err := db.Log().Horizon(t.Context())
		if err != nil {
			t.Error(err)
		}
		horizon <- h
	}()
	select {
	case h := <-horizon:
		close(release)
		t.Fatalf("the horizon is %d while a lower row is still to come", h)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	rows, err := db.Log().Rows(t.Context(), 0, <-horizon, 10)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
}
