package provisioning

import (
	"context"
	"errors"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Sizes of what one transaction of the sweep does.
const (
	gatherPage = 250 // registrations read
	lookPage   = 100 // devices looked at
	tellPage   = 50  // devices told
	endPage    = 16  // devices retired, or records deleted: some ten writes each, and others wait
)

// campaignJob is the actor in the ledger.
const campaignJob = "job:campaign"

// The rule words of why a campaign pauses by itself.
const (
	RuleErrorRate      = "error-rate"
	RuleWaveIncomplete = "wave-incomplete" // all of it ended, and too few were seen
	RuleMoreDevices    = "more-devices-than-expected"
	RulePlanned        = "planned" // what it would end is on record, and waits for an operator's word
)

// SweepCampaigns carries every open campaign one page on: gathers its devices, sees who has
// come, tells those whose turn it is. more says that there is another page at once.
//
// Each page is one Update that takes the campaign first. Of ten processes one has it and the
// others pass it over; a crash loses at most a page, which is done again (ADR 0026).
func (e *Engine) SweepCampaigns(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	if going, _, err := e.steady(ctx, jobs, now); err != nil || !going {
		return false, err
	}
	var busy []Campaign
	err = jobs.View(ctx, func(tx Tx) error {
		list, err := tx.OpenCampaigns()
		for _, c := range list {
			var does bool
			if does, err = c.busy(tx, now); err != nil {
				return err
			}
			if does {
				busy = append(busy, c)
			}
		}
		return err
	})
	for _, c := range busy {
		again, stepErr := e.stepCampaign(ctx, jobs, c, now)
		more, err = more || again, errors.Join(err, stepErr)
	}
	return more, err
}

// busy says whether there is anything to do, so that a campaign that waits costs reads.
func (c Campaign) busy(tx Tx, now time.Time) (bool, error) {
	if c.State == CampaignGathering {
		return true, nil
	}
	looks, err := tx.CampaignLooks(c.Name, now, 1)
	if err != nil || len(looks) > 0 {
		return true, err
	}
	return c.room(now) > 0, nil
}

// room is how many devices the campaign may tell now, at most a page.
func (c Campaign) room(now time.Time) int {
	if c.State != CampaignRunning {
		return 0
	}
	if open, _ := c.Windows.Open(now); !open {
		return 0
	}
	n := int64(tellPage)
	if c.Act.Ends() {
		n = endPage
	}
	if left := c.left(now); left >= 0 {
		n = min(n, left)
	}
	if sizes := c.WaveSizes(c.Devices); c.Wave <= int64(len(sizes)) {
		return int(max(0, min(n, sizes[c.Wave-1]-c.WaveTaken)))
	}
	return 0
}

func (e *Engine) stepCampaign(ctx context.Context, jobs Store, read Campaign, now time.Time) (more bool, err error) {
	update, keys := jobs.Update, [][2][]byte(nil)
	if read.Act.Ends() && read.State != CampaignGathering { // who is shut out is so from the commit on
		update = jobs.UpdateTrust
		if keys, err = spareKeys(); err != nil {
			return false, err
		}
	}
	err = update(ctx, func(tx Tx) error {
		if err := tx.TakeCampaign(read.Name, read.Step); err != nil {
			return err
		}
		c, err := tx.Campaign(read.Name)
		if err != nil {
			return err
		}
		s := campaignStep{Campaign: &c, engine: e, tx: tx, now: now, keys: keys}
		if more, err = s.run(); err != nil {
			return err
		}
		return tx.UpdateCampaign(c)
	})
	switch {
	case fault.RuleOf(err) == RuleCampaignMoved: // another process is at it
		return false, nil
	case moved(err):
		return true, nil
	}
	return more, err
}

// campaignStep is one page of one campaign.
type campaignStep struct {
	*Campaign
	engine *Engine
	tx     Tx
	now    time.Time
	keys   [][2][]byte // of exceptions, for a page of devices that are retired

	entries map[Owner]Enrollment // read so far; without an id: there is none
}

func (s *campaignStep) run() (more bool, err error) {
	if s.State == CampaignGathering {
		return s.gather()
	}
	looked, err := s.look()
	if err != nil {
		return false, err
	}
	told, err := s.tell()
	if err != nil {
		return false, err
	}
	if s.State == CampaignRunning {
		if s.Failing(s.Campaign.Failed, s.Came) {
			return false, s.pause(s.tx, RuleErrorRate, s.now)
		}
		if err := s.advance(s.tx, s.now); err != nil {
			return false, err
		}
	}
	return looked == lookPage || told > 0 && s.room(s.now) > 0, nil
}

// advance begins the next wave when this one is told and seen, and ends the campaign after
// the last.
func (c *Campaign) advance(tx Tx, now time.Time) error {
	sizes := c.WaveSizes(c.Devices)
	if c.Wave <= int64(len(sizes)) && c.WaveTaken < sizes[c.Wave-1] {
		return nil
	}
	if c.Wave >= int64(len(sizes)) {
		waits, err := tx.CampaignWaits(c.Name)
		if err != nil || waits {
			return err
		}
		c.State, c.Updated, c.Version = CampaignDone, now, c.Version+1
		return tx.Append(c.event(now, campaignJob, audit.CampaignDone, map[string]any{"devices": c.Devices}))
	}
	switch {
	case c.WaveDone(c.WaveSeen, c.WaveTaken):
		return c.nextWave(tx, sizes, now)
	case c.waveEnded():
		return c.pause(tx, RuleWaveIncomplete, now)
	}
	return nil
}

// waveEnded says that nobody of the wave is waited for.
func (c *Campaign) waveEnded() bool { return c.WaveSeen+c.WaveEnded == c.WaveTaken }

func (c *Campaign) nextWave(tx Tx, sizes []int64, now time.Time) error {
	c.Wave, c.WaveTaken, c.WaveSeen, c.WaveEnded = c.Wave+1, 0, 0, 0
	return tx.Append(c.event(now, campaignJob, audit.CampaignWave, map[string]any{"wave": c.Wave, "devices": sizes[c.Wave-1]}))
}

// pause stops a campaign that does not go as it should.
func (c *Campaign) pause(tx Tx, rule string, now time.Time) error {
	c.State, c.Reason, c.Updated, c.Version = CampaignPaused, rule, now, c.Version+1
	return tx.Append(c.event(now, campaignJob, audit.CampaignPaused, map[string]any{"reason": rule, "wave": c.Wave, "failed": c.Failed, "came": c.Came}))
}

// count notes that devices of the current wave, or of one before, have moved.
func (c *Campaign) count(before, after CampaignDevice) {
	mine := after.Wave == c.Wave
	came := func(d DeviceState) bool { return d == DeviceStaged || d == DeviceSeen || d == DeviceRetired }
	seen := func(d DeviceState) bool { return d == DeviceSeen || d == DeviceRetired }
	if came(after.State) && !came(before.State) {
		c.Came++
	}
	if after.State == DeviceFailed && !after.ToldAt.IsZero() {
		c.Failed++
		if came(before.State) { // it was counted as one that came
			c.Came = max(0, c.Came-1)
		}
	}
	if mine && seen(after.State) && !seen(before.State) {
		c.WaveSeen++
	}
	if mine && (after.State == DeviceFailed || after.State == DeviceGone) && !seen(before.State) {
		c.WaveEnded++
	}
}

// entry reads the entry of a device, each once a page.
func (s *campaignStep) entry(o Owner) (Enrollment, error) {
	if en, known := s.entries[o]; known || o.IsZero() {
		return en, nil
	}
	en, err := s.tx.Enrollment(o)
	if fault.Is(err, fault.NotFound) {
		en, err = Enrollment{}, nil
	}
	if s.entries == nil {
		s.entries = make(map[Owner]Enrollment)
	}
	s.entries[o] = en
	return en, err
}

// spent notes that so many were told in this hour.
func (c *Campaign) spent(n int64, now time.Time) {
	c.Hour, c.Moved = policies.HourOf(now), c.movedIn(now)+n
}
