package years_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

const day = 24 * time.Hour

// devices is how many: those of the goal under `make soak`.
func devices() int {
	if os.Getenv("MUSTER_SOAK") == "1" {
		return 2000
	}
	return 12
}

// TestThreeYearsOfAFleet: no device is ever without a working credential while its plan
// allowed it one, no slot that was retired is accepted, every move has its ledger row with
// a reason, and the invariants hold after every day (scenarios H4, H7, H10, H13).
func TestThreeYearsOfAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, devices())
		for f.day = range 3 * 365 {
			f.spend()
		}
		if f.count.attested < len(f.units) || f.count.late == 0 || f.count.crashes == 0 || f.count.retired < len(f.units) {
			t.Errorf("too little happened for this to say much: %+v", f.count)
		}
		if f.rolls != 2 || f.issuers != 2 {
			t.Errorf("the line's CA rolled %d times, and there were %d issuing CAs", f.rolls, f.issuers)
		}
		t.Logf("%d devices: %+v", len(f.units), f.count)
	})
}

// fleet is the world with its devices.
type fleet struct {
	*world
	root  *testkit.Entity
	lines []*testkit.Entity // intermediates, the one of today last
	units []*unit
	day   int

	rolls, issuers int
	audited        map[string]string // what left a pair, and why, by the ledger
	read           int64             // ledger rows read so far

	count struct{ attested, renewed, late, slept, retired, refused, crashes, checked int }
}

func newFleet(t *testing.T, n int) *fleet {
	f := &fleet{world: newWorld(t), audited: map[string]string{}, issuers: 1}
	f.root = testkit.Root(t, "Factory-Root", dates())
	f.anchor(f.root)
	f.lines = []*testkit.Entity{f.root.Issue(t, "Line-1", testkit.AsCA(), dates())}
	draft := provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: f.id(line)}, Spelled: line, Enabled: true, Allocation: policies.Hashed,
		Attestation: provisioning.Attestation{Role: provisioning.RoleSigning}, Reprovision: policies.DefaultReprovisionPolicy(), Profile: "default",
	}
	draft.Attestation.Slots[0].Certificate = f.lines[0].PEM()
	_, _, err := f.engine.PutPlan(f.ctx(), operator, policies.RotationPlan{Name: "lines", Role: policies.RollGroups, Deadline: 300 * day}, provisioning.Precondition{})
	f.must(err)
	_, _, err = f.engine.Put(f.ctx(), operator, draft, provisioning.Precondition{})
	f.must(err)
	for i := range n {
		name := fmt.Sprintf("unit-%04d", i)
		f.units = append(f.units, &unit{name: name, est: i%2 == 0, drowsy: i == 0, factory: f.makes(name), next: time.Now().Add(time.Duration(rand.Int64N(int64(60 * day))))})
	}
	return f
}

// makes is what the factory gives a device, today.
func (f *fleet) makes(name string) *testkit.Entity {
	return f.lines[len(f.lines)-1].Issue(f, name, dates())
}

// admits says whether an intermediate stands in a slot of the line's group.
func (f *fleet) admits(e *testkit.Entity) bool {
	f.Helper()
	en, err := f.engine.Enrollment(f.ctx(), f.group())
	f.must(err)
	for _, c := range en.Credentials {
		if verify.ThumbprintOf(c.Certificate) == verify.ThumbprintOf(e.Cert.Raw) {
			return true
		}
	}
	return false
}

func (f *fleet) group() provisioning.Owner {
	return provisioning.Owner{Kind: provisioning.Group, ID: f.id(line)}
}

// parts is how often in a day devices and sweeps have their turn.
const parts = 2

// spend is one day.
func (f *fleet) spend() {
	f.Helper()
	f.operate()
	for range parts {
		time.Sleep(day / time.Duration(parts))
		for _, u := range f.units {
			if !time.Now().Before(u.next) {
				f.act(u)
			}
		}
		if rand.IntN(15*parts) == 0 {
			// Killed in the middle of a sweep.
			ctx, cancel := context.WithTimeout(f.ctx(), time.Duration(rand.IntN(3))*time.Microsecond)
			_ = f.sweep(ctx)
			cancel()
			f.crash()
			f.count.crashes++
		}
		f.must(f.sweep(f.ctx()))
	}
	f.look()
}

