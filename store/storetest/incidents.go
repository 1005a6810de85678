package storetest

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func (w *world) incident(id string, e *testkit.Entity) provisioning.Incident {
	return provisioning.Incident{
		ID: id, Scope: provisioning.DisallowBelow, Reason: "cACompromise", Subject: e.Cert.Subject.String(), Certificate: e.Cert.Raw,
		Since: w.now.Add(-time.Hour), Actor: "operator:ann", Created: w.now,
		Entries: []provisioning.EntryEffect{{Owner: w.group("line"), Act: provisioning.SlotEmptied, Slot: rotation.Secondary}},
		Issuers: []ca.IssuerID{"00000000000000a1", "00000000000000b2"},
	}
}

// incidents are disallowances with what came of them.
func incidents(t *testing.T, open Open) {
	begin := func(w *world, i provisioning.Incident) {
		w.Helper()
		w.update(func(tx provisioning.Tx) error {
			row := provisioning.Disallowance{ID: i.ID, Incident: i.ID, Reason: i.Reason, Actor: i.Actor, Created: i.Created,
				Digest: verify.ThumbprintOf(i.Certificate), Certificate: i.Certificate, Subject: verify.NameHash(w.subjectOf(i))}
			if err := tx.InsertIncident(i); err != nil {
				return err
			}
			if err := tx.InsertDisallowance(row); err != nil {
				return err
			}
			return tx.Append(w.note(audit.Disallowed, "disallowance:"+i.ID))
		})
	}
	read := func(w *world, id string) provisioning.Incident {
		w.Helper()
		return view(w, func(tx provisioning.Tx) (provisioning.Incident, error) { return tx.Incident(id) })
	}
	t.Run("an incident is read back, moves once from where it was, and ends what it disallows when it is lifted", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid > d1")
		a, b := w.incident("01", f.Get("mid")), w.incident("02", f.Get("root"))
		b.Entries, b.Issuers, b.Since = nil, nil, time.Time{}
		begin(w, a)
		begin(w, b)
		same(w, read(w, "01"), a)
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Incident, error) { return tx.Incidents("", 9) }), []provisioning.Incident{b, a})
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Incident, error) { return tx.Incidents("02", 9) }), []provisioning.Incident{a})
		w.refused(fault.NotFound, "disallowance-not-found", func(tx provisioning.Tx) error { _, err := tx.Incident("03"); return err })
		inForce := func() string {
			w.Helper()
			return view(w, func(tx provisioning.Tx) (string, error) { return tx.IncidentInForce(a.Scope, a.Certificate) })
		}
		same(w, inForce(), "01")

		next := a
		next.Cursor, next.Devices, next.Revoked, next.Passed = "dev-7", 7, 3, w.now.Add(time.Minute)
		w.update(func(tx provisioning.Tx) error { return tx.MoveIncident(a, next) })
		same(w, read(w, "01"), next)
		w.refused(fault.Conflict, "incident-moved", func(tx provisioning.Tx) error { return tx.MoveIncident(a, next) })
		done := next
		done.Done = w.now.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error { return tx.MoveIncident(next, done) })
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Incident, error) { return tx.OpenIncidents() }), []provisioning.Incident{b})

		lifted := done
		lifted.LiftedAt, lifted.LiftedBy, lifted.Done = w.now.Add(2*time.Hour), "operator:bob", time.Time{}
		w.update(func(tx provisioning.Tx) error {
			if err := tx.LiftDisallowances("01", lifted.LiftedAt); err != nil {
				return err
			}
			return tx.MoveIncident(done, lifted)
		})
		same(w, read(w, "01"), lifted)
		same(w, inForce(), "")
		again := w.incident("04", f.Get("mid")) // what was lifted may be disallowed anew
		begin(w, again)
	})
	t.Run("a certificate is found wherever it is on record", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid > d1; root > blocked; root > nowhere")
		w.anchor(f.Get("root"), true)
		w.enroll(w.entry(w.group("line"), signing(f.Get("mid"), rotation.Primary)))
		w.enroll(w.entry(w.individual("d1"), pin(f.Get("d1"), rotation.Primary)))
		begin(w, w.incident("01", f.Get("blocked")))
		for _, name := range []string{"root", "mid", "d1", "blocked"} {
			cert := f.Get(name).Cert.Raw
			same(w, view(w, func(tx provisioning.Tx) ([]byte, error) { return tx.KnownCertificate(verify.ThumbprintOf(cert)) }), cert)
		}
		w.refused(fault.NotFound, "certificate-unknown", func(tx provisioning.Tx) error {
			_, err := tx.KnownCertificate(verify.ThumbprintOf(f.Get("nowhere").Cert.Raw))
			return err
		})
		name := verify.NameHash(f.Get("root").Cert.RawSubject)
		same(w, view(w, func(tx provisioning.Tx) ([][]byte, error) { return tx.HeldCAsNamed(name) }), [][]byte{f.Get("root").Cert.Raw})
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Owner, error) {
			return tx.EntriesSignedBy(name, provisioning.Group, 9)
		}), []provisioning.Owner{w.group("line")})
		mid := verify.NameHash(f.Get("mid").Cert.RawSubject)
		same(w, view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountEntriesSignedBy(mid, provisioning.Individual) }), 1)
	})
	t.Run("registrations are found by the issuer of ours whose leaf they hold, and which of them is revoked", func(t *testing.T) {
		w := newWorld(t, open)
		one, other := w.issuer(1), w.issuer(2)
		other.Profile = "other"
		leaf, second, pinned, gone := w.certificate(one, "d1"), w.certificate(other, "d1"), w.certificate(one, "d2"), w.certificate(one, "d3")
		w.update(func(tx provisioning.Tx) error {
			return errors.Join(w.create(tx, one), w.create(tx, other), w.record(tx, leaf), w.record(tx, second), w.record(tx, pinned), w.record(tx, gone))
		})
		both := w.assigned("d1", "a.example.net", "d1", provisioning.Owner{})
		var err error
		both.Pair, err = rotation.RestorePair(rotation.Cell{Ref: rotation.Ref(leaf.Thumbprint), State: rotation.Active}, rotation.Cell{Ref: rotation.Ref(second.Thumbprint), State: rotation.Staged})
		if err != nil {
			t.Fatal(err)
		}
		shown := w.assigned("d2", "b.example.net", "d2", provisioning.Owner{})
		shown.Leaf = pinned.Thumbprint
		w.put(both)
		w.put(shown)
		w.put(w.assigned("d3", "b.example.net", "d3", provisioning.Owner{})) // it holds it no more
		of := func(ids ...ca.IssuerID) provisioning.RestsOn {
			return provisioning.RestsOn{Digests: [][32]byte{{1}}, Issuers: ids}
		}
		hub := func(name string) provisioning.HubCount { return provisioning.HubCount{Hub: name, Devices: 1} }
		counted := func(on provisioning.RestsOn) []provisioning.HubCount {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]provisioning.HubCount, error) { return tx.CountRestingOn(on) })
		}
		same(w, counted(of(one.ID)), []provisioning.HubCount{hub("a.example.net"), hub("b.example.net")})
		same(w, counted(of(other.ID)), []provisioning.HubCount{hub("a.example.net")})
		same(w, len(counted(of())), 0)
		same(w, view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountInUse([]ca.IssuerID{one.ID}) }), 1)
		same(w, view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountInUse([]ca.IssuerID{other.ID, one.ID}) }), 2)

		asked := []verify.Thumbprint{leaf.Thumbprint, second.Thumbprint, pinned.Thumbprint}
		lost := func() []verify.Thumbprint {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]verify.Thumbprint, error) { return tx.OfRevokedIssuers(asked) })
		}
		same(w, len(lost()), 0)
		ended := one
		ended.State, ended.RetireAt = ca.IssuerRevoked, w.now
		w.update(func(tx provisioning.Tx) error { return tx.MoveIssuer(ended, one.State) })
		same(w, lost(), []verify.Thumbprint{leaf.Thumbprint, pinned.Thumbprint})
	})
	t.Run("registrations are found by their leaf, its key, their chain, and who signed what pins them", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > d3; root > d4")
		w.enroll(w.entry(w.individual("d3"), pin(f.Get("d3"), rotation.Primary)))
		for n, name := range []string{"d1", "d2", "d3", "d4"} {
			reg := w.assigned(name, []string{"a.example.net", "b.example.net"}[n%2], name, provisioning.Owner{})
			link := verify.NewLink(f.Get(name).Cert)
			reg.Leaf, reg.LeafKey = link.Thumbprint, link.KeyHash
			w.put(reg)
		}
		link := verify.NewLink(f.Get("d1").Cert)
		resting := func(on provisioning.RestsOn, after string, limit int) (names []string) {
			w.Helper()
			for _, d := range view(w, func(tx provisioning.Tx) ([]provisioning.RestingDevice, error) { return tx.RestingOn(on, after, limit) }) {
				names = append(names, d.Registration.String())
				if d.Version != 1 || d.Closer != (d.Registration == w.id("d3")) || d.Device != d.Registration || d.Hub == "" {
					t.Errorf("found %+v", d)
				}
			}
			return names
		}
		same(w, resting(provisioning.RestsOn{Digests: [][32]byte{link.Thumbprint}}, "", 9), []string{"d1"})
		same(w, resting(provisioning.RestsOn{Digests: [][32]byte{link.KeyHash}}, "", 9), []string{"d1"})
		mid := verify.NewLink(f.Get("mid").Cert)
		below := provisioning.RestsOn{Digests: [][32]byte{mid.Thumbprint, link.Thumbprint}, Below: verify.NameHash(mid.Cert.RawSubject)}
		same(w, resting(below, "", 9), []string{"d1", "d3"})
		same(w, resting(below, "", 1), []string{"d1"})
		same(w, resting(below, "d1", 9), []string{"d3"})
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.HubCount, error) { return tx.CountRestingOn(below) }),
			[]provisioning.HubCount{{Hub: "a.example.net", Devices: 2}})
		begin(w, w.incident("01", f.Get("mid")))
		same(w, view(w, func(tx provisioning.Tx) ([]byte, error) {
			return tx.PinnedLeaf(verify.ThumbprintOf(f.Get("d3").Cert.Raw))
		}), f.Get("d3").Cert.Raw)
		same(w, view(w, func(tx provisioning.Tx) ([]byte, error) {
			return tx.PinnedLeaf(verify.ThumbprintOf(f.Get("d1").Cert.Raw))
		}), nil)
		if list := view(w, func(tx provisioning.Tx) ([]provisioning.Disallowance, error) { return tx.DisallowedCAs() }); len(list) != 1 || list[0].Incident != "01" {
			t.Errorf("disallowed CAs: %+v", list)
		}
	})
	t.Run("a receipt is confirmed when the hub has its generation", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid")
		w.linked()
		begin(w, w.incident("01", f.Get("mid")))
		rec := w.lives("d1", provisioning.Owner{})
		receipts := []provisioning.IncidentDevice{
			{Registration: w.id("d1"), HubPlace: rec.HubPlace, Awaited: true, Found: w.now},
			{Registration: w.id("d2"), HubPlace: provisioning.HubPlace{Hub: "near.example.net", Device: w.id("d2")}, Found: w.now, Confirmed: w.now},
		}
		w.update(func(tx provisioning.Tx) error {
			for _, d := range receipts {
				if err := tx.PutIncidentDevice("01", d); err != nil {
					return err
				}
			}
			return nil
		})
		list := func(pending bool) []provisioning.IncidentDevice {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]provisioning.IncidentDevice, error) {
				return tx.IncidentDevices("01", "", 9, pending)
			})
		}
		same(w, list(false), receipts)
		same(w, list(true), receipts[:1])
		confirmed := func() []verify.RegistrationID {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]verify.RegistrationID, error) {
				return tx.ConfirmedDevices("01", verify.RegistrationID{}, 9)
			})
		}
		same(w, confirmed(), nil)
		hubs := func() []provisioning.IncidentHub {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]provisioning.IncidentHub, error) { return tx.IncidentHubs("01") })
		}
		same(w, hubs(), []provisioning.IncidentHub{{Hub: far, Devices: 1, Pending: 1}, {Hub: "near.example.net", Devices: 1}})
		w.update(func(tx provisioning.Tx) error {
			return tx.ConfirmHubIdentity(rec.HubPlace, rec.Generation, w.now, w.now)
		})
		same(w, confirmed(), []verify.RegistrationID{w.id("d1")})
		same(w, view(w, func(tx provisioning.Tx) ([]verify.RegistrationID, error) {
			return tx.ConfirmedDevices("01", w.id("d1"), 9)
		}), nil)
		same(w, view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountPendingReceipts() }), 1)
		w.update(func(tx provisioning.Tx) error {
			return tx.ConfirmIncidentDevice("01", w.id("d1"), w.now.Add(time.Minute))
		})
		same(w, confirmed(), nil)
		near := provisioning.RestingDevice{Registration: w.id("d3"), HubPlace: provisioning.HubPlace{Hub: "near.example.net", Device: w.id("d3")}, Version: 1}
		w.put(w.assigned("d3", near.Hub, "d3", provisioning.Owner{}))
		w.update(func(tx provisioning.Tx) error { return tx.SettleIncidentDevice("01", near, w.now) })
		receipts = append(receipts, provisioning.IncidentDevice{Registration: near.Registration, HubPlace: near.HubPlace, Found: w.now, Confirmed: w.now})
		near.Version = 2
		w.refused(fault.Conflict, "incident-moved", func(tx provisioning.Tx) error { return tx.SettleIncidentDevice("01", near, w.now) })
		same(w, view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountIncidentDevices("01") }), 3)
		receipts[0].Confirmed = w.now.Add(time.Minute)
		same(w, list(false), receipts)
	})
}

func (w *world) subjectOf(i provisioning.Incident) []byte {
	w.Helper()
	e, err := x509.ParseCertificate(i.Certificate)
	if err != nil {
		w.Fatal(err)
	}
	return e.RawSubject
}
