package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

// campaign has something in each of its fields.
func (w *world) campaign(name string) provisioning.Campaign {
	return provisioning.Campaign{
		Campaign: policies.Campaign{
			Name: name, Act: policies.ActRenew,
			Select: policies.Selection{
				Everything: true, Group: "line", Enrollment: "dev-1", Profile: "p", Hub: "hub-1", Orphaned: true, Issuer: "0011", ExpiresBefore: w.now.Add(time.Hour), IDs: []string{"dev-1"},
			},
			DeleteRecords: true, FromHub: true, Expect: 7, Canary: 0.1, CanaryDevices: 2, Waves: 3, Sizes: []int{4, 5}, WaveAfter: 0.8,
			Windows: policies.Windows{{Opens: "0 2 * * *", Length: time.Hour, Zone: "Europe/Berlin"}}, MaxPerHour: 9,
			Jitter: time.Minute, Patience: time.Hour, MaxErrorRate: 0.2, MinSample: 11,
		},
		State: provisioning.CampaignRunning, Reason: "why", Cursor: w.id("dev-9"), Devices: 12, Wave: 1, WaveTaken: 2, WaveSeen: 3, WaveEnded: 4,
		Came: 5, Failed: 6, Hour: 7, Moved: 8, Step: 9, Created: w.now, CreatedBy: "operator:ann", Updated: w.now.Add(time.Second), Version: 10,
	}
}

func (w *world) member(name, device string, place int64) provisioning.CampaignDevice {
	return provisioning.CampaignDevice{Campaign: name, ID: w.id(device), Place: place, State: provisioning.DeviceDue, Ref: rotation.Ref{byte(place)}, Updated: w.now}
}

