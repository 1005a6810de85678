package crash_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/test/instance"
)

// work is something that a sweep moves, each with a row in the ledger.
type work struct {
	action string // of the row
	// make has things come due a moment after it returns, and names their rows' subjects.
	make func(ctx context.Context, s *instance.Instance) (subjects []string, err error)
}

// resumeLimit is how long what is due may wait after the leader was killed.
const resumeLimit = 30 * time.Second

func TestWhenTheLeadingServerIsKilledTheOtherMovesEachThingOnce(t *testing.T) {
	for name, w := range map[string]work{"issuers that retire": {"issuer.retired", retiringIssuers}} {
		t.Run(name, func(t *testing.T) { movedOnce(t, w) })
	}
}

// movedOnce kills the server that leads while something comes due, and wants the other to
// move each thing soon, and nobody twice.
func movedOnce(t *testing.T, w work) {
	ctx := t.Context()
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte(testpg.DSN(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := instance.Config{Binary: binary(t), Data: folder(t), DSNFile: dsn}
	leader := start(t, c) // nobody else is there to be elected
	ran(t, leader, time.Time{})
	other := start(t, c)
	subjects, err := w.make(ctx, leader)
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	leader.Kill()
	ran(t, other, killed)
	for _, subject := range subjects {
		for late := killed.Add(2 * resumeLimit); rows(t, other, w.action, subject) == 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%s was not moved; the server said:\n%s", subject, other.Log())
			}
		}
	}
	resumed := time.Since(killed)
	t.Logf("%d moves, the last %s after the leader was killed", len(subjects), resumed.Round(time.Millisecond))
	if resumed > resumeLimit {
		t.Errorf("work was resumed after %s", resumed)
	}
	again := start(t, c) // whoever joins does nothing again
	ran(t, again, time.Time{})
	for _, subject := range subjects {
		if n := rows(t, other, w.action, subject); n != 1 {
			t.Errorf("%s was moved %d times", subject, n)
		}
	}
	for _, s := range []*instance.Instance{again, other} {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	doctor(t, c)
}

// ran waits until every job has run since a moment.
func ran(t *testing.T, s *instance.Instance, since time.Time) {
	t.Helper()
	type page struct {
		Items []struct {
			Name    string
			LastRun *struct{ StartedDateTimeUtc time.Time }
		}
	}
	for late := time.Now().Add(2 * resumeLimit); ; time.Sleep(50 * time.Millisecond) {
		var all page
		if err := s.Call(t.Context(), http.MethodGet, "/jobs", nil, &all); err != nil {
			t.Fatal(err)
		}
		waiting := ""
		for _, j := range all.Items {
			if j.LastRun == nil || j.LastRun.StartedDateTimeUtc.Before(since) {
				waiting = j.Name
			}
		}
		if waiting == "" && len(all.Items) > 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%q does not run; the server said:\n%s", waiting, s.Log())
		}
	}
}

// rows counts the rows of the ledger with an action and subject.
func rows(t *testing.T, s *instance.Instance, action, subject string) int {
	t.Helper()
	var page struct{ Items []instance.Object }
	query := url.Values{"action": {action}, "subject": {subject}}
	if err := s.Call(t.Context(), http.MethodGet, "/audit?"+query.Encode(), nil, &page); err != nil {
		t.Fatal(err)
	}
	return len(page.Items)
}

// retiringIssuers promotes successors of five issuers, whose overlap is over in a moment.
func retiringIssuers(ctx context.Context, s *instance.Instance) (subjects []string, err error) {
	type issuer struct{ ID, Role string }
	var all struct{ Items []issuer }
	if err := s.Call(ctx, http.MethodGet, "/issuers", nil, &all); err != nil {
		return nil, err
	}
	root := ""
	for _, i := range all.Items {
		if i.Role == "root" {
			root = i.ID
		}
	}
	for n := range 5 {
		profile := fmt.Sprintf("line-%d", n)
		if err := s.Call(ctx, http.MethodPut, "/profiles/"+profile, instance.Object{}, nil); err != nil {
			return nil, err
		}
		var made [2]issuer
		for i := range made {
			err := s.Call(ctx, http.MethodPost, "/issuers", instance.Object{"name": fmt.Sprintf("%s CA %d", profile, i), "parent": root, "profile": profile}, &made[i])
			if err != nil {
				return nil, err
			}
		}
		if err := s.Call(ctx, http.MethodPost, "/issuers/"+made[1].ID+"/promote", instance.Object{"overlap": "PT2S", "force": true}, nil); err != nil {
			return nil, err
		}
		subjects = append(subjects, "issuer:"+made[0].ID)
	}
	return subjects, nil
}
