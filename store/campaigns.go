package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

var (
	campaignColumns = cols("t id, t settings, t state, t reason, t cursor, i devices, i wave, i wave_taken, i wave_seen, i wave_ended, " +
		"i came, i failed, i hour, i moved, i step, i created, t created_by, i updated, i version")
	campaignDeviceColumns = cols("t campaign, t registration_id, i place, i wave, t state, b ref, i told_at, i look_at, i updated, t reason, t entry, t hub, i certificates, t stays_open")
)

var (
	selectCampaign  = statement("SELECT " + campaignColumns.list("") + " FROM campaigns WHERE id = ?")
	selectCampaigns = statement("SELECT " + campaignColumns.list("") + " FROM campaigns WHERE id > ? ORDER BY id LIMIT ?")
	// The state list is that of the index campaigns_open.
	selectOpenCampaigns = statement("SELECT " + campaignColumns.list("") + " FROM campaigns WHERE state IN ('gathering', 'running', 'paused') ORDER BY id")
	insertCampaign      = statement(insert("campaigns", campaignColumns)).unique(exists("campaign"))
	// On PostgreSQL the row stays locked until the commit: who comes second waits, and misses.
	takeCampaign   = statement("UPDATE campaigns SET step = step + 1 WHERE id = ? AND step = ?").missed(errCampaignMoved)
	updateCampaign = statement("UPDATE campaigns SET " + set(campaignColumns, "id", "settings", "step", "created", "created_by") + " WHERE id = ?").
			missed(notFound("campaign"))

	insertCampaignDevice = statement(insert("campaign_devices", campaignDeviceColumns))
	updateCampaignDevice = statement("UPDATE campaign_devices SET wave = ?, state = ?, told_at = ?, look_at = ?, updated = ?, reason = ? " +
		"WHERE campaign = ? AND registration_id = ?").missed(notFound("campaign-device"))
	selectCampaignDue = statement("SELECT " + campaignDeviceColumns.list("") + " FROM campaign_devices " +
		"WHERE campaign = ? AND state = 'due' AND wave = 0 ORDER BY place, registration_id LIMIT ?")
	selectCampaignLooks = statement("SELECT " + campaignDeviceColumns.list("") + " FROM campaign_devices " +
		"WHERE campaign = ? AND look_at <> 0 AND look_at <= ? ORDER BY look_at LIMIT ?")
	campaignWaits        = statement("SELECT count(*) FROM (SELECT 1 FROM campaign_devices WHERE campaign = ? AND look_at <> 0 LIMIT 1) waits")
	countCampaignDevices = statement("SELECT wave, state, count(*) FROM campaign_devices WHERE campaign = ? GROUP BY wave, state ORDER BY wave, state")
	campaignPlan         = statement("SELECT entry, hub, stays_open, count(*), CAST(sum(certificates) AS BIGINT) FROM campaign_devices " +
		"WHERE campaign = ? AND (state <> 'failed' OR wave <> 0) GROUP BY entry, hub, stays_open ORDER BY entry, hub, stays_open")
	countCampaignReasons = statement("SELECT reason, count(*) FROM campaign_devices WHERE campaign = ? AND state = 'failed' GROUP BY reason ORDER BY reason")
)

var errCampaignMoved = fault.New(fault.Conflict, provisioning.RuleCampaignMoved, "The campaign was changed by somebody else.")

// campaignSettings is a campaign's content as stored. Durations are nanoseconds.
type campaignSettings struct {
	Act           policies.CampaignAct `json:"act"`
	Everything    bool                 `json:"everything,omitempty"`
	Group         string               `json:"group,omitempty"`
	Enrollment    string               `json:"enrollment,omitempty"`
	Profile       string               `json:"profile,omitempty"`
	Hub           string               `json:"hub,omitempty"`
	Orphaned      bool                 `json:"orphaned,omitempty"`
	Issuer        string               `json:"issuer,omitempty"`
	ExpiresBefore int64                `json:"expiresBefore,omitempty"`
	IDs           []string             `json:"ids,omitempty"`
	DeleteRecords bool                 `json:"deleteRecords,omitempty"`
	FromHub       bool                 `json:"fromHub,omitempty"`
	WardHub       string               `json:"wardHub,omitempty"` // of a quarantine
	WardTwin      []byte               `json:"wardTwin,omitempty"`
	WardWhy       string               `json:"wardWhy,omitempty"`
	Expect        int                  `json:"expect,omitempty"`
	Canary        float64              `json:"canary,omitempty"`
	CanaryDevices int                  `json:"canaryDevices,omitempty"`
	Waves         int                  `json:"waves,omitempty"`
	Sizes         []int                `json:"sizes,omitempty"`
	WaveAfter     float64              `json:"waveAfter"`
	Windows       policies.Windows     `json:"windows,omitempty"`
	MaxPerHour    int                  `json:"maxPerHour,omitempty"`
	Jitter        time.Duration        `json:"jitter,omitempty"`
	Patience      time.Duration        `json:"patience"`
	MaxErrorRate  float64              `json:"maxErrorRate"`
	MinSample     int                  `json:"minSample"`
}

