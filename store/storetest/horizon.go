package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// horizon is what is read to see renewals and ends coming.
func horizon(t *testing.T, open Open) {
	t.Run("what is due comes soonest first, and what never is does not", func(t *testing.T) {
		w := newWorld(t, open)
		w.update(func(tx provisioning.Tx) error {
			for n, hours := range []int{3, 1, 0, 2, 9} {
				reg := w.registration(fmt.Sprintf("dev-%d", n), provisioning.Owner{})
				if hours > 0 {
					reg.DueAt = w.now.Add(time.Duration(hours) * time.Hour)
				}
				if err := tx.PutRegistration(reg); err != nil {
					return err
				}
			}
			return nil
		})
		due := func(hours, limit int) (names []string) {
			for _, reg := range view(w, func(tx provisioning.Tx) ([]provisioning.Registration, error) {
				return tx.NextRegistrations(w.now.Add(time.Duration(hours)*time.Hour), limit)
			}) {
				names = append(names, reg.ID.String())
			}
			return names
		}
		for _, c := range []struct {
			hours, limit int
			want         []string
		}{{0, 9, nil}, {1, 9, []string{"dev-1"}}, {5, 9, []string{"dev-1", "dev-3", "dev-0"}}, {5, 2, []string{"dev-1", "dev-3"}}} {
			if got := due(c.hours, c.limit); !slices.Equal(got, c.want) {
				t.Errorf("within %d hours, at most %d: %q, want %q", c.hours, c.limit, got, c.want)
			}
		}
		w.update(func(tx provisioning.Tx) error { return tx.MakeDue(w.id("dev-2"), w.now) })
		if got := due(0, 9); !slices.Equal(got, []string{"dev-2"}) {
			t.Errorf("made due: %q", got)
		}
		w.refused(fault.NotFound, "registration-not-found", func(tx provisioning.Tx) error { return tx.MakeDue(w.id("gone"), w.now) })
	})
	t.Run("entries are due with their credentials, and are counted with registrations", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid")
		for n, name := range []string{"line-2", "line-1", "line-3"} {
			e := w.entry(w.group(name), signing(f.Get("mid"), rotation.Primary))
			e.DueAt = w.now.Add(time.Duration(n) * time.Hour)
			w.enroll(e)
		}
		one := w.entry(w.individual("dev-1"))
		one.DueAt = w.now
		w.enroll(one)
		got := view(w, func(tx provisioning.Tx) ([]provisioning.Enrollment, error) {
			return tx.NextEntries(w.now.Add(time.Hour), 9)
		})
		var names []string
		for _, e := range got {
			names = append(names, fmt.Sprintf("%s with %d", e.Owner, len(e.Credentials)))
		}
		if want := []string{"enrollment dev-1 with 0", "group line-2 with 1", "group line-1 with 1"}; !slices.Equal(names, want) {
			t.Errorf("due: %q, want %q", names, want)
		}
		w.update(func(tx provisioning.Tx) error {
			reg := w.registration("dev-2", provisioning.Owner{})
			reg.DueAt = w.now
			if err := tx.PutRegistration(reg); err != nil {
				return err
			}
			return tx.MakeEntryDue(w.group("line-3"), w.now)
		})
		count := func(limit int) int64 {
			return view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountAllDue(w.now, limit) })
		}
		if a, b := count(9), count(1); a != 4 || b != 2 {
			t.Errorf("%d are due, counted up to one each %d; want 4 and 2", a, b)
		}
		w.refused(fault.NotFound, "enrollment-not-found", func(tx provisioning.Tx) error { return tx.MakeEntryDue(w.group("gone"), w.now) })
	})
	t.Run("every registration is surveyed, with the profile of its entry", func(t *testing.T) {
		w := newWorld(t, open)
		e := w.entry(w.group("line-1"))
		e.Profile = "gate"
		w.enroll(e)
		active := rotation.Cell{Ref: rotation.Ref{1}, State: rotation.Active, NotBefore: w.now, NotAfter: w.now.Add(time.Hour)}
		staged := rotation.Cell{Ref: rotation.Ref{2}, State: rotation.Staged, NotBefore: w.now, NotAfter: w.now.Add(2 * time.Hour)}
		pair, err := rotation.RestorePair(active, staged)
		if err != nil {
			t.Fatal(err)
		}
		w.update(func(tx provisioning.Tx) error {
			a, b := w.registration("dev-1", w.group("line-1")), w.registration("dev-2", provisioning.Owner{})
			a.Pair = pair
			if err := tx.PutRegistration(a); err != nil {
				return err
			}
			return tx.PutRegistration(b)
		})
		active.Ref, staged.Ref = rotation.Ref{}, rotation.Ref{}
		dates, err := rotation.RestorePair(active, staged)
		if err != nil {
			t.Fatal(err)
		}
		want := []provisioning.SurveyedDevice{{ID: w.id("dev-1"), Pair: dates, Profile: "gate"}, {ID: w.id("dev-2")}}
		survey := func(after verify.RegistrationID, limit int) []provisioning.SurveyedDevice {
			return view(w, func(tx provisioning.Tx) ([]provisioning.SurveyedDevice, error) {
				return tx.SurveyedDevices(after, limit)
			})
		}
		same(w, survey(verify.RegistrationID{}, 9), want)
		same(w, survey(verify.RegistrationID{}, 1), want[:1])
		same(w, survey(w.id("dev-1"), 9), want[1:])
	})
	t.Run("the last survey is kept", func(t *testing.T) {
		w := newWorld(t, open)
		last := func(tx provisioning.Tx) (provisioning.Survey, error) { return tx.Survey() }
		absent(w, last)
		s := provisioning.Survey{At: w.now, Took: time.Second, Roles: []provisioning.RoleSurvey{
			{Role: provisioning.ExpiryDevices, Total: 9, Endless: 1, Ended: 2, Later: 3, Within: [4]int64{1, 2, 3, 4}, Soonest: w.now, Weeks: []provisioning.WeekSurvey{{Begins: w.now, Ending: 5, Succeeded: 6, Renewals: 7}}},
			{Role: provisioning.ExpiryKeys},
		}}
		w.update(func(tx provisioning.Tx) error { return tx.PutSurvey(provisioning.Survey{At: w.now}) })
		w.update(func(tx provisioning.Tx) error { return tx.PutSurvey(s) })
		same(w, view(w, last), s)
	})
	t.Run("nothing is stuck where nothing was looked at", func(t *testing.T) {
		w := newWorld(t, open)
		if got := view(w, func(tx provisioning.Tx) ([]provisioning.ReasonCount, error) { return tx.StuckReasons() }); len(got) > 0 {
			t.Errorf("stuck: %+v", got)
		}
		if got := view(w, func(tx provisioning.Tx) ([]provisioning.StuckDevice, error) {
			return tx.StuckDevices("renewal-late", verify.RegistrationID{}, 9)
		}); len(got) > 0 {
			t.Errorf("stuck: %+v", got)
		}
	})
}
