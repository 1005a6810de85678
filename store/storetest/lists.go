package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func lists(t *testing.T, open Open) {
	t.Run("entries are listed by kind, in key order, with their credentials", listedEntries(open))
	t.Run("registrations are listed by owner, state, hub and prefix", listedRegistrations(open))
	t.Run("certificates are listed newest first", listedCertificates(open))
	t.Run("the ledger is listed newest first", listedLedger(open))
	t.Run("anchors are listed by name", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "a; b; c")
		for _, name := range []string{"b", "c", "a"} {
			w.anchor(f.Get(name), name == "b")
		}
		names := func(after string, limit int) (out []string) {
			for _, a := range view(w, func(tx provisioning.Tx) ([]verify.TrustAnchor, error) { return tx.Anchors(after, limit) }) {
				out = append(out, fmt.Sprint(a.Name(), " ", a.IsVerified()))
			}
			return out
		}
		same(w, names("", 2), []string{"a false", "b true"})
		same(w, names("b", 2), []string{"c false"})
	})
	t.Run("a page goes on where the last one ended, whatever was inserted meanwhile", stablePages(open))
}

func listedEntries(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		for i, name := range []string{"line-2", "line-10", "line-1", "other"} {
			e := w.entry(w.individual(name), key("1", rotation.Primary), key("2", rotation.Secondary))
			e.Enabled = i != 1
			w.enroll(e)
		}
		w.enroll(w.entry(w.group("line-3"), key("g", rotation.Primary)))
		w.enroll(w.entry(w.group("empty")))
		yes, no := true, false
		for _, c := range []struct {
			filter provisioning.EnrollmentFilter
			want   []string
		}{
			{provisioning.EnrollmentFilter{}, []string{"line-1", "line-10", "line-2", "other"}},
			{provisioning.EnrollmentFilter{Limit: 2}, []string{"line-1", "line-10"}},
			{provisioning.EnrollmentFilter{Limit: 2, After: w.id("line-10")}, []string{"line-2", "other"}},
			{provisioning.EnrollmentFilter{Prefix: "LINE-1"}, []string{"line-1", "line-10"}},
			{provisioning.EnrollmentFilter{Enabled: &no}, []string{"line-10"}},
			{provisioning.EnrollmentFilter{Enabled: &yes, Prefix: "line"}, []string{"line-1", "line-2"}},
			{provisioning.EnrollmentFilter{Kind: provisioning.Group}, []string{"empty", "line-3"}},
			{provisioning.EnrollmentFilter{Kind: provisioning.Group, Role: provisioning.RoleKey}, []string{"line-3"}},
			{provisioning.EnrollmentFilter{Role: provisioning.RoleClient}, nil},
		} {
			page := view(w, func(tx provisioning.Tx) ([]provisioning.Enrollment, error) { return tx.Enrollments(c.filter) })
			var got []string
			for _, e := range page {
				got = append(got, e.ID.String())
				if want := map[provisioning.Kind]int{provisioning.Individual: 2, provisioning.Group: 1}[e.Kind]; len(e.Credentials) != want && e.ID.String() != "empty" {
					t.Errorf("%s has %d credentials, want %d", e.Owner, len(e.Credentials), want)
				}
			}
			same(w, got, c.want)
		}
	}
}

func listedRegistrations(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		w.enroll(w.entry(w.group("g"), key("k", rotation.Primary)))
		for _, r := range []provisioning.Registration{
			w.assigned("b-1", "a.example", "b-1", w.group("g")), w.registration("b-2", w.group("g")),
			w.assigned("a-1", "b.example", "a-1", provisioning.Owner{}),
		} {
			w.put(r)
		}
		for _, c := range []struct {
			filter provisioning.RegistrationFilter
			want   []string
		}{
			{provisioning.RegistrationFilter{}, []string{"a-1", "b-1", "b-2"}},
			{provisioning.RegistrationFilter{After: w.id("a-1"), Limit: 1}, []string{"b-1"}},
			{provisioning.RegistrationFilter{Prefix: "b"}, []string{"b-1", "b-2"}},
			{provisioning.RegistrationFilter{Owner: w.group("g")}, []string{"b-1", "b-2"}},
			{provisioning.RegistrationFilter{Owner: w.individual("g")}, nil},
			{provisioning.RegistrationFilter{Owner: w.group("g"), State: provisioning.Assigned}, []string{"b-1"}},
			{provisioning.RegistrationFilter{Hub: "b.example"}, []string{"a-1"}},
			{provisioning.RegistrationFilter{Orphaned: true}, []string{"a-1"}},
			{provisioning.RegistrationFilter{Orphaned: true, Hub: "a.example"}, nil},
		} {
			var got []string
			for _, r := range view(w, func(tx provisioning.Tx) ([]provisioning.Registration, error) { return tx.Registrations(c.filter) }) {
				got = append(got, r.ID.String())
			}
			same(w, got, c.want)
		}
		for _, c := range []struct {
			filter provisioning.RegistrationFilter
			want   []provisioning.HubCount
		}{
			{provisioning.RegistrationFilter{Limit: 1}, []provisioning.HubCount{{Hub: "", Devices: 1}, {Hub: "a.example", Devices: 1}, {Hub: "b.example", Devices: 1}}},
			{provisioning.RegistrationFilter{Orphaned: true}, []provisioning.HubCount{{Hub: "b.example", Devices: 1}}},
			{provisioning.RegistrationFilter{Owner: w.individual("g")}, nil},
		} {
			same(w, view(w, func(tx provisioning.Tx) ([]provisioning.HubCount, error) { return tx.CountRegistrations(c.filter) }), c.want)
		}
	}
}

