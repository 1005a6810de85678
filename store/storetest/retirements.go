package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// retirements are devices that were taken out of service.
func retirements(t *testing.T, open Open) {
	retired := func(w *world, device string) provisioning.Retirement {
		return provisioning.Retirement{
			ID: w.id(device), Spelled: device, Actor: "operator:ann", At: w.now, Confirmed: w.now,
			RetirePlan: provisioning.RetirePlan{
				Entry: provisioning.FateException, Owner: w.group("g"), HubPlace: provisioning.HubPlace{Hub: far, Device: w.id(device)}, Certificates: 2,
				Open: []string{provisioning.OpenOutsideCertificate, provisioning.OpenHubDevice},
			},
		}
	}
	put := func(w *world, r provisioning.Retirement) {
		w.Helper()
		w.update(func(tx provisioning.Tx) error {
			if err := tx.PutRetirement(r); err != nil {
				return err
			}
			return tx.Append(w.note(audit.DeviceRetired, "registration:"+r.ID.String()))
		})
	}
	read := func(w *world, device string) provisioning.Retirement {
		w.Helper()
		return view(w, func(tx provisioning.Tx) (provisioning.Retirement, error) { return tx.Retirement(w.id(device)) })
	}
	listed := func(w *world, f provisioning.RetirementFilter) (ids []string) {
		w.Helper()
		for _, r := range view(w, func(tx provisioning.Tx) ([]provisioning.Retirement, error) { return tx.Retirements(f) }) {
			ids = append(ids, r.ID.String())
		}
		return ids
	}
	leaves := func(w *world, device, as string) provisioning.HubPlace {
		w.Helper()
		rec := w.ahead(as)
		rec.Registration = w.id(device)
		w.update(func(tx provisioning.Tx) error { return tx.PutHubIdentity(rec) })
		return rec.HubPlace
	}
	pending := func(w *world) int64 {
		w.Helper()
		return view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountPendingRetirements() })
	}
	t.Run("one is read back, listed, and written over", func(t *testing.T) {
		w := newWorld(t, open)
		a, b := retired(w, "dev-1"), retired(w, "dev-2")
		b.Campaign, b.Deleted, b.Elsewhere, b.Open, b.Owner, b.HubPlace = "line-3", true, true, nil, provisioning.Owner{}, provisioning.HubPlace{}
		put(w, a)
		put(w, b)
		same(w, read(w, "dev-1"), a)
		same(w, read(w, "dev-2"), b)
		w.refused(fault.NotFound, "retirement-not-found", func(tx provisioning.Tx) error { _, err := tx.Retirement(w.id("dev-3")); return err })
		same(w, listed(w, provisioning.RetirementFilter{}), []string{"dev-1", "dev-2"})
		same(w, listed(w, provisioning.RetirementFilter{Limit: 1}), []string{"dev-1"})
		same(w, listed(w, provisioning.RetirementFilter{After: w.id("dev-1")}), []string{"dev-2"})
		same(w, listed(w, provisioning.RetirementFilter{Campaign: "line-3"}), []string{"dev-2"})
		a.Entry, a.At = provisioning.FateWasDisabled, w.now.Add(time.Hour)
		put(w, a)
		same(w, read(w, "dev-1"), a)
	})
	t.Run("it is confirmed when no hub is to be told any more", func(t *testing.T) {
		w := newWorld(t, open)
		r := retired(w, "dev-1")
		r.Confirmed = time.Time{}
		put(w, r)
		put(w, retired(w, "dev-2"))
		w.linked()
		one, two := leaves(w, "dev-1", "dev-1"), leaves(w, "dev-1", "its-old-name")
		leaves(w, "dev-2", "dev-2") // it was back meanwhile
		confirm := func(device string, at time.Time) {
			w.Helper()
			w.update(func(tx provisioning.Tx) error { return tx.ConfirmRetirement(w.id(device), at) })
		}
		confirmed := func() []verify.RegistrationID {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]verify.RegistrationID, error) { return tx.ConfirmedRetirements(9) })
		}
		r.Awaited = 2
		same(w, read(w, "dev-1"), r)
		same(w, listed(w, provisioning.RetirementFilter{Pending: true}), []string{"dev-1"})
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubIdentity(one) })
		confirm("dev-1", w.now.Add(time.Minute)) // one is still waited for
		r.Awaited = 1
		same(w, read(w, "dev-1"), r)
		same(w, pending(w), 1)
		same(w, confirmed(), nil)
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubIdentity(two) })
		same(w, pending(w), 0)
		same(w, confirmed(), []verify.RegistrationID{w.id("dev-1")})
		for range 2 { // what is confirmed stays as it is
			confirm("dev-1", w.now.Add(time.Hour))
			confirm("dev-2", w.now.Add(time.Hour))
			confirm("dev-3", w.now.Add(time.Hour))
			r.Awaited, r.Confirmed = 0, w.now.Add(time.Hour)
			same(w, read(w, "dev-1"), r)
			same(w, read(w, "dev-2"), retired(w, "dev-2"))
		}
		same(w, confirmed(), nil)
	})
	t.Run("who registers again has returned, and is not waited for", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid")
		w.enroll(w.entry(w.group("g"), signing(f.Get("mid"), rotation.Primary)))
		r := retired(w, "dev-1")
		r.Awaited, r.Confirmed = 1, time.Time{}
		put(w, r)
		w.linked()
		leaves(w, "dev-1", "dev-1")
		reg := w.assigned("dev-1", "a.example", "dev-1", w.group("g"))
		reg.Operation.At = r.At
		w.put(reg)
		same(w, read(w, "dev-1"), r)
		same(w, pending(w), 1)
		reg.Operation.At, reg.Version = r.At.Add(time.Second), reg.Version+1
		w.put(reg)
		r.Awaited, r.Returned = 0, true
		same(w, read(w, "dev-1"), r)
		same(w, pending(w), 0)
		same(w, listed(w, provisioning.RetirementFilter{Pending: true}), nil)
	})
}
