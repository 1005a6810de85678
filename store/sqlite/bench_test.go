package sqlite_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

const benchIssuer = ca.IssuerID("00000000000000aa")

// fleet fills a store with n individual enrollments and their registrations, a group
// with its anchor, and what else Facts looks at.
func fleet(b *testing.B, db provisioning.Store, n int, f *testkit.Family) {
	b.Helper()
	now := testkit.Now()
	anchor, err := verify.NewTrustAnchor("root", f.Get("root").Cert, now)
	if err != nil {
		b.Fatal(err)
	}
	group := provisioning.Enrollment{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: benchID(b, "line")}, Spelled: "line", Enabled: true, Version: 1, Allocation: "hashed", Profile: "default",
		Credentials: []provisioning.Credential{{Role: provisioning.RoleSigning, State: rotation.Active, Certificate: f.Get("mid").Cert.Raw}},
	}
	must(b, db.Update(context.Background(), func(tx provisioning.Tx) error {
		for _, err := range []error{
			tx.InsertAnchor(anchor), tx.InsertEnrollment(group),
			tx.InsertHub(provisioning.Hub{Name: "a.example", Driver: "registry", Weight: 1, Version: 1}),
			tx.InsertProfile(provisioning.Profile{Profile: policies.DefaultProfile(), Version: 1}),
			tx.InsertIssuer(ca.Issuer{ID: benchIssuer, Name: "I", Role: ca.RoleIssuing, State: ca.IssuerActive, Parent: benchIssuer, Created: now}),
			tx.PutChain(1, []verify.Link{verify.NewLink(f.Get("mid").Cert), verify.NewLink(f.Get("root").Cert)}),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}))
	for from := 0; from < n; from += 1000 {
		must(b, db.Update(context.Background(), func(tx provisioning.Tx) error {
			for i := from; i < min(n, from+1000); i++ {
				id := benchID(b, fmt.Sprintf("enrolled-%08x", uint32(i)*2654435761))
				e := provisioning.Enrollment{
					Owner: provisioning.Owner{ID: id}, Spelled: id.String(), Enabled: true, Version: 1, Allocation: "hashed",
					Credentials: []provisioning.Credential{{Role: provisioning.RoleClient, State: rotation.Active, Slot: rotation.Primary, Certificate: fmt.Appendf(nil, "certificate %d", i)}},
				}
				if err := tx.InsertEnrollment(e); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func benchID(b *testing.B, s string) verify.RegistrationID {
	id, err := verify.ParseRegistrationID(s)
	must(b, err)
	return id
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// question is what a device below the group asks, with a CSR.
func question(b *testing.B, f *testkit.Family, id string) provisioning.FactsQuery {
	q := provisioning.FactsQuery{ID: benchID(b, id), Profiles: true}
	for _, name := range []string{"dev", "mid"} {
		l := verify.NewLink(f.Get(name).Cert)
		q.Thumbs, q.Keys = append(q.Thumbs, l.Thumbprint), append(q.Keys, l.KeyHash)
		q.Issuers = append(q.Issuers, verify.NameHash(l.Cert.RawIssuer))
	}
	q.Keys = append(q.Keys, verify.KeyHash{1})
	return q
}

// written is one registration with CSR, from Facts to the row.
func written(tx provisioning.Tx, q provisioning.FactsQuery, n int64, owner provisioning.Owner) error {
	f, err := tx.Facts(q)
	if err != nil {
		return err
	}
	now := testkit.Now()
	// Of the size that P-256 certificates of the default profile have.
	der := append(fmt.Appendf(nil, "%d", n), make([]byte, 640)...)
	serial := ca.Serial(fmt.Sprintf("%08x%x", n/1000, sha256.Sum256(der)))[:40]
	c := ca.Certificate{
		Issuer: benchIssuer, Serial: serial, Thumbprint: verify.ThumbprintOf(der), KeyHash: sha256.Sum256(der), RegistrationID: q.ID,
		Parent: q.Thumbs[0], NotBefore: now, NotAfter: now.Add(time.Hour), Issued: now, DER: der,
	}
	event := audit.Event{At: now, Actor: "device:" + q.ID.String(), Action: audit.Issued, Subject: "registration:" + q.ID.String(), Body: audit.Body(map[string]any{
		"issuer": c.Issuer, "serial": c.Serial, "sha256": c.Thumbprint.String(), "notAfter": c.NotAfter, "operation": "4.0123456789abcdef.01234567-89ab-cdef-0123-456789abcdef",
		"entry": owner.String(), "state": "assigned", "hub": "a.example", "door": "dps", "mechanism": "x509",
	})}
	r := provisioning.Registration{ID: q.ID, Spelled: q.ID.String(), Owner: owner, Created: now, Version: 1}
	if f.Registration != nil {
		r = *f.Registration
		r.Version++
	}
	r.Mechanism, r.State, r.Hub, r.DeviceID, r.Updated = verify.MechanismX509, provisioning.Assigned, "a.example", q.ID.String(), now
	r.Operation = provisioning.OperationRecord{ID: "4.0123456789abcdef.01234567-89ab-cdef-0123-456789abcdef", Digest: c.KeyHash, At: now}
	if r.Pair, err = r.Pair.Stage(rotation.Ref(c.Thumbprint), now, c.NotAfter); err != nil {
		return err
	}
	r.Certificate = provisioning.CertificateRef{Issuer: c.Issuer, Serial: c.Serial}
	r.Leaf, r.LeafKey, r.Chain = q.Thumbs[0], q.Keys[0], 1
	for _, err := range []error{tx.InsertCertificate(c), tx.Append(event), tx.PutRegistration(r)} {
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkFacts is the match View among 100,000 enrollments: for a device that comes
// for the first time, and for one whose outside chain counts too.
func BenchmarkFacts(b *testing.B) {
	f := testkit.Chain(b, "root > mid > dev")
	db := store.New(open(b)).Provisioning()
	fleet(b, db, 100_000, f)
	line := provisioning.Owner{Kind: provisioning.Group, ID: benchID(b, "line")}
	known := question(b, f, "known")
	must(b, db.Update(context.Background(), func(tx provisioning.Tx) error { return written(tx, known, 1, line) }))
	for name, q := range map[string]provisioning.FactsQuery{"new": question(b, f, "new"), "known": known} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				must(b, db.View(context.Background(), func(tx provisioning.Tx) error { _, err := tx.Facts(q); return err }))
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					must(b, db.View(context.Background(), func(tx provisioning.Tx) error { _, err := tx.Facts(q); return err }))
				}
			})
		})
	}
}

// BenchmarkRegister is View and Update of a registration with CSR, by many callers at
// once, each time another device. It reports commits and bytes on disk for each.
func BenchmarkRegister(b *testing.B) {
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("%d callers", callers), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "db.sqlite")
			e := openAt(b, path)
			db := store.New(e).Provisioning()
			f := testkit.Chain(b, "root > mid > dev")
			fleet(b, db, 10_000, f)
			owner := provisioning.Owner{Kind: provisioning.Group, ID: benchID(b, "line")}
			q := question(b, f, "dev")
			size := func() int64 {
				info, err := os.Stat(path)
				must(b, err)
				return info.Size()
			}
			small, before := size(), e.Stats()
			var n atomic.Int64
			b.SetParallelism(callers)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					mine := q
					mine.ID = benchID(b, fmt.Sprintf("device-%08x", uint32(i)*2654435761))
					must(b, db.View(context.Background(), func(tx provisioning.Tx) error { _, err := tx.Facts(mine); return err }))
					must(b, db.Update(context.Background(), func(tx provisioning.Tx) error { return written(tx, mine, i, owner) }))
				}
			})
			b.StopTimer()
			after := e.Stats()
			b.ReportMetric(float64(after.Updates-before.Updates)/float64(after.Commits-before.Commits), "updates/commit")
			must(b, e.Close())
			b.ReportMetric(float64(size()-small)/float64(n.Load()), "bytes/op")
		})
	}
}
