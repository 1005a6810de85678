package provisioning_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// sweep does all that is due.
func (w *world) sweep() {
	w.t.Helper()
	for range 1000 {
		more, err := w.engine.SweepRegistrations(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
		if !more {
			w.check()
			return
		}
	}
	w.t.Fatal("the sweep does not end")
}

// sql runs a statement on what is stored.
func (w *world) sql(text string) {
	w.t.Helper()
	w.must(w.file.Update(w.ctx, store.Devices, func(c store.Conn) error {
		return c.Exec(&store.Stmt{Text: text, Numbered: text})
	}))
}

// device reads one with its roll.
func (w *world) device(name string) provisioning.Device {
	w.t.Helper()
	d, err := w.engine.Device(w.ctx, id(w, name))
	w.must(err)
	return d
}

// revoked is why a certificate is revoked, "" when it is not.
func (w *world) revoked(c *x509.Certificate) ca.Reason {
	w.t.Helper()
	cert, err := w.engine.Certificate(w.ctx, "", serial(c))
	w.must(err)
	return cert.Reason
}

// reasons are those of the ledger's rows of an action about a device, oldest first.
func (w *world) reasons(action audit.Action, name string) string {
	w.t.Helper()
	list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: action, Subject: "registration:" + name})
	w.must(err)
	var out []string
	for _, e := range list {
		var body struct{ Reason string }
		w.must(json.Unmarshal(e.Body, &body))
		out = append([]string{body.Reason}, out...)
	}
	return strings.Join(out, " ")
}

func (w *world) rolled(name string, want map[audit.Action]string) {
	w.t.Helper()
	for _, action := range []audit.Action{audit.RollTold, audit.RollStuck, audit.RollRetired, audit.RollDropped} {
		if got := w.reasons(action, name); got != want[action] {
			w.t.Errorf("%s: %q, want %q", action, got, want[action])
		}
	}
}

// renew has a device renew over EST with a certificate of its own.
func (w *world) renew(name string, leaf *x509.Certificate) *x509.Certificate {
	w.t.Helper()
	op, err := w.engine.Register(w.ctx, w.renewing(name, leaf))
	w.must(err)
	w.check()
	next, err := x509.ParseCertificate(op.Chain[0])
	w.must(err)
	return next
}

func thumbprints(certs ...*x509.Certificate) (out [2]string) {
	for i, c := range certs {
		out[i] = strings.ToUpper(verify.ThumbprintOf(c.Raw).String())
	}
	return out
}

// H1, H5: the leaf rolls; the hub has both through the overlap, and at no second is the
// device without an accepted one. Ten times, from one slot to the other.
func TestALeafRollsBackAndForth(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", leaf))
	const rolls = 10
	issued := w.issued()
	for range rolls {
		w.pass(61 * day)
		w.sweep()
		next := w.renew("d1", leaf)
		w.assigned(w.presenting("d1", leaf)) // it has not got round to the new one
		w.sweep()
		w.assigned(w.presenting("d1", next))
		w.pass(24*time.Hour - time.Second)
		w.sweep()
		if got := w.onHub("d1").Auth.Thumbprints; got != thumbprints(next, leaf) {
			t.Fatalf("the hub has %v through the overlap", got)
		}
		w.assigned(w.presenting("d1", leaf))
		w.pass(time.Second)
		w.sweep()
		if got := w.onHub("d1").Auth.Thumbprints; got != thumbprints(next) {
			t.Fatalf("the hub has %v afterwards", got)
		}
		if got := w.revoked(leaf); got != ca.Superseded {
			t.Fatalf("the old one is revoked as %q", got)
		}
		w.refused(w.presenting("d1", leaf), "certificate-revoked")
		w.assigned(w.presenting("d1", next))
		if w.revoked(next) != "" {
			t.Fatal("the new one is revoked")
		}
		leaf = next
	}
	w.rolled("d1", map[audit.Action]string{audit.RollRetired: strings.TrimSpace(strings.Repeat("overlap-over ", rolls))})
	if got := w.issued() - issued; got != rolls {
		t.Errorf("%d renewals issued, want %d", got, rolls)
	}
}

// What made room in a full pair, or went with it, is refused at once, and on the next CRL
// after the sweep.
func TestWhatLeftAPairIsSuperseded(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", first))
	lost := w.renew("d1", first)
	w.pass(time.Hour)
	next := w.renew("d1", first)
	w.refused(w.presenting("d1", lost), "certificate-not-standing")
	w.assigned(w.presenting("d1", next)) // before the sweep: the due date is not lost
	w.sweep()
	if w.revoked(lost) != ca.Superseded || w.revoked(first) != "" || w.revoked(next) != "" {
		t.Errorf("lost %q, first %q, next %q", w.revoked(lost), w.revoked(first), w.revoked(next))
	}
	w.rolled("d1", map[audit.Action]string{audit.RollDropped: "replaced"})
	rows := w.rows()
	w.pass(time.Hour)
	w.sweep()
	if w.rows() != rows {
		t.Error("a second sweep wrote to the ledger")
	}
}

