package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// checks breaks one invariant at a time and wants store.Check to name it, and a healthy
// store to pass.
func checks(t *testing.T, open Open) {
	f := family(t)
	for _, c := range []struct {
		name string
		harm func(*world)
		want []string
	}{
		{"a healthy store", func(*world) {}, nil},
		{"a certificate without its ledger row", func(w *world) {
			w.update(func(tx provisioning.Tx) error { return tx.InsertCertificate(w.certificate(w.issuer(1), "dev-5")) })
		}, []string{"recorded"}},
		{"a ledger row without its certificate", func(w *world) {
			w.update(func(tx provisioning.Tx) error { return tx.Append(w.issued(w.certificate(w.issuer(1), "dev-5"))) })
		}, []string{"recorded"}},
		{"an issuing that was told twice", func(w *world) {
			w.update(func(tx provisioning.Tx) error {
				c := w.certificate(w.issuer(1), "dev-5")
				if err := tx.Append(w.issued(c)); err != nil {
					return err
				}
				return w.record(tx, c)
			})
		}, []string{"accounted"}},
		{"a revocation without its ledger row", func(w *world) {
			w.update(func(tx provisioning.Tx) error {
				c := w.certificate(w.issuer(1), "dev-5")
				if err := w.record(tx, c); err != nil {
					return err
				}
				c.RevokedAt, c.Reason = w.now, "superseded"
				return tx.MarkRevoked(c)
			})
		}, []string{"accounted"}},
		{"an enrollment nobody made", func(w *world) {
			w.update(func(tx provisioning.Tx) error { return tx.InsertEnrollment(w.entry(w.individual("x"))) })
		}, []string{"accounted"}},
		{"a hub nobody linked", func(w *world) {
			w.update(func(tx provisioning.Tx) error { return tx.InsertHub(provisioning.Hub{Name: "x", Version: 1}) })
		}, []string{"accounted"}},
		{"a device elsewhere whose hub nobody tells", func(w *world) { w.linked(); w.put(w.assigned("dev-5", far, "dev-5", provisioning.Owner{})) }, []string{"agreeing"}},
		{"a device that waits for a hub that has confirmed", func(w *world) {
			w.linked()
			rec := w.lives("dev-5", provisioning.Owner{})
			w.update(func(tx provisioning.Tx) error {
				return tx.ConfirmHubIdentity(rec.HubPlace, rec.Generation, w.now, w.now)
			})
		}, []string{"agreeing"}},
		{"a device that is left on a hub", func(w *world) {
			w.linked()
			rec := w.ahead("dev-5")
			w.update(func(tx provisioning.Tx) error {
				if err := tx.PutHubIdentity(rec); err != nil {
					return err
				}
				return tx.ConfirmHubIdentity(rec.HubPlace, rec.Generation, w.now, w.now)
			})
		}, []string{"agreeing"}},
		{"a certificate whose thumbprint is another's", func(w *world) {
			w.update(func(tx provisioning.Tx) error {
				c := w.certificate(w.issuer(1), "dev-5")
				c.Thumbprint[31]++
				return w.record(tx, c)
			})
		}, []string{"recorded"}},
		{"a slot with another device's certificate", func(w *world) {
			c := w.certificate(w.issuer(1), "dev-6")
			r := w.registration("dev-5", provisioning.Owner{})
			r.Pair, _ = r.Pair.Stage(rotation.Ref(c.Thumbprint), c.NotBefore, c.NotAfter)
			w.update(func(tx provisioning.Tx) error {
				if err := w.record(tx, c); err != nil {
					return err
				}
				return tx.PutRegistration(r)
			})
		}, []string{"same-name"}},
		{"a slot with a certificate nobody issued", func(w *world) {
			r := w.registration("dev-5", provisioning.Owner{})
			r.Pair, _ = r.Pair.Stage(rotation.Ref{1}, w.now, w.now.Add(time.Hour))
			w.put(r)
		}, []string{"recorded"}},
		{"a last certificate nobody issued", func(w *world) {
			r := w.registration("dev-5", provisioning.Owner{})
			r.Certificate = provisioning.CertificateRef{Issuer: w.issuer(1).ID, Serial: "0102"}
			w.put(r)
		}, []string{"recorded"}},
		{"an assignment after its leaf was disallowed", func(w *world) { w.late(f.Get("dev-1").Cert.Raw, nil) }, []string{"contained"}},
		{"an assignment after a CA above it was disallowed", func(w *world) { w.late(f.Get("mid").Cert.Raw, nil) }, []string{"contained"}},
		{"an assignment before its leaf was disallowed", func(w *world) {
			w.late(f.Get("dev-1").Cert.Raw, func(r *provisioning.Registration) { r.Operation.At = w.now })
		}, nil},
		{"a registration by a group though an individual enrollment decides", func(w *world) {
			w.enroll(w.entry(w.individual("dev-5")))
			r := w.registration("dev-5", w.group("line"))
			r.Operation.At = w.now.Add(time.Minute)
			w.put(r)
		}, []string{"individual-first"}},
		{"a registration by a disabled entry", func(w *world) {
			off := w.entry(w.individual("dev-5"))
			off.Enabled = false
			w.enroll(off)
			r := w.registration("dev-5", off.Owner)
			r.Operation.At = w.now.Add(time.Minute)
			w.put(r)
		}, []string{"disabled-wins"}},
		{"two names for one device on one hub", func(w *world) {
			w.put(w.assigned("pump", "a.example", "pump", provisioning.Owner{}))
			w.put(w.assigned("dev-5", "a.example", "Pump", provisioning.Owner{}))
		}, []string{"one-open"}},
		{"a device of a hub nobody made", func(w *world) {
			w.update(func(tx provisioning.Tx) error {
				return tx.InsertHubChange(provisioning.HubChange{Hub: hubA, Device: w.id("x"), Auth: provisioning.SealedAuth{Type: provisioning.HubNoAuth}, Version: 1})
			})
		}, []string{"accounted"}},
		{"a device of a hub beside the registration of its name", func(w *world) {
			w.hubDevice(hubA, "pump")
			w.put(w.assigned("dev-5", hubA, "Pump", provisioning.Owner{}))
		}, []string{"one-identity"}},
		{"a change of a device that has left its hub", func(w *world) {
			w.hubDevice(hubA, "dev-5")
			w.update(func(tx provisioning.Tx) error { return tx.SettleHubChange(hubA, w.id("dev-5"), w.id("dev-5")) })
			w.put(w.assigned("dev-5", hubB, "dev-5", provisioning.Owner{}))
		}, []string{"one-identity"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			w.healthy(f)
			c.harm(w)
			violations, err := store.Check(bg, w.db)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range violations {
				t.Log(v)
				got = append(got, v.Invariant)
			}
			same(w, slices.Compact(got), c.want)
		})
	}
	t.Run("what is append-only refuses to be changed by hand", untouchable(open))
}

