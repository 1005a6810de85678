package provisioning

import (
	"testing"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

func TestProgressIsReadFromTheRegistration(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	old, next, other := rotation.Ref{1}, rotation.Ref{2}, rotation.Ref{3}
	cell := func(ref rotation.Ref, state rotation.State, days int) rotation.Cell {
		return rotation.Cell{Ref: ref, State: state, NotBefore: now, NotAfter: now.AddDate(0, 0, days)}
	}
	none := rotation.Cell{}
	for _, c := range []struct {
		name string
		a, b rotation.Cell
		want DeviceState
	}{
		{"nothing has changed", cell(old, rotation.Active, 30), none, DeviceTold},
		{"what retires beside it is of the last roll", cell(old, rotation.Active, 30), cell(other, rotation.Retiring, 5), DeviceTold},
		{"its successor waits", cell(old, rotation.Active, 30), cell(next, rotation.Staged, 90), DeviceStaged},
		{"a shorter successor is one too", cell(old, rotation.Active, 30), cell(next, rotation.Staged, 5), DeviceStaged},
		{"its successor is in use", cell(old, rotation.Retiring, 30), cell(next, rotation.Active, 90), DeviceSeen},
		{"the slots do not matter", cell(next, rotation.Active, 90), cell(old, rotation.Retiring, 30), DeviceSeen},
		{"it has left its slot", none, cell(next, rotation.Active, 90), DeviceRetired},
		{"it was withdrawn, and another was fetched", none, cell(next, rotation.Staged, 90), DeviceStaged},
		{"it was withdrawn, and nothing is there", none, none, DeviceTold},
		{"of two that were never seen the later follows", cell(old, rotation.Staged, 30), cell(next, rotation.Staged, 90), DeviceStaged},
		{"one that was there before does not", cell(old, rotation.Staged, 30), cell(other, rotation.Staged, 5), DeviceTold},
	} {
		t.Run(c.name, func(t *testing.T) {
			pair, err := rotation.RestorePair(c.a, c.b)
			if err != nil {
				t.Fatal(err)
			}
			d := CampaignDevice{State: DeviceTold, Ref: old, ToldAt: now}
			renew := Campaign{Campaign: policies.Campaign{Act: policies.ActRenew}, Created: now}
			reg := Registration{Pair: pair, Operation: OperationRecord{At: now.Add(time.Minute)}}
			if got := d.progress(renew, reg); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			// One that was staged before the device was told is no answer to that.
			reg.Operation.At = now
			want := c.want
			if want == DeviceStaged {
				want = DeviceTold
			}
			if got := d.progress(renew, reg); got != want {
				t.Errorf("from before: got %s, want %s", got, want)
			}
		})
	}
	again := Campaign{Campaign: policies.Campaign{Act: policies.ActReprovision}, Created: now}
	for _, c := range []struct {
		name       string
		told, came time.Time
		want       DeviceState
	}{
		{"it came before the campaign", time.Time{}, now, DeviceDue},
		{"it came before its turn", time.Time{}, now.Add(time.Second), DeviceSeen},
		{"it came before it was told", now.Add(time.Minute), now.Add(time.Second), DeviceDue},
		{"it came", now.Add(time.Minute), now.Add(time.Hour), DeviceSeen},
	} {
		d := CampaignDevice{State: DeviceDue, ToldAt: c.told}
		if got := d.progress(again, Registration{Operation: OperationRecord{At: c.came}}); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestTheCertificateInUse(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	cell := func(n byte, state rotation.State, days int) rotation.Cell {
		return rotation.Cell{Ref: rotation.Ref{n}, State: state, NotAfter: now.AddDate(0, 0, days)}
	}
	for _, c := range []struct {
		name   string
		a, b   rotation.Cell
		want   byte // 0: none
		before bool // all end within 10 days
	}{
		{"none", rotation.Cell{}, rotation.Cell{}, 0, false},
		{"the active one", cell(1, rotation.Staged, 90), cell(2, rotation.Active, 5), 2, false},
		{"of two never seen the one that ends last", cell(1, rotation.Staged, 5), cell(2, rotation.Staged, 7), 2, true},
		{"what retires is none", cell(1, rotation.Retiring, 5), rotation.Cell{}, 0, false},
		{"what retires does not count for when it ends", cell(1, rotation.Retiring, 90), cell(2, rotation.Active, 5), 2, true},
	} {
		pair, err := rotation.RestorePair(c.a, c.b)
		if err != nil {
			t.Fatal(err)
		}
		if got := cellInUse(pair).Ref[0]; got != c.want {
			t.Errorf("%s: %d", c.name, got)
		}
		if got := endsBefore(pair, now.AddDate(0, 0, 10)); got != c.before {
			t.Errorf("%s: ends before %v", c.name, got)
		}
	}
}
