package ca_test

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

const shardSize, blockSize = 16384, 1024

func TestACertificateNamesTheCRLOfItsShardAndThatCRLNamesTheSame(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	c, leaf := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	want := "http://pki.example/pki/" + string(issuing.ID) + "/1.crl"
	if c.Shard != 1 || len(leaf.CRLDistributionPoints) != 1 || leaf.CRLDistributionPoints[0] != want {
		t.Errorf("shard %d, address %v, want %s", c.Shard, leaf.CRLDistributionPoints, want)
	}
	if got := partOf(t, w.shardCRL(t, issuing.ID, 1)); got != want {
		t.Errorf("the CRL is about %q, want %q", got, want)
	}
	w.sweep(t)
	if got := partOf(t, w.shardCRL(t, issuing.ID, 0)); got != "http://pki.example/pki/"+string(issuing.ID)+".crl" {
		t.Errorf("shard 0 says it is about %q: one that names no part would be taken for the whole", got)
	}
	if got := partOf(t, w.shardCRL(t, issuing.Parent, 0)); got != "" {
		t.Errorf("the root's CRL is about %q, want all", got)
	}
}

// partOf is the URI of a CRL's issuing distribution point; "" where it has none.
func partOf(t *testing.T, list *x509.RevocationList) string {
	t.Helper()
	for _, e := range list.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}) {
			continue
		}
		if !e.Critical {
			t.Error("the issuing distribution point is not critical")
		}
		in := cryptobyte.String(e.Value)
		var uri cryptobyte.String
		outer := cbasn1.Tag(0).Constructed().ContextSpecific()
		if !in.ReadASN1(&in, cbasn1.SEQUENCE) || !in.ReadASN1(&in, outer) || !in.ReadASN1(&in, outer) || !in.ReadASN1(&uri, cbasn1.Tag(6).ContextSpecific()) || !in.Empty() {
			t.Fatalf("distribution point %x", e.Value)
		}
		return string(uri)
	}
	return ""
}

