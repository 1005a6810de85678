package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

func rolls(t *testing.T, open Open) {
	t.Run("what is due is claimed oldest first, with its entry and its roll", claims(open))
	t.Run("whoever claims at once, each is claimed once", claimedOnce(open))
	t.Run("a pair is written over the version that was read, and a due date over any", writtenPairs(open))
	t.Run("a due date alone is never lost to a later one, nor is a mark", dueDates(open))
	t.Run("a roll is kept, replaced and removed", func(t *testing.T) {
		w := newWorld(t, open)
		read := func(tx provisioning.Tx) (provisioning.Roll, error) { return tx.Roll(w.id("dev-1")) }
		absent(w, read)
		roll := provisioning.Roll{ID: w.id("dev-1"), Ref: rotation.Ref{1}, ToldAt: w.now, Stuck: "expired", Since: w.now.Add(time.Hour), Tries: 3}
		for range 2 {
			w.update(func(tx provisioning.Tx) error { return tx.PutRoll(roll) })
			same(w, view(w, read), roll)
			roll = provisioning.Roll{ID: roll.ID, Ref: rotation.Ref{2}}
		}
		for range 2 {
			w.update(func(tx provisioning.Tx) error { return tx.DeleteRoll(roll.ID) })
			absent(w, read)
		}
	})
	t.Run("the certificates of a device that are good", func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		good, revoked, ended, other := w.certificate(i, "dev-1"), w.certificate(i, "dev-1"), w.certificate(i, "dev-1"), w.certificate(i, "dev-2")
		ended.NotAfter = w.now
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, i); err != nil {
				return err
			}
			for _, c := range []ca.Certificate{good, revoked, ended, other} {
				if err := w.record(tx, c); err != nil {
					return err
				}
			}
			revoked.RevokedAt, revoked.Reason = w.now, "superseded"
			if err := tx.MarkRevoked(revoked); err != nil {
				return err
			}
			return tx.Append(w.revoked(revoked))
		})
		list := view(w, func(tx provisioning.Tx) ([]string, error) {
			list, err := tx.GoodCertificates(w.id("dev-1"), w.now)
			var serials []string
			for _, c := range list {
				serials = append(serials, string(c.Serial))
			}
			return serials, err
		})
		same(w, list, []string{string(good.Serial)})
	})
	t.Run("plans count what they moved in an hour", planned(open))
	t.Run("the clock on record is written over what was read", func(t *testing.T) {
		w := newWorld(t, open)
		read := func(tx provisioning.Tx) (rotation.ClockRecord, error) { return tx.ClockRecord() }
		put := func(next, was rotation.ClockRecord) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.PutClockRecord(next, was) }
		}
		var none rotation.ClockRecord
		same(w, view(w, read), none)
		first := rotation.ClockRecord{Last: w.now}
		w.update(put(first, none))
		w.refused(fault.Conflict, "clock-moved", put(first, none))
		next := rotation.ClockRecord{Last: w.now, Jump: rotation.ClockJump{From: w.now, To: w.now.AddDate(1, 0, 0)}, Back: true, Replan: true, Cursor: "dev-1"}
		w.update(put(next, first))
		same(w, view(w, read), next)
		w.refused(fault.Conflict, "clock-moved", put(first, first))
		w.update(put(first, next))
	})
}

// due is a registration of the world that is due a number of minutes from now.
func (w *world) due(device string, o provisioning.Owner, minutes int) provisioning.Registration {
	r := w.registration(device, o)
	r.DueAt = w.now.Add(time.Duration(minutes) * time.Minute)
	return r
}