func (w *world) gathered(c provisioning.Campaign, devices ...provisioning.CampaignDevice) {
	w.Helper()
	w.update(func(tx provisioning.Tx) error {
		if err := tx.InsertCampaign(c); err != nil {
			return err
		}
		for _, d := range devices {
			if err := tx.InsertCampaignDevice(d); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) readCampaign(name string) provisioning.Campaign {
	w.Helper()
	return view(w, func(tx provisioning.Tx) (provisioning.Campaign, error) { return tx.Campaign(name) })
}

func (w *world) members(f provisioning.CampaignDeviceFilter) []provisioning.CampaignDevice {
	w.Helper()
	return view(w, func(tx provisioning.Tx) ([]provisioning.CampaignDevice, error) { return tx.CampaignDevices(f) })
}

func campaigns(t *testing.T, open Open) {
	t.Run("a campaign is read back as it was written", func(t *testing.T) {
		w := newWorld(t, open)
		one, bare := w.campaign("one"), provisioning.Campaign{Campaign: policies.Campaign{Name: "two"}, State: provisioning.CampaignDone, Created: w.now, Updated: w.now, Version: 1}
		w.gathered(one)
		w.gathered(bare)
		same(w, w.readCampaign("one"), one)
		same(w, w.readCampaign("two"), bare)
		absent(w, func(tx provisioning.Tx) (provisioning.Campaign, error) { return tx.Campaign("three") })
		list := func(after string, limit int) []provisioning.Campaign {
			return view(w, func(tx provisioning.Tx) ([]provisioning.Campaign, error) { return tx.Campaigns(after, limit) })
		}
		same(w, list("", 0), []provisioning.Campaign{one, bare})
		same(w, list("one", 1), []provisioning.Campaign{bare})
		w.refused(fault.Conflict, "campaign-exists", func(tx provisioning.Tx) error { return tx.InsertCampaign(one) })
	})
	t.Run("those that are gathering, running or paused are open", func(t *testing.T) {
		w := newWorld(t, open)
		var want []string
		for i, state := range []provisioning.CampaignState{
			provisioning.CampaignGathering, provisioning.CampaignAborted, provisioning.CampaignRunning, provisioning.CampaignDone, provisioning.CampaignPaused,
		} {
			c := w.campaign(fmt.Sprintf("c%d", i))
			c.State = state
			w.gathered(c)
			if i%2 == 0 {
				want = append(want, c.Name)
			}
		}
		var got []string
		for _, c := range view(w, func(tx provisioning.Tx) ([]provisioning.Campaign, error) { return tx.OpenCampaigns() }) {
			got = append(got, c.Name)
		}
		same(w, got, want)
	})
	t.Run("of all that read a campaign at a step one takes it", func(t *testing.T) {
		w := newWorld(t, open)
		c := w.campaign("one")
		w.gathered(c)
		w.update(func(tx provisioning.Tx) error {
			if err := tx.TakeCampaign("one", c.Step); err != nil {
				return err
			}
			c.Came = 99
			return tx.UpdateCampaign(c)
		})
		w.refused(fault.Conflict, provisioning.RuleCampaignMoved, func(tx provisioning.Tx) error { return tx.TakeCampaign("one", c.Step) })
		w.refused(fault.Conflict, provisioning.RuleCampaignMoved, func(tx provisioning.Tx) error { return tx.TakeCampaign("gone", 1) })
		c.Step++
		same(w, w.readCampaign("one"), c)
	})
	t.Run("devices are taken in the order of their places", func(t *testing.T) {
		w := newWorld(t, open)
		a, b, c := w.member("one", "dev-a", 30), w.member("one", "dev-b", 10), w.member("one", "dev-c", 20)
		w.gathered(w.campaign("one"), a, b, c)
		due := func(limit int) []provisioning.CampaignDevice {
			return view(w, func(tx provisioning.Tx) ([]provisioning.CampaignDevice, error) { return tx.CampaignDue("one", limit) })
		}
		same(w, due(2), []provisioning.CampaignDevice{b, c})
		b.Wave, b.State, b.ToldAt, b.LookAt, b.Updated, b.Reason = 1, provisioning.DeviceTold, w.now, w.now.Add(time.Second), w.now.Add(time.Minute), "r"
		w.update(func(tx provisioning.Tx) error { return tx.UpdateCampaignDevice(b) })
		same(w, due(9), []provisioning.CampaignDevice{c, a})
		w.refused(fault.NotFound, "", func(tx provisioning.Tx) error { return tx.UpdateCampaignDevice(w.member("one", "dev-z", 1)) })

		same(w, w.members(provisioning.CampaignDeviceFilter{Campaign: "one"}), []provisioning.CampaignDevice{a, b, c})
		same(w, w.members(provisioning.CampaignDeviceFilter{Campaign: "one", After: a.ID, Limit: 1}), []provisioning.CampaignDevice{b})
		same(w, w.members(provisioning.CampaignDeviceFilter{Campaign: "one", State: provisioning.DeviceDue}), []provisioning.CampaignDevice{c, a})
		same(w, w.members(provisioning.CampaignDeviceFilter{Campaign: "one", State: provisioning.DeviceDue, After: c.ID, AfterPlace: c.Place}), []provisioning.CampaignDevice{a})
		same(w, w.members(provisioning.CampaignDeviceFilter{Campaign: "two"}), nil)
	})
	t.Run("what is planned of devices is read back, and summed up", func(t *testing.T) {
		w := newWorld(t, open)
		gone := provisioning.RetirePlan{Entry: provisioning.FateException, HubPlace: provisioning.HubPlace{Hub: far}, Certificates: 2, Open: []string{provisioning.OpenOutsideCertificate}}
		a, b, c, d := w.member("one", "dev-a", 1), w.member("one", "dev-b", 2), w.member("one", "dev-c", 3), w.member("one", "dev-d", 4)
		a.Plan, b.Plan = gone, gone
		c.Plan.Entry = provisioning.FateDisabled
		d.State, d.Reason = provisioning.DeviceFailed, "device-unknown"
		w.gathered(w.campaign("one"), a, b, c, d)
		w.gathered(w.campaign("two"), w.member("two", "dev-a", 1))
		same(w, w.members(provisioning.CampaignDeviceFilter{Campaign: "one"}), []provisioning.CampaignDevice{a, b, c, d})
		b.State, b.Wave = provisioning.DeviceFailed, 1 // it failed when it was its turn
		w.update(func(tx provisioning.Tx) error { return tx.UpdateCampaignDevice(b) })
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.CampaignPlanRow, error) { return tx.CampaignPlan("one") }), []provisioning.CampaignPlanRow{
			{Entry: provisioning.FateDisabled, Devices: 1},
			{Entry: provisioning.FateException, Hub: far, Open: gone.Open, Devices: 2, Certificates: 4},
		})
	})
	t.Run("devices are looked at when it is time", func(t *testing.T) {
		w := newWorld(t, open)
		waits := func() bool {
			return view(w, func(tx provisioning.Tx) (bool, error) { return tx.CampaignWaits("one") })
		}
		soon, later, never := w.member("one", "dev-a", 1), w.member("one", "dev-b", 2), w.member("one", "dev-c", 3)
		w.gathered(w.campaign("one"), never)
		if waits() {
			t.Error("nobody is to be looked at")
		}
		soon.LookAt, later.LookAt = w.now, w.now.Add(time.Minute)
		w.update(func(tx provisioning.Tx) error {
			if err := tx.InsertCampaignDevice(later); err != nil {
				return err
			}
			return tx.InsertCampaignDevice(soon)
		})
		looks := func(now time.Time) []provisioning.CampaignDevice {
			return view(w, func(tx provisioning.Tx) ([]provisioning.CampaignDevice, error) {
				return tx.CampaignLooks("one", now, 10)
			})
		}
		same(w, looks(w.now.Add(-time.Second)), nil)
		same(w, looks(w.now), []provisioning.CampaignDevice{soon})
		same(w, looks(w.now.Add(time.Hour)), []provisioning.CampaignDevice{soon, later})
		if !waits() {
			t.Error("two are to be looked at")
		}
	})
	t.Run("devices are counted by wave, state and reason", func(t *testing.T) {
		w := newWorld(t, open)
		list := make([]provisioning.CampaignDevice, 5)
		for i := range list {
			list[i] = w.member("one", fmt.Sprintf("dev-%d", i), int64(i))
			if i > 1 {
				list[i].Wave, list[i].State, list[i].Reason = 1, provisioning.DeviceFailed, []string{"not-coming", "entry-disabled"}[i%2]
			}
		}
		w.gathered(w.campaign("one"), list...)
		counts := view(w, func(tx provisioning.Tx) ([]provisioning.CampaignCount, error) { return tx.CampaignCounts("one") })
		same(w, counts, []provisioning.CampaignCount{{Wave: 0, State: provisioning.DeviceDue, Devices: 2}, {Wave: 1, State: provisioning.DeviceFailed, Devices: 3}})
		reasons := view(w, func(tx provisioning.Tx) (map[string]int64, error) { return tx.CampaignReasons("one") })
		if d := cmp.Diff(map[string]int64{"not-coming": 2, "entry-disabled": 1}, reasons); d != "" {
			t.Error(d)
		}
	})
}