// operate is what people do on some days.
func (f *fleet) operate() {
	f.Helper()
	switch f.day {
	case 200, 650:
		next := f.root.Issue(f, fmt.Sprintf("Line-%d", len(f.lines)+1), testkit.AsCA(), dates())
		_, _, err := f.engine.StageCredential(f.ctx(), operator, f.group(), provisioning.Staging{Certificate: next.PEM()}, provisioning.Precondition{})
		f.must(err)
		f.lines = append(f.lines, next)
		for _, u := range f.units { // serviced one by one in the months that follow
			if !u.asleep {
				u.service, u.next = true, time.Now().Add(time.Duration(rand.Int64N(int64(90*day))))
			}
		}
	case 400:
		roots, err := f.authority.Issuers(f.ctx())
		f.must(err)
		for _, i := range roots {
			if i.Role == ca.RoleRoot {
				_, err = f.authority.CreateIssuing(f.ctx(), operator, i.ID, ca.IssuingRequest{Name: "Issuing 2"})
				f.must(err)
			}
		}
	case 430:
		list, err := f.authority.Issuers(f.ctx())
		f.must(err)
		for _, i := range list {
			if i.State == ca.IssuerPrepared {
				_, err = f.authority.Promote(f.ctx(), operator, i.ID, ca.Promotion{})
				f.must(err)
				f.issuers++
			}
		}
	}
}

// look is what must hold at the end of each day.
func (f *fleet) look() {
	f.Helper()
	violations, err := store.Check(f.ctx(), f.db)
	f.must(err)
	if len(violations) > 0 {
		f.Fatalf("on %s: %v", today(), violations)
	}
	f.ledger()
	for i, u := range f.units {
		f.moved(u)
		if (i+f.day)%10 == 0 {
			f.stands(u)
		}
	}
	if en, err := f.engine.Enrollment(f.ctx(), f.group()); err != nil || len(en.Credentials) == 0 {
		f.Fatalf("on %s the group has no CA: %v", today(), err)
	} else if len(en.Credentials) == 1 && len(f.lines) > f.rolls+1 && verify.ThumbprintOf(en.Credentials[0].Certificate) == verify.ThumbprintOf(f.lines[len(f.lines)-1].Cert.Raw) {
		f.rolls++
	}
}

// ledger reads what was written since yesterday: what left a pair, and the reason given.
func (f *fleet) ledger() {
	f.Helper()
	end, err := f.db.Log().Horizon(f.ctx())
	f.must(err)
	for f.read < end {
		rows, err := f.db.Log().Rows(f.ctx(), f.read, end, 500)
		f.must(err)
		for _, row := range rows {
			f.read = row.Seq
			var body struct {
				Ref, SHA256, Reason string
				MadeRoom            []string
			}
			f.must(json.Unmarshal(row.Body, &body))
			for _, ref := range body.MadeRoom {
				f.audited[ref] = "made room"
			}
			switch row.Action {
			case audit.RollRetired, audit.RollDropped:
				f.audited[body.Ref] = body.Reason
			case audit.Revoked:
				f.audited[body.SHA256] = body.Reason
			}
		}
	}
}

// moved looks at what has left a device's pair since yesterday.
func (f *fleet) moved(u *unit) {
	f.Helper()
	if u.leaf == nil {
		return
	}
	d, err := f.engine.Device(f.ctx(), f.id(u.name))
	f.must(err)
	now := [2]ref{d.Pair.Cell(rotation.Primary).Ref, d.Pair.Cell(rotation.Secondary).Ref}
	for _, r := range u.seen {
		if r == (ref{}) || r == now[0] || r == now[1] {
			continue
		}
		f.count.retired++
		if f.audited[verify.Thumbprint(r).String()] == "" {
			f.Fatalf("on %s %s left the pair of %s, and no ledger row says why", today(), verify.Thumbprint(r), u.name)
		}
		f.refuses(u, r)
	}
	u.seen = now
}

// refuses wants a certificate that has left its pair to be nobody's credential any more.
func (f *fleet) refuses(u *unit, r ref) {
	f.Helper()
	for _, leaf := range u.left {
		if verify.ThumbprintOf(leaf.Raw) != r {
			continue
		}
		_, err := f.engine.Poll(f.ctx(), provisioning.PollRequest{Attempt: f.showing(u.name, leaf)})
		if !fault.Is(err, fault.Unauthenticated) {
			f.Fatalf("on %s a retired certificate of %s was taken: %v", today(), u.name, err)
		}
		f.count.refused++
	}
}

// stands wants what a device holds to be taken, here and at its hub.
func (f *fleet) stands(u *unit) {
	f.Helper()
	if u.leaf == nil || time.Now().After(u.leaf.NotAfter) {
		return
	}
	f.count.checked++
	if _, err := f.engine.Poll(f.ctx(), provisioning.PollRequest{Attempt: f.showing(u.name, u.leaf)}); err != nil {
		f.Fatalf("on %s the certificate of %s is refused: %v", today(), u.name, err)
	}
	d, err := f.engine.HubDevice(f.ctx(), hubName, f.id(u.name), "")
	f.must(err)
	want := strings.ToUpper(verify.ThumbprintOf(u.leaf.Raw).String())
	if d.Auth.Thumbprints[0] != want && d.Auth.Thumbprints[1] != want {
		f.Fatalf("on %s the hub would refuse %s: it has %v, the device shows %s", today(), u.name, d.Auth.Thumbprints, want)
	}
}