func claims(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		group := w.entry(w.group("g"), key("k", rotation.Primary))
		group.Profile, group.Enabled = "default", false
		w.enroll(group)
		pair, err := rotation.Pair{}.Stage(rotation.Ref{1}, w.now, w.now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		second := w.due("dev-1", w.group("g"), -1)
		second.Pair, second.Hub, second.DeviceID, second.State = pair, "a.example", "Dev-1", provisioning.Assigned
		first, later, never := w.due("dev-2", provisioning.Owner{}, -2), w.due("dev-3", provisioning.Owner{}, 1), w.registration("dev-4", provisioning.Owner{})
		for _, r := range []provisioning.Registration{second, first, later, never} {
			w.put(r)
		}
		roll := provisioning.Roll{ID: second.ID, Ref: rotation.Ref{1}, ToldAt: w.now, Stuck: "renewal-late", Since: w.now, Tries: 1}
		w.update(func(tx provisioning.Tx) error { return tx.PutRoll(roll) })
		claim := func(now time.Time, limit int) (list []provisioning.RollingPair) {
			w.update(func(tx provisioning.Tx) (err error) {
				list, err = tx.ClaimPairs(now, limit)
				return err
			})
			return list
		}
		orphan := provisioning.RollingPair{ID: first.ID, State: provisioning.Unassigned, Updated: w.now, Version: 1, DueAt: first.DueAt}
		owned := provisioning.RollingPair{
			ID: second.ID, Owner: w.group("g"), State: provisioning.Assigned, Hub: "a.example", DeviceID: "Dev-1", Updated: w.now, Version: 1,
			Pair: pair, DueAt: second.DueAt, Profile: "default", Roll: roll,
		}
		same(w, claim(w.now, 10), []provisioning.RollingPair{orphan, owned})
		same(w, claim(w.now, 1), []provisioning.RollingPair{orphan})
		same(w, claim(w.now.Add(-time.Hour), 10), nil)
		if got := claim(w.now.Add(time.Minute), 10); len(got) != 3 {
			t.Errorf("%d are due a minute later, want 3", len(got))
		}
		for limit, want := range map[int]int64{10: 2, 1: 1} {
			same(w, view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountDue(w.now, limit) }), want)
		}
		var ids []string
		for _, p := range view(w, func(tx provisioning.Tx) ([]provisioning.RollingPair, error) { return tx.Pairs("dev-1", 2) }) {
			ids = append(ids, p.ID.String())
		}
		same(w, ids, []string{"dev-2", "dev-3"})
	}
}

func claimedOnce(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		const devices, page = 40, 3
		for i := range devices {
			w.put(w.due(fmt.Sprintf("dev-%02d", i), provisioning.Owner{}, -i-1))
		}
		var mu sync.Mutex
		claimed := map[string]int{}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					var list []provisioning.RollingPair
					err := w.store.Update(bg, func(tx provisioning.Tx) (err error) {
						if list, err = tx.ClaimPairs(w.now, page); err != nil {
							return err
						}
						for _, p := range list {
							if err := tx.PutDue(p.ID, time.Time{}); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, p := range list {
						claimed[p.ID.String()]++
					}
					done := len(claimed) == devices
					mu.Unlock()
					// What another has claimed is left out, so that nothing may be there for a moment.
					if done {
						return
					}
				}
			})
		}
		all.Wait()
		for id, n := range claimed {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
	}
}

func writtenPairs(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		r := w.due("dev-1", provisioning.Owner{}, -1)
		r.Payload = []byte(`{"a":1}`)
		w.put(r)
		pair, err := rotation.Pair{}.Stage(rotation.Ref{7}, w.now, w.now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		next := provisioning.RollingPair{ID: r.ID, Pair: pair, DueAt: w.now.Add(time.Hour), Updated: w.now.Add(time.Second), Version: 2}
		w.update(func(tx provisioning.Tx) error { return tx.PutPair(next) })
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error { return tx.PutPair(next) })
		read := func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(r.ID) }
		r.Pair, r.DueAt, r.Updated, r.Version = next.Pair, next.DueAt, next.Updated, 2
		same(w, view(w, read), r)
		w.update(func(tx provisioning.Tx) error { return tx.PutDue(r.ID, time.Time{}) })
		r.DueAt = time.Time{}
		same(w, view(w, read), r)
	}
}

