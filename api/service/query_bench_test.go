package service

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// BenchmarkQueryPage is a page of 100 out of a million enrollments with a certificate each, from
// the request to the body: the first, one in the middle, and the last. The goal is a p95 of
// 5 ms, which is reported beside the mean.
func BenchmarkQueryPage(b *testing.B) {
	const fleet, text = 1_000_000, `{"query":"SELECT * FROM enrollments"}`
	w := newWorld(b)
	w.fill(fleet, testkit.Chain(b, "root > dev").Leaf().Cert.Raw)
	for name, after := range map[string]int{"first": 0, "middle": fleet / 2, "last": fleet - 101} {
		continuation := ""
		if after > 0 {
			continuation = w.scopes[0].engine.Cursor("enrollments|SELECT * FROM enrollments", numbered(after).String())
		}
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/enrollments/query?"+version, strings.NewReader(text))
				r.Header.Set("Authorization", w.sas())
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("x-ms-max-item-count", "100")
				r.Header.Set("x-ms-continuation", continuation)
				answer := httptest.NewRecorder()
				w.handler.ServeHTTP(answer, r)
				if answer.Code != http.StatusOK {
					b.Fatal(answer.Body)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)*95/100].Seconds()*1000, "p95-ms")
		})
	}
}

// fill writes enrollments that hold a certificate, as the store takes them.
func (w *world) fill(n int, certificate []byte) {
	w.t.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		w.check(w.scopes[0].store.Update(w.t.Context(), func(tx provisioning.Tx) error {
			for i := from; i < min(n, from+batch); i++ {
				id := numbered(i)
				err := tx.InsertEnrollment(provisioning.Enrollment{
					Owner: provisioning.Owner{ID: id}, Spelled: id.String(), Enabled: true, Version: 1, Allocation: policies.Hashed,
					Credentials: []provisioning.Credential{{Role: provisioning.RoleClient, State: rotation.Active, Certificate: certificate}},
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func numbered(i int) verify.RegistrationID {
	return must(verify.ParseRegistrationID(fmt.Sprintf("press-%08d", i)))
}