// A certificate of ours that an entry pins is that entry's credential, whatever became of
// it in the pair.
func TestWhatAnEntryPinsIsNotSuperseded(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", first))
	w.pass(61 * day)
	next := w.renew("d1", first)
	w.assigned(w.presenting("d1", next))
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleClient, Slots: [2]provisioning.SlotDraft{{Certificate: first.Raw}}})
	w.pass(25 * time.Hour)
	w.sweep()
	if got := w.revoked(first); got != "" {
		t.Errorf("it is revoked as %q", got)
	}
	w.rolled("d1", map[audit.Action]string{audit.RollRetired: "overlap-over"})
	w.assigned(w.presenting("d1", first))
}

// H10: a device that is late is told once, is stuck later, and keeps its slot.
func TestADeviceThatDoesNotComeIsToldAndThenStuck(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	_, err = w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "d1"), Desired: []byte(`{"rate":5,"muster":{"mine":1}}`)}, provisioning.Precondition{})
	w.must(err)
	steps := []struct {
		days        int
		told, stuck string
		now         string // listed as stuck
	}{
		{69, "", "", ""},
		{71, "renewal-late", "", ""},
		{75, "renewal-late", "", ""},
		{81, "renewal-late", "renewal-late", "renewal-late"},
		{85, "renewal-late", "renewal-late", "renewal-late"},
		{91, "renewal-late", "renewal-late expired", "expired"},
		{400, "renewal-late", "renewal-late expired", "expired"},
	}
	start := w.clock
	for _, s := range steps {
		w.clock = start.AddDate(0, 0, s.days)
		w.sweep()
		w.sweep()
		w.rolled("d1", map[audit.Action]string{audit.RollTold: s.told, audit.RollStuck: s.stuck})
		d := w.device("d1")
		if got := d.Roll; (got == nil) != (s.told == "") || got != nil && got.Stuck != s.now {
			t.Fatalf("day %d: %+v, want stuck %q", s.days, got, s.now)
		}
		if d.Pair.Cell(rotation.Primary).Ref != rotation.Ref(verify.ThumbprintOf(leaf.Raw)) {
			t.Fatalf("day %d: it lost its slot", s.days)
		}
		advice := fmt.Sprintf(`{"muster":{"mine":1,"renew":{"by":%q,"reason":"renewal-late"}},"rate":5}`, leaf.NotAfter.Format(time.RFC3339))
		if s.told == "" {
			advice = `{"muster":{"mine":1},"rate":5}`
		}
		if got := w.twin("d1").Desired; !bytes.Equal(got, []byte(advice)) {
			t.Fatalf("day %d: desired properties %s, want %s", s.days, got, advice)
		}
	}
	if due := w.device("d1").DueAt; !due.IsZero() {
		t.Errorf("it is looked at again at %s", due)
	}
	// It comes after all, with what first attested it.
	next, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", next))
	w.sweep()
	w.pass(day)
	w.sweep()
	if d := w.device("d1"); d.Roll != nil {
		t.Errorf("it is listed still: %+v", d.Roll)
	}
	if got := w.twin("d1").Desired; string(got) != `{"muster":{"mine":1},"rate":5}` {
		t.Errorf("desired properties %s", got)
	}
}

// One that fetched its new certificate and does not use it is another matter.
func TestASuccessorThatIsNotUsed(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	w.pass(61 * day)
	w.renew("d1", leaf)
	w.pass(10 * day)
	w.sweep()
	w.rolled("d1", map[audit.Action]string{audit.RollTold: "not-cut-over"})
	w.pass(10 * day)
	w.sweep()
	w.assigned(w.presenting("d1", leaf)) // both stand
	w.pass(49 * day)                     // a device that uses it might be silent until now
	w.sweep()
	w.rolled("d1", map[audit.Action]string{audit.RollTold: "not-cut-over"})
	w.pass(3 * day)
	w.sweep()
	w.rolled("d1", map[audit.Action]string{audit.RollTold: "not-cut-over", audit.RollStuck: "not-cut-over"})
}

// What cannot go on is listed with the reason, is not told, and is said once.
func TestWhyARollDoesNotGoOn(t *testing.T) {
	t.Parallel()
	for reason, hinder := range map[string]func(w *world){
		"enrollment-disabled": func(w *world) { w.enable(w.registration("d1").Owner, false) },
		"registration-orphaned": func(w *world) {
			w.must(w.engine.Delete(w.ctx, ann, w.registration("d1").Owner, provisioning.Precondition{Any: true}))
		},
		"no-issuing-profile": func(w *world) {
			w.put(provisioning.Group, "g", provisioning.Attestation{Role: provisioning.RoleKey}, func(d *provisioning.Draft) { d.Profile = "" })
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w, device := factory(t)
			_, err := w.enroll(device)
			w.must(err)
			w.pass(time.Hour)
			hinder(w)
			for range 10 {
				w.pass(8 * day)
				w.sweep()
			}
			w.rolled("d1", map[audit.Action]string{audit.RollStuck: reason})
			if d := w.device("d1"); d.Roll == nil || d.Roll.Stuck != reason || !d.Roll.ToldAt.IsZero() || d.Twin != nil {
				t.Errorf("%+v, twin %v", d.Roll, d.Twin)
			}
		})
	}
}