// dueDates are in hours from when the registration came; it was last changed after ten.
func dueDates(open Open) func(*testing.T) {
	type step func(tx provisioning.Tx, r provisioning.Registration, at time.Time) error
	makeDue := func(tx provisioning.Tx, r provisioning.Registration, at time.Time) error { return tx.MakeDue(r.ID, at) }
	markLeft := func(tx provisioning.Tx, r provisioning.Registration, at time.Time) error {
		return tx.MarkLeft(r.ID, at)
	}
	postpone := func(tx provisioning.Tx, r provisioning.Registration, at time.Time) error {
		return tx.PostponeRegistration(r.ID, r.DueAt, at)
	}
	putDue := func(tx provisioning.Tx, r provisioning.Registration, at time.Time) error { return tx.PutDue(r.ID, at) }
	const never, longAgo = 0, -1 // longAgo is that of rows of before there were due dates
	return func(t *testing.T) {
		w := newWorld(t, open)
		hours := func(n int) time.Time {
			switch n {
			case never:
				return time.Time{}
			case longAgo:
				return time.UnixMicro(1).UTC()
			}
			return w.now.Add(time.Duration(n) * time.Hour)
		}
		for n, c := range []struct {
			what         string
			do           step
			was, at, due int
			marked       bool
		}{
			{"made due that never was", makeDue, never, 20, 20, false},
			{"made due sooner", makeDue, 30, 20, 20, false},
			{"made due that is sooner already", makeDue, 15, 20, 15, false},
			{"made due that was marked", makeDue, 9, 20, 9, true},
			{"made due that was marked by its last change", makeDue, 10, 20, 10, true},
			{"made due that was marked, by a clock that went back", makeDue, 10, 5, 5, true},
			{"made due that is to be given its date", makeDue, longAgo, 20, longAgo, false},
			{"marked that was never due", markLeft, never, 20, 10, true},
			{"marked that was due later", markLeft, 30, 20, 10, true},
			{"marked that was due sooner", markLeft, 15, 20, 10, true},
			{"marked that was marked", markLeft, 9, 20, 9, true},
			{"marked that is to be given its date", markLeft, longAgo, 20, 10, true},
			{"marked by a clock that went back", markLeft, 30, 5, 5, true},
			{"put off", postpone, 15, 30, 30, false},
			{"put off that was marked", postpone, 9, 30, 9, true},
			{"dated by whoever claimed it", putDue, 15, 30, 30, false},
			{"dated by whoever claimed it for its mark", putDue, 9, 30, 30, false},
			{"never due again", putDue, 9, never, never, false},
		} {
			r := w.registration(fmt.Sprintf("dev-%02d", n), provisioning.Owner{})
			r.Updated, r.DueAt = hours(10), hours(c.was)
			w.put(r)
			w.update(func(tx provisioning.Tx) error { return c.do(tx, r, hours(c.at)) })
			is := view(w, func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(r.ID) })
			marked := provisioning.RollingPair{DueAt: is.DueAt, Updated: is.Updated}.IsMarked()
			if !is.DueAt.Equal(hours(c.due)) || marked != c.marked {
				t.Errorf("%s: due at %s, marked %v, want %s, %v", c.what, is.DueAt, marked, hours(c.due), c.marked)
			}
			is.DueAt = r.DueAt
			same(w, is, r)
		}
		r := w.registration("moved", provisioning.Owner{})
		r.DueAt = hours(1)
		w.put(r)
		off := func(tx provisioning.Tx) error { return postpone(tx, r, hours(3)) }
		w.update(off)
		w.refused(fault.Conflict, "registration-moved", off) // it is due at another time by now
		gone := provisioning.Registration{ID: w.id("gone"), DueAt: hours(1)}
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error { return postpone(tx, gone, hours(3)) })
		w.refused(fault.NotFound, "registration-not-found", func(tx provisioning.Tx) error { return makeDue(tx, gone, hours(3)) })
		w.update(func(tx provisioning.Tx) error { return markLeft(tx, gone, hours(3)) }) // an entry's device may not have come
	}
}

func planned(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		p := provisioning.Plan{
			RotationPlan: policies.RotationPlan{
				Name: "nights", Role: policies.RollDevices, Paused: true, Entries: []string{"g"}, Profiles: []string{"default"},
				Windows: policies.Windows{{Opens: "0 2 * * *", Length: time.Hour, Zone: "Europe/Berlin"}}, MaxPerHour: 7, Jitter: 0.1,
				PrepareAt: 0.5, Overlap: time.Hour, Every: 48 * time.Hour, Deadline: time.Minute, Auto: true, Publish: time.Second,
			},
			Created: w.now, Updated: w.now, Version: 1,
		}
		w.update(func(tx provisioning.Tx) error { return tx.InsertPlan(p) })
		w.refused(fault.Conflict, "plan-exists", func(tx provisioning.Tx) error { return tx.InsertPlan(p) })
		for _, step := range []struct{ hour, n, moved int64 }{{5, 3, 3}, {5, 4, 7}, {5, -2, 5}, {6, 1, 1}, {5, 1, 1}} {
			var inside []provisioning.Plan
			w.update(func(tx provisioning.Tx) (err error) {
				if err := tx.CountMoves("nights", step.hour, step.n); err != nil {
					return err
				}
				inside, err = tx.Plans()
				return err
			})
			p.Hour, p.Moved = step.hour, step.moved
			same(w, inside, []provisioning.Plan{p})
			same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Plan, error) { return tx.Plans() }), inside)
		}
	}
}
