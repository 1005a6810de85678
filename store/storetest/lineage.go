package storetest

import (
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func lineage(t *testing.T, open Open) {
	t.Run("a device's certificates come in the order of issue", func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, i) })
		var own []ca.Certificate
		for n, device := range []string{"dev-1", "dev-2", "dev-1", "dev-1"} {
			c := w.certificate(i, device)
			w.update(func(tx provisioning.Tx) error { return w.record(tx, c) })
			c.Position, c.DER = int64(n+1), nil
			if device == "dev-1" {
				own = append(own, c)
			}
		}
		after := func(position int64, limit int) []ca.Certificate {
			return view(w, func(tx provisioning.Tx) ([]ca.Certificate, error) {
				return tx.CertificatesAfter(w.id("dev-1"), position, limit)
			})
		}
		same(w, after(0, 10), own)
		same(w, after(own[0].Position, 10), own[1:])
		same(w, after(own[0].Position, 1), own[1:2])
		same(w, after(own[2].Position, 10), nil)
	})
	t.Run("devices are found by their leaf and by what stands above it", func(t *testing.T) {
		w := newWorld(t, open)
		f := family(t)
		w.enroll(w.entry(w.group("line"), signing(f.Get("mid"), 0)))
		for _, name := range []string{"dev-1", "dev-2"} {
			w.attested(name, w.group("line"), f.Get("dev-1"), f.Get("sub"), f.Get("mid"), f.Get("root"))
		}
		w.put(w.registration("dev-3", provisioning.Owner{}))
		by := func(der []byte, after string, limit int) (names []string) {
			var from verify.RegistrationID
			if after != "" {
				from = w.id(after)
			}
			for _, r := range view(w, func(tx provisioning.Tx) ([]provisioning.Registration, error) {
				return tx.RegistrationsAttestedBy(verify.ThumbprintOf(der), from, limit)
			}) {
				names = append(names, r.ID.String())
			}
			return names
		}
		same(w, by(f.Get("dev-1").Cert.Raw, "", 10), []string{"dev-1", "dev-2"})
		same(w, by(f.Get("mid").Cert.Raw, "", 1), []string{"dev-1"})
		same(w, by(f.Get("root").Cert.Raw, "dev-1", 10), []string{"dev-2"})
		same(w, by([]byte("nobody's"), "", 10), nil)
	})
}
