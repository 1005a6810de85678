package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func issuers(t *testing.T, open Open) {
	t.Run("two issuers trade places, and never are both active", func(t *testing.T) {
		w := newWorld(t, open)
		one, two := w.issuer(1), w.issuer(2)
		two.State, two.Slot, two.Created = ca.IssuerPrepared, rotation.Secondary, w.now.Add(time.Second)
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, one); err != nil {
				return err
			}
			return w.create(tx, two)
		})
		pair := view(w, func(tx provisioning.Tx) (rotation.Pair, error) { return tx.IssuerPair(ca.RoleIssuing, "") })
		if a, b := pair.Cell(rotation.Primary), pair.Cell(rotation.Secondary); a.State != rotation.Active || b.State != rotation.Staged {
			t.Fatalf("%+v %+v", a, b)
		}
		active := two
		active.State = ca.IssuerActive
		w.refused(fault.Conflict, "issuer-active", func(tx provisioning.Tx) error { return tx.MoveIssuer(active, ca.IssuerPrepared) })
		w.refused(fault.Conflict, "issuer-moved", func(tx provisioning.Tx) error { return tx.MoveIssuer(active, ca.IssuerRetiring) })
		former := one
		former.State, former.RetireAt = ca.IssuerRetiring, w.now.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error {
			if err := tx.MoveIssuer(former, ca.IssuerActive); err != nil {
				return err
			}
			return tx.MoveIssuer(active, ca.IssuerPrepared)
		})
		same(w, view(w, provisioning.Tx.Issuers), []ca.Issuer{former, active})
		w.refused(fault.Conflict, "issuer-not-active", func(tx provisioning.Tx) error { return tx.InsertCertificate(w.certificate(one, "dev-1")) })
		w.update(func(tx provisioning.Tx) error { return w.record(tx, w.certificate(two, "dev-1")) })
		own := w.certificate(one, "dev-1")
		own.RegistrationID = verify.RegistrationID{}
		w.update(func(tx provisioning.Tx) error { return w.record(tx, own) })
		Check(t, w.db)
	})
	t.Run("a profile has issuers of its own", func(t *testing.T) {
		w := newWorld(t, open)
		one, two := w.issuer(1), w.issuer(2)
		two.Profile = "sensors"
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, one); err != nil {
				return err
			}
			return w.create(tx, two)
		})
		three := w.issuer(3)
		three.Profile = "sensors"
		w.refused(fault.Conflict, "issuer-active", func(tx provisioning.Tx) error { return tx.InsertIssuer(three) })
		Check(t, w.db)
	})
	t.Run("the last certificate of an issuer, and the last after a place", func(t *testing.T) {
		w := newWorld(t, open)
		one, two := w.issuer(1), w.issuer(2)
		two.Profile = "sensors"
		var certs []ca.Certificate
		for n, i := range []ca.Issuer{one, one, two, one} {
			c := w.certificate(i, "dev-1")
			c.NotAfter = w.now.Add(time.Duration(10-n) * time.Hour)
			certs = append(certs, c)
		}
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, one); err != nil {
				return err
			}
			return w.create(tx, two)
		})
		for _, c := range certs {
			w.update(func(tx provisioning.Tx) error { return w.record(tx, c) })
		}
		last := func(i ca.Issuer, after int64) [2]any {
			return view(w, func(tx provisioning.Tx) ([2]any, error) {
				ends, position, err := tx.LastExpiry(i.ID, after)
				return [2]any{ends, position}, err
			})
		}
		same(w, last(one, 0), [2]any{certs[0].NotAfter, int64(4)})
		same(w, last(one, 2), [2]any{certs[3].NotAfter, int64(4)})
		same(w, last(one, 4), [2]any{time.Time{}, int64(0)})
		revoked := certs[0]
		revoked.RevokedAt, revoked.Reason = w.now, ca.Superseded
		w.update(func(tx provisioning.Tx) error { return tx.MarkRevoked(revoked) })
		same(w, last(one, 0), [2]any{certs[0].NotAfter, int64(4)})
	})
	t.Run("requests wait until they are answered or given up", func(t *testing.T) {
		w := newWorld(t, open)
		r := ca.IssuerRequest{ID: "00000000000000aa", Name: "Bought", Profile: "sensors", KeyURI: "softkms:aa.pem", CSR: []byte{1, 2}, Created: w.now}
		w.update(func(tx provisioning.Tx) error { return tx.InsertIssuerRequest(r) })
		w.refused(fault.Conflict, "issuer-request-exists", func(tx provisioning.Tx) error { return tx.InsertIssuerRequest(r) })
		same(w, view(w, provisioning.Tx.IssuerRequests), []ca.IssuerRequest{r})
		w.update(func(tx provisioning.Tx) error { return tx.DeleteIssuerRequest(r.ID) })
		w.refused(fault.NotFound, "issuer-request-not-found", func(tx provisioning.Tx) error { return tx.DeleteIssuerRequest(r.ID) })
	})
	t.Run("a cross certificate stands between two issuers", func(t *testing.T) {
		w := newWorld(t, open)
		c := ca.CrossCertificate{Issuer: w.issuer(1).ID, SignedBy: w.issuer(1).ID, Certificate: []byte{7}, Created: w.now}
		w.refused(fault.NotFound, "issuer-not-found", func(tx provisioning.Tx) error { return tx.InsertCrossCertificate(c) })
		w.update(func(tx provisioning.Tx) error { return w.create(tx, w.issuer(1)) })
		w.update(func(tx provisioning.Tx) error { return tx.InsertCrossCertificate(c) })
		w.refused(fault.Conflict, "cross-certificate-exists", func(tx provisioning.Tx) error { return tx.InsertCrossCertificate(c) })
		same(w, view(w, provisioning.Tx.CrossCertificates), []ca.CrossCertificate{c})
	})
	t.Run("facts tell that the issuer of a leaf is revoked", func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		c := w.certificate(i, "dev-1")
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, i); err != nil {
				return err
			}
			return w.record(tx, c)
		})
		q := provisioning.FactsQuery{ID: c.RegistrationID, Thumbs: []verify.Thumbprint{c.Thumbprint}}
		before := w.facts(q)
		i.State = ca.IssuerRevoked
		w.update(func(tx provisioning.Tx) error { return tx.MoveIssuer(i, ca.IssuerActive) })
		after := w.facts(q)
		if before.IssuerRevoked || !after.IssuerRevoked || after.Issued == nil || before.Digest == after.Digest || before.Epoch == after.Epoch {
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
}