// healthy fills a store with one of everything.
func (w *world) healthy(f *testkit.Family) {
	w.Helper()
	w.anchor(f.Get("root"), true)
	w.enroll(w.entry(w.group("line"), signing(f.Get("mid"), rotation.Primary), reference("root", rotation.Secondary)))
	w.enroll(w.entry(w.individual("dev-2"), pin(f.Get("dev-2"), rotation.Primary)))
	i := w.issuer(1)
	c := w.certificate(i, "dev-1")
	w.update(func(tx provisioning.Tx) error {
		if err := w.create(tx, i); err != nil {
			return err
		}
		return w.record(tx, c)
	})
	r := w.attested("dev-1", w.group("line"), f.Get("dev-1"), f.Get("sub"), f.Get("mid"), f.Get("root"))
	r.Version, r.Certificate = 2, provisioning.CertificateRef{Issuer: i.ID, Serial: c.Serial}
	r.Pair, _ = r.Pair.Stage(rotation.Ref(c.Thumbprint), c.NotBefore, c.NotAfter)
	w.put(r)
}

// late assigns dev-1 a minute after a certificate was disallowed.
func (w *world) late(der []byte, edit func(*provisioning.Registration)) {
	w.Helper()
	w.disallow(verify.ThumbprintOf(der), false)
	r := view(w, func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(w.id("dev-1")) })
	r.Version, r.State, r.Hub, r.Operation.At = r.Version+1, provisioning.Assigned, "a.example", w.now.Add(time.Minute)
	if edit != nil {
		edit(&r)
	}
	w.put(r)
}

func untouchable(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		w.healthy(family(t))
		w.update(func(tx provisioning.Tx) error { return tx.Append(w.note(audit.ActRefused, "x")) })
		for _, text := range []string{
			"DELETE FROM ledger", "UPDATE ledger SET actor = 'nobody'", "DELETE FROM certificates",
			"UPDATE certificates SET registration_id = 'dev-9'", "UPDATE certificates SET not_after = 0",
			"UPDATE crl_shards SET crl_number = crl_number - 1", "UPDATE issuers SET state = 'prepared'", "UPDATE issuers SET state = 'void'",
			"UPDATE registrations SET primary_state = 2, secondary_state = 2, secondary_ref = operation_digest",
		} {
			err := w.engine.Update(bg, store.Devices, func(c store.Conn) error {
				return c.Exec(&store.Stmt{Text: text, Numbered: text})
			})
			if err == nil || fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v", text, err)
			}
		}
		Check(t, w.db)
	}
}