func TestBlocksFillOneShardAfterTheOther(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key, profile := deviceKey(t, policies.KeyECP256), policies.DefaultProfile()
	w.issue(t, "dev", key, profile)
	row := func(n int) ca.CRLShard { return *w.store.read().shard(issuing.ID, n) }
	if got := row(1); got.Issued != blockSize || got.Number != 1 || got.Ends.Before(noon.Add(profile.Lifetime)) {
		t.Fatalf("shard 1 after the first certificate: %+v", got)
	}
	shard := func(a *ca.Authority) string {
		t.Helper()
		u, err := a.Issue(t.Context(), identity(t, "dev"), request(t, "dev", key), profile, [32]byte{}, w.now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.record(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(c.Shard)
	}
	if got := shard(w.replica(t)); got != "1" || row(1).Issued != 2*blockSize {
		t.Errorf("a replica's is in shard %s, and %d places are given away", got, row(1).Issued)
	}
	w.fillUp(t, issuing.ID, 1)
	if got := shard(w.replica(t)); got != "2" || row(1).Issued != shardSize || row(2).Issued != blockSize {
		t.Errorf("after a full shard: %s", got)
	}
	if got := shard(w.Authority); got != "1" {
		t.Errorf("whoever has places left in a full shard goes on with them, and is in %s", got)
	}
	w.edit = func(c *ca.Config) { c.PKIURL = "http://elsewhere.example" }
	if got := shard(w.replica(t)); got != "3" || row(2).Issued != blockSize {
		t.Errorf("with another address: shard %s, for a shard's CRL names one address", got)
	}
	if got := partOf(t, w.shardCRL(t, issuing.ID, 2)); !strings.HasPrefix(got, "http://pki.example/") {
		t.Errorf("shard 2 is about %s", got)
	}
}

// fillUp gives away what is left of a shard.
func (w *world) fillUp(t *testing.T, id ca.IssuerID, shard int) {
	t.Helper()
	err := w.store.Update(t.Context(), func(tx ca.Tx) error {
		row, err := tx.CRLShard(id, shard)
		if err != nil {
			return err
		}
		return tx.TakeFromShard(row, shardSize-row.Issued, shardSize, row.Ends)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAShardEndsNoSoonerThanItsCertificates(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key, profile := deviceKey(t, policies.KeyECP256), policies.DefaultProfile()
	for step := range 40 {
		w.now = noon.Add(time.Duration(step) * 24 * time.Hour)
		profile.Lifetime = time.Duration(1+(step*37)%300) * 24 * time.Hour
		c, _ := w.enroll(t, "dev", key, profile)
		if row := w.store.read().shard(issuing.ID, c.Shard); row.Ends.Before(c.NotAfter) {
			t.Fatalf("step %d: the shard ends %v, its certificate %v", step, row.Ends, c.NotAfter)
		}
	}
}

func TestABlockIsTakenAheadAndByOneAtATime(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key, profile := deviceKey(t, policies.KeyEd25519), allKeys()
	csr, who := request(t, "dev", key), identity(t, "dev")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range (blockSize + 4) / 4 {
				if _, err := w.Issue(t.Context(), who, csr, profile, [32]byte{}, noon); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := w.store.read().shard(issuing.ID, 1).Issued; got != 2*blockSize {
		t.Errorf("%d places are given away after %d certificates, want %d", got, blockSize+4, 2*blockSize)
	}
}

func TestWithoutRoomOnRecordNothingIsIssued(t *testing.T) {
	boom := errors.New("disk full")
	tests := map[string]func(*memStore){
		"a block that was lost":              func(s *memStore) { s.beforeCommit = func() error { return boom } },
		"a block that was kept all the same": func(s *memStore) { s.afterCommit = func() error { return boom } },
	}
	for name, arm := range tests {
		t.Run(name, func(t *testing.T) {
			w, _, issuing := newHierarchy(t, "")
			key := deviceKey(t, policies.KeyECP256)
			arm(w.store)
			_, err := w.Issue(t.Context(), identity(t, "dev"), request(t, "dev", key), policies.DefaultProfile(), [32]byte{}, noon)
			if !errors.Is(err, boom) {
				t.Fatalf("err = %v", err)
			}
			w.store.beforeCommit, w.store.afterCommit = nil, nil
			if c, _ := w.enroll(t, "dev", key, policies.DefaultProfile()); c.Shard != 1 || w.shardCRL(t, issuing.ID, 1).Number.Int64() != 1 {
				t.Errorf("after the repair: shard %d", c.Shard)
			}
		})
	}
}

func TestAFullShardOfRevokedCertificatesIsBelowAMegabyte(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	err := w.store.Update(t.Context(), func(tx ca.Tx) error {
		r := tx.(*rows)
		for n := range shardSize {
			r.certificates = append(r.certificates, ca.Certificate{
				Issuer: issuing.ID, Shard: 1, Serial: ca.Serial(fmt.Sprintf("7f%038x", n)), NotAfter: noon.Add(40 * 365 * 24 * time.Hour),
				// After 2049 a date takes two octets more.
				RevokedAt: time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), Reason: ca.PrivilegeWithdrawn,
			})
		}
		r.shard(issuing.ID, 1).Revocations += shardSize
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	crl, err := w.PublishedCRL(t.Context(), issuing.ID, 1)
	if err != nil || crl.Entries != shardSize || len(crl.DER) > 1_000_000 {
		t.Errorf("%d entries in %d octets, %v", crl.Entries, len(crl.DER), err)
	}
}

func TestARevocationTouchesItsShardAlone(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	first, _ := w.enroll(t, "dev", key, policies.DefaultProfile())
	w.fillUp(t, issuing.ID, 1)
	w.Authority = w.replica(t)
	second, _ := w.enroll(t, "dev", key, policies.DefaultProfile())
	w.sweep(t)
	if err := w.revoke(t.Context(), first, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	w.sweep(t)
	if a, b := w.shardCRL(t, issuing.ID, first.Shard), w.shardCRL(t, issuing.ID, second.Shard); a.Number.Int64() != 2 || b.Number.Int64() != 1 || len(b.RevokedCertificateEntries) != 0 {
		t.Errorf("numbers %v and %v", a.Number, b.Number)
	}
	if out, good := w.opensslVerify(t, first); good || !strings.Contains(out, "certificate revoked") {
		t.Errorf("the revoked one, beside the lists of all shards: %s", out)
	}
	if out, good := w.opensslVerify(t, second); !good {
		t.Errorf("the other one: %s", out)
	}
	if n := len(w.store.read().crls); n != 4 {
		t.Errorf("%d CRLs are kept, want the latest of each shard", n)
	}
}

func TestAShardWhoseCertificatesHaveEndedIsLeftAlone(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	day := policies.DefaultProfile()
	day.Lifetime, day.Backdate = 24*time.Hour, 0
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), day)
	if err := w.revoke(t.Context(), c, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	ends := w.store.read().shard(issuing.ID, 1).Ends
	var afterEnd, last int64
	for range 40 {
		w.sweep(t)
		list := w.shardCRL(t, issuing.ID, 1)
		if list.ThisUpdate.After(c.NotAfter) && len(list.RevokedCertificateEntries) == 1 {
			afterEnd++
		}
		last = list.Number.Int64()
		w.now = w.now.Add(12 * time.Hour)
	}
	if afterEnd == 0 {
		t.Error("an expired certificate is on no CRL after that (INV-S6)")
	}
	if list := w.shardCRL(t, issuing.ID, 1); len(list.RevokedCertificateEntries) != 0 || list.Number.Int64() != last || !w.now.After(ends.Add(7*24*time.Hour)) {
		t.Errorf("the last CRL lists %d", len(list.RevokedCertificateEntries))
	}
	if got := w.shardCRL(t, issuing.ID, 0); got.NextUpdate.Before(w.now.Add(-12 * time.Hour)) {
		t.Errorf("shard 0 was left alone too: %v", got.NextUpdate)
	}
	// Another certificate brings the shard back to life.
	fresh, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), day)
	w.sweep(t)
	if list := w.shardCRL(t, issuing.ID, fresh.Shard); fresh.Shard != 1 || list.NextUpdate.Before(w.now) || list.Number.Int64() != last+1 {
		t.Errorf("shard %d until %v", fresh.Shard, list.NextUpdate)
	}
}

func TestAClockThatJumps(t *testing.T) {
	tests := map[string]struct {
		jump    time.Duration
		number  int64
		thisUpd time.Duration // after the first sweep
	}{
		"to just before the refresh point changes nothing":            {12*time.Hour - time.Second, 1, 0},
		"to the refresh point renews":                                 {12 * time.Hour, 2, 12 * time.Hour},
		"to the moment of nextUpdate renews at once":                  {24 * time.Hour, 2, 24 * time.Hour},
		"a year ahead renews at once":                                 {365 * 24 * time.Hour, 2, 365 * 24 * time.Hour},
		"back by a minute changes nothing":                            {-time.Minute, 1, 0},
		"back by more than clocks may differ replaces what was dated": {-time.Hour, 2, -time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, _, issuing := newHierarchy(t, "")
			w.now = w.now.Add(24 * time.Hour) // so that there is a past to go back to
			began := w.now
			w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
			w.sweep(t)
			w.now = w.now.Add(tt.jump)
			for range 3 {
				w.sweep(t)
			}
			list := w.crl(t, issuing.ID)
			if list.Number.Int64() != tt.number || !list.ThisUpdate.Equal(began.Add(tt.thisUpd)) || !list.NextUpdate.After(w.now) {
				t.Errorf("number %v, from %v to %v at %v", list.Number, list.ThisUpdate, list.NextUpdate, w.now)
			}
		})
	}
}

func TestARevocationAfterASmallStepBackIsNotDatedBeforeTheLastCRL(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	w.now = w.now.Add(-3 * time.Second)
	if err := w.revoke(t.Context(), c, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	if list := w.crl(t, issuing.ID); list.Number.Int64() != 2 || !list.ThisUpdate.Equal(noon) {
		t.Errorf("number %v dated %v", list.Number, list.ThisUpdate)
	}
}

func TestDeltaCRLs(t *testing.T) {
	w := newWorld(t)
	w.edit = func(c *ca.Config) { c.DeltaCRL = true }
	w.Authority = w.replica(t)
	root, err := w.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Test Root"})
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := w.CreateIssuing(t.Context(), operator, root.ID, ca.IssuingRequest{Name: "Test Issuing"})
	if err != nil {
		t.Fatal(err)
	}
	key := deviceKey(t, policies.KeyECP256)
	var devices []ca.Certificate
	for n := range 3 {
		c, leaf := w.enroll(t, fmt.Sprint("dev-", n), key, policies.DefaultProfile())
		devices = append(devices, c)
		lintClean(t, leaf.Raw)
	}
	w.sweep(t)
	state := func() string {
		t.Helper()
		whole, err := w.PublishedCRL(t.Context(), issuing.ID, 1)
		if err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprintf("whole %d (%d)", whole.Number, whole.Entries)
		delta, err := w.PublishedDelta(t.Context(), issuing.ID, 1)
		if err == nil {
			said += fmt.Sprintf(", delta %d on %d (%d)", delta.Number, delta.Base, delta.Entries)
		} else if !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
		return said
	}
	revoke := func(n int, r ca.Reason) func() {
		return func() {
			if err := w.revoke(t.Context(), devices[n], r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []struct {
		what  string
		after time.Duration
		do    func()
		want  string
	}{
		{"at first there is no delta", 0, func() {}, "whole 1 (0)"},
		{"a revocation makes a delta", time.Minute, revoke(0, ca.Superseded), "whole 1 (0), delta 2 on 1 (1)"},
		{"a second one is beside it", time.Minute, revoke(1, ca.Superseded), "whole 1 (0), delta 3 on 1 (2)"},
		{"the refresh point makes a whole one, and a delta of its number for those who have the one before", 12 * time.Hour, func() {}, "whole 4 (2), delta 4 on 1 (2)"},
		{"a stronger reason is a change", time.Minute, revoke(1, ca.KeyCompromise), "whole 4 (2), delta 5 on 1 (2)"},
		{"when nobody goes by the first any more the delta is on the next", 12 * time.Hour, func() {}, "whole 6 (2), delta 6 on 4 (1)"},
		{"a third one", time.Minute, revoke(2, ca.KeyCompromise), "whole 6 (2), delta 7 on 4 (2)"},
	} {
		w.now = w.now.Add(step.after)
		step.do()
		w.sweep(t)
		if got := state(); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
	kept := 0
	for _, c := range w.store.read().crls {
		if c.Issuer == issuing.ID && c.Shard == 1 {
			kept++
		}
	}
	if kept != 3 {
		t.Errorf("%d lists of the shard are kept, want two whole ones and a delta", kept)
	}
	if out, good := w.opensslVerify(t, devices[2]); good || !strings.Contains(out, "certificate revoked") {
		t.Errorf("revoked in the delta alone: %s", out)
	}
	w.edit = nil
	w.Authority = w.replica(t)
	w.now = w.now.Add(12 * time.Hour)
	w.sweep(t)
	if got := state(); got != "whole 8 (3)" {
		t.Errorf("when deltas are given up: %s", got)
	}
}

func TestAClockSetRightAfterARunAheadLosesNoRevocation(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	w.now = w.now.AddDate(4, 0, 0) // by this clock the certificate has ended, long ago
	for range 3 {
		w.now = w.now.Add(24 * time.Hour)
		w.sweep(t)
	}
	w.now = noon.Add(time.Hour)
	w.sweep(t)
	if list := w.shardCRL(t, issuing.ID, c.Shard); !list.ThisUpdate.Equal(w.now) || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("from %v it lists %d: a revoked certificate that has not expired is on no CRL (INV-S7)", list.ThisUpdate, len(list.RevokedCertificateEntries))
	}
}

func TestAShardThatHadEndedHasACRLBeforeACertificateNamesItAgain(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	day := policies.DefaultProfile()
	day.Lifetime, day.Backdate = 24*time.Hour, 0
	w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), day)
	for range 40 {
		w.sweep(t)
		w.now = w.now.Add(12 * time.Hour)
	}
	fresh := w.issue(t, "dev", deviceKey(t, policies.KeyECP256), day)
	if list := w.shardCRL(t, issuing.ID, 1); !list.NextUpdate.After(w.now) {
		t.Errorf("%s names a CRL that ended at %v (INV-S7)", fresh.Serial(), list.NextUpdate)
	}
}
