package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

func certificates(t *testing.T, open Open) {
	t.Run("a certificate is read back as it was written, and its place is given", func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		c := w.certificate(i, "dev-1")
		c.Parent, c.KeyAttestation = c.Thumbprint, policies.KeyAttestationTPM
		absent(w, func(tx provisioning.Tx) (ca.Certificate, error) { return tx.Certificate(i.ID, c.Serial) })
		absent(w, func(tx provisioning.Tx) (ca.Certificate, error) { return tx.Certificate(i.ID, "no hex") })
		w.update(func(tx provisioning.Tx) error { return w.record(tx, c) })
		got := view(w, func(tx provisioning.Tx) (ca.Certificate, error) { return tx.Certificate(i.ID, c.Serial) })
		c.Position = 1
		same(w, got, c)
		Check(t, w.db)
	})
	t.Run("a serial is an issuer's once, and the first certificate stays", func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		c := w.certificate(i, "dev-1")
		w.update(func(tx provisioning.Tx) error { return w.record(tx, c) })
		other := w.certificate(i, "dev-2")
		other.Serial = c.Serial
		w.refused(fault.Conflict, "serial-taken", func(tx provisioning.Tx) error { return w.record(tx, other) })
		got := view(w, func(tx provisioning.Tx) (ca.Certificate, error) { return tx.Certificate(i.ID, c.Serial) })
		if got.RegistrationID != c.RegistrationID {
			t.Errorf("the certificate on record is of %s", got.RegistrationID)
		}
		Check(t, w.db)
	})
	t.Run("one issuing CA is active, roots are not counted", func(t *testing.T) {
		w := newWorld(t, open)
		root := w.issuer(9)
		root.Role = ca.RoleRoot
		retired := w.issuer(8)
		retired.State = ca.IssuerRetired
		w.update(func(tx provisioning.Tx) error {
			for _, i := range []ca.Issuer{root, retired, w.issuer(1)} {
				if err := w.create(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		w.refused(fault.Conflict, "issuer-active", func(tx provisioning.Tx) error { return tx.InsertIssuer(w.issuer(2)) })
		w.refused(fault.Conflict, "issuer-exists", func(tx provisioning.Tx) error { return tx.InsertIssuer(retired) })
		orphan := w.issuer(3)
		orphan.State, orphan.Parent = ca.IssuerRetired, "00000000000000ff"
		w.refused(fault.Conflict, "issuer-parent-missing", func(tx provisioning.Tx) error { return tx.InsertIssuer(orphan) })
		same(w, view(w, provisioning.Tx.Issuers), []ca.Issuer{w.issuer(1), retired, root})
	})
	t.Run("revoking is one-way, counted, and only keyCompromise replaces a reason", revoking(open))
	t.Run("revoked certificates are paged by serial, expired ones left out", revokedPages(open))
	t.Run("CRL numbers grow and the latest one counts", crls(open))
}

func revoking(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		c := w.certificate(i, "dev-1")
		w.update(func(tx provisioning.Tx) error {
			if err := w.create(tx, i); err != nil {
				return err
			}
			return w.record(tx, c)
		})
		revoke := func(reason ca.Reason, at time.Time) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error {
				c.RevokedAt, c.Reason = at, reason
				if err := tx.MarkRevoked(c); err != nil {
					return err
				}
				return tx.Append(w.revoked(c))
			}
		}
		w.update(revoke("superseded", w.now))
		w.refused(fault.Conflict, "already-revoked", revoke("affiliationChanged", w.now.Add(time.Hour)))
		w.update(revoke("keyCompromise", w.now))
		w.refused(fault.Conflict, "already-revoked", revoke("keyCompromise", w.now.Add(time.Hour)))
		w.refused(fault.Conflict, "already-revoked", revoke("superseded", w.now))
		got := view(w, func(tx provisioning.Tx) (ca.Certificate, error) { return tx.Certificate(i.ID, c.Serial) })
		if got.Reason != "keyCompromise" || !got.RevokedAt.Equal(w.now) {
			t.Errorf("revoked %q at %v", got.Reason, got.RevokedAt)
		}
		if n := view(w, provisioning.Tx.CRLShards)[0].Revocations; n != 2 {
			t.Errorf("%d revocations counted, want 2", n)
		}
		Check(t, w.db)
	}
}

func revokedPages(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		var want []ca.Serial
		w.update(func(tx provisioning.Tx) error {
			want = nil
			if err := w.create(tx, i); err != nil {
				return err
			}
			for n := range 10 {
				c := w.certificate(i, "dev-1")
				if n == 4 {
					c.NotAfter = w.now.Add(-time.Hour)
				}
				if err := w.record(tx, c); err != nil {
					return err
				}
				if n == 7 {
					continue // not revoked
				}
				c.RevokedAt, c.Reason = w.now, "superseded"
				if err := tx.MarkRevoked(c); err != nil {
					return err
				}
				if n != 4 {
					want = append(want, c.Serial)
				}
			}
			return nil
		})
		var got []ca.Serial
		for after := ca.Serial(""); ; after = got[len(got)-1] {
			page := view(w, func(tx provisioning.Tx) ([]ca.Revocation, error) {
				return tx.RevokedCertificates(i.ID, 0, w.now, after, 3)
			})
			for _, c := range page {
				got = append(got, c.Serial)
			}
			if len(page) < 3 {
				break
			}
		}
		same(w, got, want)
	}
}

func crls(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		latest := func(tx provisioning.Tx) (ca.CRL, error) { return tx.LatestCRL(i.ID, 0) }
		absent(w, latest)
		crl := func(n int64) ca.CRL {
			return ca.CRL{Issuer: i.ID, Number: n, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Duration(n) * time.Hour), DER: []byte{byte(n)}, Entries: int(n)}
		}
		for _, n := range []int64{1, 2, 5} {
			w.update(func(tx provisioning.Tx) error { return tx.InsertCRL(crl(n)) })
			same(w, view(w, latest), crl(n))
		}
		for _, n := range []int64{5, 4, 1} {
			w.refused(fault.Conflict, "crl-number", func(tx provisioning.Tx) error { return tx.InsertCRL(crl(n)) })
		}
		row := view(w, provisioning.Tx.CRLShards)[0]
		if row.Number != 5 || !row.Next.Equal(w.now.Add(5*time.Hour)) {
			t.Errorf("the shard's latest CRL is %d until %v", row.Number, row.Next)
		}
	}
}