// H12 and the drawer: the last one stays whatever the sweep does, and comes back within
// the grace over EST; a factory certificate brings the device back at any time.
func TestADeviceFromTheDrawerAfterTheSweep(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		prepare func(w *world, leaf *x509.Certificate)
		late    time.Duration
		rule    string // of the refusal; "": it renews
	}{
		"within the grace": {nil, 29 * day, ""},
		"after it":         {nil, 31 * day, "leaf-expired"},
		"never after a revocation": {func(w *world, leaf *x509.Certificate) {
			w.must(second(w.engine.Revoke(w.ctx, ann, "", serial(leaf), ca.Unspecified)))
		}, day, "certificate-revoked"},
		"never with a key that is disallowed": {func(w *world, leaf *x509.Certificate) {
			w.must(second(w.engine.Revoke(w.ctx, ann, "", serial(leaf), ca.KeyCompromise)))
		}, day, "certificate-revoked"},
		"never while its entry is disabled":   {func(w *world, _ *x509.Certificate) { w.enable(w.registration("d1").Owner, false) }, day, "enrollment-disabled"},
		"with the one it had not used before": {func(w *world, leaf *x509.Certificate) {}, 29 * day, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, device := factory(t)
			w.grace(30 * day)
			leaf, err := w.enroll(device)
			w.must(err)
			if strings.Contains(name, "not used") {
				w.pass(60 * day)
				leaf = w.renew("d1", leaf)
			}
			if tt.prepare != nil {
				tt.prepare(w, leaf)
			}
			for w.clock.Before(leaf.NotAfter.Add(tt.late)) {
				w.pass(6 * time.Hour)
				w.sweep()
			}
			if tt.rule != "" {
				w.turnedAway(w.renewing("d1", leaf), tt.rule)
			} else {
				w.assigned(w.presenting("d1", w.renew("d1", leaf)))
			}
			if name == "never while its entry is disabled" {
				w.enable(w.registration("d1").Owner, true)
			}
			next, err := w.enroll(device)
			w.must(err)
			w.assigned(w.presenting("d1", next))
			w.sweep()
			w.assigned(w.presenting("d1", next))
		})
	}
}

func second[T any](_ T, err error) error { return err }

// H9, in small: certificates of a day, renewed by the device, for ninety days.
func TestDailyCertificatesForNinetyDays(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	w.profile(func(p *policies.Profile) {
		p.Lifetime, p.Renewal = day, policies.RotationPolicy{PrepareAt: 0.75, Overlap: time.Hour}
	})
	leaf, err := w.enroll(device)
	w.must(err)
	renewals := 0
	for range 90 * 8 {
		w.pass(3 * time.Hour)
		if w.clock.Sub(leaf.NotBefore) >= 18*time.Hour {
			leaf = w.renew("d1", leaf)
			renewals++
		}
		if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.presenting("d1", leaf)}); err != nil {
			t.Fatalf("at %s: %v", w.clock, err)
		}
		if _, err := w.engine.SweepRegistrations(w.ctx, w.db.ProvisioningJobs()); err != nil {
			t.Fatal(err)
		}
	}
	if renewals < 110 || renewals > 125 {
		t.Errorf("%d certificates in ninety days", renewals)
	}
	w.pass(3 * time.Hour)
	w.sweep()
	no := false
	good, err := w.engine.Certificates(w.ctx, provisioning.CertificateFilter{RegistrationID: id(w, "d1"), Revoked: &no})
	w.must(err)
	live := 0
	for _, c := range good {
		if c.NotAfter.After(w.clock) {
			live++
		}
	}
	if live > 2 {
		t.Errorf("%d certificates are good", live)
	}
	w.rolled("d1", map[audit.Action]string{audit.RollRetired: strings.TrimSpace(strings.Repeat("overlap-over ", renewals))})
}

// Rows of before there were due dates get theirs, and no more than is due is done.
func TestAnUpgradeOnlySetsDates(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", first))
	w.renew("d1", first)
	w.pass(time.Hour)
	w.renew("d1", first) // the one before is out of the pair
	w.sql("UPDATE registrations SET due_at = 1")
	before, rows := w.registration("d1"), w.rows()
	w.sweep()
	after := w.registration("d1")
	if w.rows() != rows || after.Version != before.Version || after.Pair != before.Pair {
		t.Errorf("%d rows in the ledger, %d before; %+v", w.rows(), rows, after)
	}
	if late := before.Pair.Due(policies.DefaultRotationPolicy()); after.DueAt.Before(late) || after.DueAt.Sub(late) > time.Hour {
		t.Errorf("due at %s, want %s", after.DueAt, late)
	}
}

func TestAnEmptyPairIsNeverDue(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	w.assigned(device)
	if due := w.registration("d1").DueAt; !due.IsZero() {
		t.Errorf("due at %s", due)
	}
	w.sweep()
	if got := w.found(audit.RollStuck) + w.found(audit.RollTold); got != 0 {
		t.Errorf("%d rows of rolls", got)
	}
}