func listedCertificates(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		all := []ca.Certificate{w.certificate(i, "dev-1"), w.certificate(i, "dev-2"), w.certificate(i, "dev-1"), w.certificate(i, "dev-3")}
		all[3].NotAfter = w.now.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, i); err != nil {
				return err
			}
			for _, c := range all {
				if err := w.record(tx, c); err != nil {
					return err
				}
			}
			revoked := all[1]
			revoked.RevokedAt, revoked.Reason = w.now, "superseded"
			return tx.MarkRevoked(revoked)
		})
		yes, no := true, false
		for _, c := range []struct {
			filter provisioning.CertificateFilter
			want   []int
		}{
			{provisioning.CertificateFilter{}, []int{3, 2, 1, 0}},
			{provisioning.CertificateFilter{Limit: 1, Before: 4}, []int{2}},
			{provisioning.CertificateFilter{RegistrationID: w.id("dev-1")}, []int{2, 0}},
			{provisioning.CertificateFilter{Serial: all[1].Serial}, []int{1}},
			{provisioning.CertificateFilter{Issuer: "00000000000000aa"}, nil},
			{provisioning.CertificateFilter{Thumbprint: all[2].Thumbprint}, []int{2}},
			{provisioning.CertificateFilter{ExpiresBefore: w.now.Add(2 * time.Hour)}, []int{3}},
			{provisioning.CertificateFilter{Revoked: &yes}, []int{1}},
			{provisioning.CertificateFilter{Revoked: &no}, []int{3, 2, 0}},
		} {
			var got, want []ca.Serial
			for _, found := range view(w, func(tx provisioning.Tx) ([]ca.Certificate, error) { return tx.Certificates(c.filter) }) {
				got = append(got, found.Serial)
			}
			for _, n := range c.want {
				want = append(want, all[n].Serial)
			}
			same(w, got, want)
		}
	}
}

func listedLedger(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		for i := range 5 {
			w.update(func(tx provisioning.Tx) error {
				return tx.Append(audit.Event{At: w.now.Add(time.Duration(i)), Actor: fmt.Sprintf("operator:%d", i%2), Action: audit.ActRefused, Subject: fmt.Sprintf("s%d", i), Body: []byte(`{"n":1}`)})
			})
		}
		read := func(f provisioning.LedgerFilter) (got []string) {
			for _, e := range view(w, func(tx provisioning.Tx) ([]audit.Entry, error) { return tx.LedgerEntries(f) }) {
				got = append(got, e.Subject)
				if string(e.Body) != `{"n":1}` || e.Seq == 0 {
					t.Errorf("entry %+v", e)
				}
			}
			return got
		}
		same(w, read(provisioning.LedgerFilter{}), []string{"s4", "s3", "s2", "s1", "s0"})
		same(w, read(provisioning.LedgerFilter{Before: 4, Limit: 2}), []string{"s2", "s1"})
		same(w, read(provisioning.LedgerFilter{Actor: "operator:1"}), []string{"s3", "s1"})
		same(w, read(provisioning.LedgerFilter{Subject: "s2", Action: audit.ActRefused}), []string{"s2"})
		same(w, read(provisioning.LedgerFilter{Action: audit.Issued}), nil)
	}
}

func stablePages(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		for i := 0; i < 20; i += 2 {
			w.put(w.registration(fmt.Sprintf("dev-%02d", i), provisioning.Owner{}))
		}
		var seen []string
		var after verify.RegistrationID
		for {
			page := view(w, func(tx provisioning.Tx) ([]provisioning.Registration, error) {
				return tx.Registrations(provisioning.RegistrationFilter{After: after, Limit: 3})
			})
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				seen = append(seen, r.ID.String())
			}
			after = page[len(page)-1].ID
			w.put(w.registration(fmt.Sprintf("a-%02d", len(seen)), provisioning.Owner{})) // behind the page
		}
		var want []string
		for i := 0; i < 20; i += 2 {
			want = append(want, fmt.Sprintf("dev-%02d", i))
		}
		same(w, seen, want)
	}
}
