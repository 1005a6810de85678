package provisioning_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// dying is a database that fails at a write, once; 0: never. kept: only after the commit.
type dying struct {
	store.Engine
	at   int
	kept bool
}

var errCrashed = errors.New("the process was killed")

func (b *dying) Update(ctx context.Context, lane store.Lane, f func(store.Conn) error) error {
	dies := false
	err := b.Engine.Update(ctx, lane, func(c store.Conn) error {
		err := f(&dyingConn{c, b, &dies})
		if err == nil && dies && !b.kept {
			err = errCrashed
		}
		return err
	})
	if err == nil && dies {
		err = errCrashed
	}
	return err
}

type dyingConn struct {
	store.Conn
	of   *dying
	dies *bool
}

func (c *dyingConn) Exec(s *store.Stmt, args ...any) error {
	if c.of.at > 0 {
		if c.of.at--; c.of.at == 0 {
			if *c.dies = true; !c.of.kept {
				return errCrashed
			}
		}
	}
	return c.Conn.Exec(s, args...)
}

// INV-D4: whatever write the process ends at, in the act or in what follows it, it is done whole or
// not at all, and what is left undone is done by the next process: with the same result.
func TestADisallowanceSurvivesACrashAtEachOfItsWrites(t *testing.T) {
	t.Parallel()
	atEachWrite(t, disallowBreaking)
}

func TestTheFallOfAnIssuerSurvivesACrashAtEachOfItsWrites(t *testing.T) {
	t.Parallel()
	atEachWrite(t, fallBreaking)
}

// atEachWrite has a process end at each write there is, and wants the state that comes without.
func atEachWrite(t *testing.T, breaking func(t *testing.T, at int, kept bool) (state string, broke bool)) {
	t.Helper()
	want := ""
	for _, kept := range []bool{false, true} {
		for n := 0; ; n++ {
			got, broke := breaking(t, n, kept)
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("after a crash at write %d (kept: %v):\n%s\nwithout:\n%s", n, kept, got, want)
			}
			if n > 0 && !broke {
				if n < 20 {
					t.Errorf("there were %d writes only", n)
				}
				break
			}
		}
	}
}

// line is a factory's line with two devices, on a hub elsewhere, in a database that may die.
func (file *dying) line(t *testing.T) (*world, *testkit.Family, *hubtest.Receiver, provisioning.Enrollment) {
	t.Helper()
	w := newWorldOn(t, file, newBox(t))
	hub := w.linked(elsewhere)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("root"), true)
	return w, f, hub, w.group("line", f.Get("mid"), livingOn(elsewhere))
}

// disallowDying acts in a process that ends at a write, and carries it on in the next.
func (w *world) disallowDying(file *dying, at int, r provisioning.DisallowRequest, untouched func()) (got provisioning.IncidentReport, broke bool) {
	w.t.Helper()
	preview := w.foresees(r).ID
	file.at = at
	i, err := w.engine.Disallow(w.ctx, ann, r, preview)
	if err != nil {
		broke = true
		w.restart()
		w.check()
		if list, err := w.engine.Disallowances(w.ctx, "", 10); err != nil || !file.kept && len(list) != 0 {
			w.t.Fatalf("write %d: half an act is on record: %+v, %v", at, list, err)
		}
		if !file.kept {
			untouched()
			preview = w.foresees(r).ID
		}
		i, err = w.engine.Disallow(w.ctx, ann, r, preview)
		w.must(err)
	}
	for range 8 {
		for _, sweep := range []func() error{
			func() error { _, err := w.engine.SweepIncidents(w.ctx, w.db.ProvisioningJobs()); return err },
			func() error { _, err := w.engine.SweepHubs(w.ctx, w.db.ProvisioningJobs()); return err },
		} {
			if sweep() != nil {
				broke = true
				w.restart()
			}
		}
		w.check()
		w.pass(time.Minute)
	}
	return w.isDone(i.ID), broke
}

func disallowBreaking(t *testing.T, at int, kept bool) (state string, broke bool) {
	t.Helper()
	file := &dying{Engine: newFile(t), kept: kept}
	w, f, hub, line := file.line(t)
	start := w.now()
	for _, name := range []string{"d1", "d2"} {
		w.enrolled(w.presenting(name, f.Get(name).Chain()...))
	}
	w.sweepHubs()
	got, broke := w.disallowDying(file, at, provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw, Since: start}, func() {
		w.assigned(w.presenting("d2", f.Get("d2").Chain()...))
	})
	for _, name := range []string{"d1", "d2"} {
		if _, err := w.register(w.presenting(name, f.Get(name).Chain()...)); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("write %d: %s: %v", at, name, err)
		}
		w.barredAt(hub, name)
	}
	group, err := w.engine.Enrollment(w.ctx, line.Owner)
	w.must(err)
	return fmt.Sprintf("devices %d, revoked %d, hubs %+v, done %v, entries %v, enabled %v, started %d, ended %d, revocations %d",
		got.Devices, got.Revoked, got.Hubs, !got.Done.IsZero(), got.Entries, group.Enabled,
		w.found(audit.Disallowed), w.found(audit.DisallowDone), w.found(audit.Revoked)), broke
}

func fallBreaking(t *testing.T, at int, kept bool) (state string, broke bool) {
	t.Helper()
	file := &dying{Engine: newFile(t), kept: kept}
	w, f, hub, _ := file.line(t)
	leaves := map[string]*x509.Certificate{}
	for _, name := range []string{"d1", "d2"} {
		leaves[name] = w.enrolled(w.presenting(name, f.Get(name).Chain()...))
	}
	w.sweepHubs()
	_, stolen := w.issuers()
	next := w.next(false)
	got, broke := w.disallowDying(file, at, provisioning.DisallowRequest{Certificate: stolen.Certificate, StopsIssuing: true}, func() {
		if w.stateOf(stolen.ID) != ca.IssuerActive {
			t.Errorf("write %d: half a fall is on record", at)
		}
		w.assigned(w.presenting("d1", leaves["d1"]))
	})
	held := 0
	for name, leaf := range leaves {
		w.shutOut(name, w.presenting(name, leaf))
		w.holds(hub, name, f.Get(name).Cert.Raw)
		held += len(w.registration(name).Pair.Live(w.now()))
	}
	return fmt.Sprintf("devices %d, hubs %+v, done %v, issuers %d, %s and %s, held %d, started %d, ended %d, fallen %d, revocations %d",
		got.Devices, got.Hubs, !got.Done.IsZero(), len(got.Issuers), w.stateOf(stolen.ID), w.stateOf(next.ID), held,
		w.found(audit.Disallowed), w.found(audit.DisallowDone), w.found(audit.IssuerRevoked), w.found(audit.Revoked)), broke
}