func writeCampaign(c policies.Campaign) (string, error) {
	s, err := json.Marshal(campaignSettings{
		Act: c.Act, Everything: c.Select.Everything, Group: c.Select.Group, Enrollment: c.Select.Enrollment, Profile: c.Select.Profile,
		Hub: c.Select.Hub, Orphaned: c.Select.Orphaned, Issuer: c.Select.Issuer, ExpiresBefore: micros(c.Select.ExpiresBefore), IDs: c.Select.IDs,
		DeleteRecords: c.DeleteRecords, FromHub: c.FromHub, Expect: c.Expect,
		WardHub: c.Quarantine.Hub, WardTwin: c.Quarantine.Twin, WardWhy: c.Quarantine.Why,
		Canary: c.Canary, CanaryDevices: c.CanaryDevices, Waves: c.Waves, Sizes: c.Sizes, WaveAfter: c.WaveAfter,
		Windows: c.Windows, MaxPerHour: c.MaxPerHour, Jitter: c.Jitter, Patience: c.Patience, MaxErrorRate: c.MaxErrorRate, MinSample: c.MinSample,
	})
	if err != nil {
		return "", fmt.Errorf("storing campaign %q: %w", c.Name, err)
	}
	return string(s), nil
}

// readCampaign reads a campaign's content; a damaged one spoils the row.
func readCampaign(r *row, name string) policies.Campaign {
	var s campaignSettings
	if err := json.Unmarshal([]byte(r.text()), &s); err != nil && r.err == nil {
		r.err = fmt.Errorf("campaign %q on record: %w", name, err)
	}
	c := policies.Campaign{
		Name: name, Act: s.Act, Select: policies.Selection{
			Everything: s.Everything, Group: s.Group, Enrollment: s.Enrollment, Profile: s.Profile, Hub: s.Hub, Orphaned: s.Orphaned, Issuer: s.Issuer, IDs: s.IDs,
		},
		DeleteRecords: s.DeleteRecords, FromHub: s.FromHub, Expect: s.Expect, Canary: s.Canary, CanaryDevices: s.CanaryDevices, Waves: s.Waves, Sizes: s.Sizes, WaveAfter: s.WaveAfter,
		Windows: s.Windows, MaxPerHour: s.MaxPerHour, Jitter: s.Jitter, Patience: s.Patience, MaxErrorRate: s.MaxErrorRate, MinSample: s.MinSample,
	}
	c.Quarantine = policies.Quarantining{Hub: s.WardHub, Twin: s.WardTwin, Why: s.WardWhy}
	if s.ExpiresBefore != 0 {
		c.Select.ExpiresBefore = time.UnixMicro(s.ExpiresBefore).UTC()
	}
	return c
}

func scanCampaign(r *row) provisioning.Campaign {
	name := r.text()
	return provisioning.Campaign{
		Campaign: readCampaign(r, name), State: provisioning.CampaignState(r.text()), Reason: r.text(), Cursor: r.id(), Devices: r.int(),
		Wave: r.int(), WaveTaken: r.int(), WaveSeen: r.int(), WaveEnded: r.int(), Came: r.int(), Failed: r.int(), Hour: r.int(), Moved: r.int(),
		Step: r.int(), Created: r.time(), CreatedBy: r.text(), Updated: r.time(), Version: r.int(),
	}
}

func scanCampaignDevice(r *row) provisioning.CampaignDevice {
	return provisioning.CampaignDevice{
		Campaign: r.text(), ID: r.id(), Place: r.int(), Wave: r.int(), State: provisioning.DeviceState(r.text()), Ref: rotation.Ref(r.hash()),
		ToldAt: r.time(), LookAt: r.time(), Updated: r.time(), Reason: r.text(),
		Plan: provisioning.RetirePlan{
			Entry: provisioning.EntryFate(r.text()), HubPlace: provisioning.HubPlace{Hub: r.text()}, Certificates: r.int(), Open: words(r.text()),
		},
	}
}

func (t *tx) Campaign(name string) (provisioning.Campaign, error) {
	return one(t, selectCampaign, notFound("campaign"), scanCampaign, name)
}

func (t *tx) Campaigns(after string, limit int) ([]provisioning.Campaign, error) {
	return all(t, selectCampaigns, scanCampaign, after, atMost(limit))
}

func (t *tx) OpenCampaigns() ([]provisioning.Campaign, error) {
	return all(t, selectOpenCampaigns, scanCampaign)
}

func (t *tx) InsertCampaign(c provisioning.Campaign) error {
	settings, err := writeCampaign(c.Campaign)
	if err != nil {
		return err
	}
	return t.exec(insertCampaign, c.Name, settings, string(c.State), c.Reason, c.Cursor.String(), c.Devices, c.Wave, c.WaveTaken, c.WaveSeen, c.WaveEnded,
		c.Came, c.Failed, c.Hour, c.Moved, c.Step, micros(c.Created), c.CreatedBy, micros(c.Updated), c.Version)
}

func (t *tx) TakeCampaign(name string, step int64) error { return t.exec(takeCampaign, name, step) }

func (t *tx) UpdateCampaign(c provisioning.Campaign) error {
	return t.exec(updateCampaign, string(c.State), c.Reason, c.Cursor.String(), c.Devices, c.Wave, c.WaveTaken, c.WaveSeen, c.WaveEnded,
		c.Came, c.Failed, c.Hour, c.Moved, micros(c.Updated), c.Version, c.Name)
}

func (t *tx) InsertCampaignDevice(d provisioning.CampaignDevice) error {
	return t.exec(insertCampaignDevice, d.Campaign, d.ID.String(), d.Place, d.Wave, string(d.State), d.Ref[:], micros(d.ToldAt), micros(d.LookAt), micros(d.Updated), d.Reason,
		string(d.Plan.Entry), d.Plan.Hub, d.Plan.Certificates, strings.Join(d.Plan.Open, " "))
}

func (t *tx) UpdateCampaignDevice(d provisioning.CampaignDevice) error {
	return t.exec(updateCampaignDevice, d.Wave, string(d.State), micros(d.ToldAt), micros(d.LookAt), micros(d.Updated), d.Reason, d.Campaign, d.ID.String())
}

func (t *tx) CampaignDue(name string, limit int) ([]provisioning.CampaignDevice, error) {
	return all(t, selectCampaignDue, scanCampaignDevice, name, atMost(limit))
}

func (t *tx) CampaignLooks(name string, now time.Time, limit int) ([]provisioning.CampaignDevice, error) {
	return all(t, selectCampaignLooks, scanCampaignDevice, name, micros(now), atMost(limit))
}

func (t *tx) CampaignWaits(name string) (bool, error) {
	n, err := one(t, campaignWaits, notFound("campaign"), (*row).int, name)
	return n > 0, err
}

func (t *tx) CampaignDevices(f provisioning.CampaignDeviceFilter) ([]provisioning.CampaignDevice, error) {
	var w where
	w.add("campaign = ?", f.Campaign)
	order := "registration_id"
	if f.State != "" {
		order = "wave, place, registration_id"
		w.add("state = ?", string(f.State))
		if !f.After.IsZero() {
			w.add("(wave, place, registration_id) > (?, ?, ?)", f.AfterWave, f.AfterPlace, f.After.String())
		}
	} else if !f.After.IsZero() {
		w.add("registration_id > ?", f.After.String())
	}
	s, args := w.list("SELECT "+campaignDeviceColumns.list("")+" FROM campaign_devices", order, f.Limit)
	return all(t, s, scanCampaignDevice, args...)
}

func (t *tx) CampaignCounts(name string) ([]provisioning.CampaignCount, error) {
	return all(t, countCampaignDevices, func(r *row) provisioning.CampaignCount {
		return provisioning.CampaignCount{Wave: r.int(), State: provisioning.DeviceState(r.text()), Devices: r.int()}
	}, name)
}

func (t *tx) CampaignReasons(name string) (map[string]int64, error) {
	reasons := map[string]int64{}
	err := t.query(countCampaignReasons, func(r *row) error {
		reason := r.text()
		reasons[reason] = r.int()
		return nil
	}, name)
	return reasons, err
}

func (t *tx) CampaignPlan(name string) ([]provisioning.CampaignPlanRow, error) {
	return all(t, campaignPlan, func(r *row) provisioning.CampaignPlanRow {
		return provisioning.CampaignPlanRow{Entry: provisioning.EntryFate(r.text()), Hub: r.text(), Open: words(r.text()), Devices: r.int(), Certificates: r.int()}
	}, name)
}
