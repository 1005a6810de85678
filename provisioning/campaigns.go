package provisioning

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// CampaignState is where a campaign stands.
type CampaignState string

// Gathering → running → done. Either may be paused, and goes on where it was when it is
// resumed. What is aborted stays so.
const (
	CampaignGathering CampaignState = "gathering"
	CampaignRunning   CampaignState = "running"
	CampaignPaused    CampaignState = "paused"
	CampaignAborted   CampaignState = "aborted"
	CampaignDone      CampaignState = "done"
)

// Campaign is a campaign on record. Its name is its id, and is never used again.
type Campaign struct {
	policies.Campaign
	State   CampaignState
	Reason  string                // why it is paused or aborted: a rule word, or an operator's text
	Cursor  verify.RegistrationID // the last device looked at while gathering
	Devices int64                 // in it, so far

	Wave      int64 // the one that is being told; 0 while gathering
	WaveTaken int64 // of its devices, those that are due no more
	WaveSeen  int64 // of those, the ones that were seen
	WaveEnded int64 // of those, the ones that failed or are gone

	Came, Failed int64 // devices, since the campaign was started or resumed
	Hour, Moved  int64 // how many were told in that hour (policies.HourOf)

	Step      int64 // counts all changes (CampaignTx.TakeCampaign); Version those that operators see
	Created   time.Time
	CreatedBy string
	Updated   time.Time
	Version   int64
}

// DeviceState is where a device stands in its campaign.
type DeviceState string

// The funnel, and the two ways out of it. A device that is reprovisioned ends as seen.
const (
	DeviceDue     DeviceState = "due"
	DeviceTold    DeviceState = "told"
	DeviceStaged  DeviceState = "staged"  // it has the new certificate
	DeviceSeen    DeviceState = "seen"    // it uses it, or has registered again
	DeviceRetired DeviceState = "retired" // the one it had left its slot
	DeviceFailed  DeviceState = "failed"
	DeviceGone    DeviceState = "gone" // its registration was deleted
)

// CampaignDevice is a device in a campaign.
type CampaignDevice struct {
	Campaign string
	ID       verify.RegistrationID
	Place    int64 // in the campaign's order, 0 to 2^63-1
	Wave     int64 // 0: it was not its turn yet
	State    DeviceState
	Ref      rotation.Ref // the certificate in use when the device was gathered; zero: none
	ToldAt   time.Time    // zero: it was not
	LookAt   time.Time    // when its registration is looked at next; zero: it is due, or has ended
	Updated  time.Time
	Reason   string     // the rule word of why it failed
	Plan     RetirePlan // of a campaign that ends something: Entry, Hub, Certificates and Open, as they were when it was gathered
}

// CampaignPlanRow sums up the devices of a campaign for which the same is planned.
type CampaignPlanRow struct {
	Entry        EntryFate // "": of records that are deleted
	Hub          string    // that they are on
	Open         []string
	Devices      int64
	Certificates int64
}

// CampaignCount is how many devices of a wave are in a state.
type CampaignCount struct {
	Wave    int64 // 0: those whose turn has not come
	State   DeviceState
	Devices int64
}

// CampaignDeviceFilter narrows a list of a campaign's devices. The order is by id; with a
// State it is by wave, then as they were told. The After… are those of the last one seen.
type CampaignDeviceFilter struct {
	Campaign              string
	State                 DeviceState
	After                 verify.RegistrationID
	AfterWave, AfterPlace int64
	Limit                 int
}

// RuleCampaignMoved is the rule word for a campaign that is no longer as it was read.
const RuleCampaignMoved = "campaign-moved"

// CampaignTx is the part of a transaction that is about campaigns.
type CampaignTx interface {
	Campaign(name string) (Campaign, error)
	Campaigns(after string, limit int) ([]Campaign, error)
	// OpenCampaigns are those gathering, running or paused.
	OpenCampaigns() ([]Campaign, error)
	InsertCampaign(Campaign) error
	// TakeCampaign makes a campaign this transaction's alone until it ends: of all that read
	// it at this step one goes on, for the others it is fault.Conflict, RuleCampaignMoved.
	TakeCampaign(name string, step int64) error
	// UpdateCampaign writes what moves of a campaign that was taken.
	UpdateCampaign(Campaign) error

	InsertCampaignDevice(CampaignDevice) error
	// UpdateCampaignDevice writes wave, state, times and reason.
	UpdateCampaignDevice(CampaignDevice) error
	// CampaignDue are the devices whose turn is next.
	CampaignDue(name string, limit int) ([]CampaignDevice, error)
	// CampaignLooks are the devices to be looked at by now, those waiting longest first.
	CampaignLooks(name string, now time.Time, limit int) ([]CampaignDevice, error)
	// CampaignWaits says whether any device is to be looked at, now or later.
	CampaignWaits(name string) (bool, error)
	CampaignDevices(CampaignDeviceFilter) ([]CampaignDevice, error)
	CampaignCounts(name string) ([]CampaignCount, error)
	// CampaignReasons counts the failed devices by reason.
	CampaignReasons(name string) (map[string]int64, error)
	// CampaignPlan sums up what was planned, without those that failed while they were gathered.
	CampaignPlan(name string) ([]CampaignPlanRow, error)
}

// CampaignReport is a campaign and how far it is.
type CampaignReport struct {
	Campaign
	Counts  []CampaignCount
	Reasons map[string]int64 // failed devices by rule word
	// Open says that devices may be told now, as far as windows go; Opens is when else, zero
	// for never.
	Open  bool
	Opens time.Time
	// Left is how many more may be told in this hour, -1 for any number.
	Left int64
	// Forecast is when the devices due will be told, if no wave waits; Rest are beyond it.
	Forecast []policies.Load
	Rest     int64
}

// StartCampaign puts a campaign on record; the sweep carries it out from there.
//
// Errors: Malformed "campaign-invalid", and for a selection that names what does not exist;
// Conflict "campaign-exists": names are used once.
func (e *Engine) StartCampaign(ctx context.Context, actor string, c policies.Campaign) (Campaign, error) {
	now := e.now()
	c = c.Complete()
	if err := c.Validate(now); err != nil {
		return Campaign{}, err
	}
	if q := c.Quarantine; c.Act == policies.ActQuarantine {
		if _, err := e.complete(QuarantineRequest{Hub: q.Hub, Twin: q.Twin, Why: q.Why}); err != nil {
			return Campaign{}, err
		}
	}
	made := Campaign{Campaign: c, State: CampaignGathering, Step: 1, Created: now, CreatedBy: actor, Updated: now, Version: firstVersion(now)}
	err := e.store.Update(ctx, func(tx Tx) error {
		if _, err := newSelection(tx, c); err != nil {
			return err
		}
		return first(tx.InsertCampaign(made), tx.Append(made.event(now, actor, audit.CampaignStarted, map[string]any{"act": string(c.Act)})))
	})
	return made, err
}

// Campaign reads one with its progress.
func (e *Engine) Campaign(ctx context.Context, name string) (r CampaignReport, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		if r.Campaign, err = tx.Campaign(name); err != nil {
			return err
		}
		if r.Counts, err = tx.CampaignCounts(name); err != nil {
			return err
		}
		r.Reasons, err = tx.CampaignReasons(name)
		return err
	})
	if err != nil {
		return r, err
	}
	r.Open, r.Opens = r.Windows.Open(now)
	r.Left = r.left(now)
	if r.State == CampaignGathering || r.State == CampaignRunning {
		var due int64
		for _, n := range r.Counts {
			if n.State == DeviceDue {
				due += n.Devices
			}
		}
		r.Forecast, r.Rest = r.Campaign.Forecast(due, r.movedIn(now), now)
	}
	return r, nil
}

// Campaigns lists campaigns by name.
func (e *Engine) Campaigns(ctx context.Context, after string, limit int) (list []Campaign, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Campaigns(after, limit)
		return err
	})
	return list, err
}

// CampaignDevices lists the devices of a campaign; NotFound where there is no campaign.
func (e *Engine) CampaignDevices(ctx context.Context, f CampaignDeviceFilter) (list []CampaignDevice, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if _, err := tx.Campaign(f.Campaign); err != nil {
			return err
		}
		list, err = tx.CampaignDevices(f)
		return err
	})
	return list, err
}

// CampaignPlan sums up what a campaign would end, or has ended; NotFound where there is no campaign.
func (e *Engine) CampaignPlan(ctx context.Context, name string) (rows []CampaignPlanRow, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if _, err := tx.Campaign(name); err != nil {
			return err
		}
		rows, err = tx.CampaignPlan(name)
		return err
	})
	return rows, err
}

// PauseCampaign tells nobody any more until the campaign is resumed; who was told goes on.
// why goes on record. Conflict, "campaign-not-running", unless it gathers or runs.
func (e *Engine) PauseCampaign(ctx context.Context, actor, name, why string, pre Precondition) (Campaign, error) {
	return e.actOnCampaign(ctx, name, pre, func(_ Tx, c *Campaign, now time.Time) (audit.Event, error) {
		if c.State != CampaignRunning && c.State != CampaignGathering {
			return audit.Event{}, c.conflict("campaign-not-running", "only a campaign that gathers or runs can be paused")
		}
		c.State, c.Reason = CampaignPaused, why
		return c.event(now, actor, audit.CampaignPaused, map[string]any{"reason": why}), nil
	})
}

// ResumeCampaign goes on where a campaign was paused. Errors are counted anew; a wave that
// ended short of its share is left behind, and a campaign of more devices than expected is
// taken as it is. One that ends something is resumed by its version alone. Conflict, "campaign-not-paused", otherwise.
func (e *Engine) ResumeCampaign(ctx context.Context, actor, name, why string, pre Precondition) (Campaign, error) {
	return e.actOnCampaign(ctx, name, pre, func(tx Tx, c *Campaign, now time.Time) (audit.Event, error) {
		if c.State != CampaignPaused {
			return audit.Event{}, c.conflict("campaign-not-paused", "only a paused campaign can be resumed")
		}
		was := c.Reason
		if c.Act.Ends() {
			if err := pre.check(c.Version); err != nil { // whoever says so has seen it
				return audit.Event{}, err
			}
		}
		c.State, c.Reason, c.Came, c.Failed = CampaignRunning, "", 0, 0
		if c.Wave == 0 {
			c.State = CampaignGathering
			return c.event(now, actor, audit.CampaignResumed, map[string]any{"reason": why, "was": was}), nil
		}
		if sizes := c.WaveSizes(c.Devices); c.Wave < int64(len(sizes)) && c.WaveTaken == sizes[c.Wave-1] && c.waveEnded() {
			if err := c.nextWave(tx, sizes, now); err != nil {
				return audit.Event{}, err
			}
		}
		// What was seen while it was paused may have completed the wave.
		return c.event(now, actor, audit.CampaignResumed, map[string]any{"reason": why, "was": was}), c.advance(tx, now)
	})
}

// AbortCampaign ends a campaign. Devices stay as they are: who was told may still come, and
// nobody is looked at any more. Conflict, "campaign-ended", when it has ended.
func (e *Engine) AbortCampaign(ctx context.Context, actor, name, why string, pre Precondition) (Campaign, error) {
	return e.actOnCampaign(ctx, name, pre, func(_ Tx, c *Campaign, now time.Time) (audit.Event, error) {
		if c.State == CampaignAborted || c.State == CampaignDone {
			return audit.Event{}, c.conflict("campaign-ended", "the campaign has ended")
		}
		c.State, c.Reason = CampaignAborted, why
		return c.event(now, actor, audit.CampaignAborted, map[string]any{"reason": why}), nil
	})
}

// campaignTries is how often an operator's act is tried while a sweep changes the campaign.
const campaignTries = 8

// actOnCampaign is an operator's act on a campaign. pre is about the versions that
// operators see, so a sweep that is at work refuses nobody.
func (e *Engine) actOnCampaign(ctx context.Context, name string, pre Precondition, act func(Tx, *Campaign, time.Time) (audit.Event, error)) (c Campaign, err error) {
	now := e.now()
	for range campaignTries {
		err = e.store.Update(ctx, func(tx Tx) error {
			if c, err = tx.Campaign(name); err != nil {
				return err
			}
			if pre != (Precondition{}) {
				if err := pre.check(c.Version); err != nil {
					return err
				}
			}
			if err := tx.TakeCampaign(name, c.Step); err != nil {
				return err
			}
			event, err := act(tx, &c, now)
			if err != nil {
				return err
			}
			c.Updated, c.Version = now, c.Version+1
			return first(tx.UpdateCampaign(c), tx.Append(event))
		})
		if fault.RuleOf(err) != RuleCampaignMoved {
			break
		}
	}
	return c, err
}

func (c Campaign) conflict(rule, detail string) error {
	return fault.New(fault.Conflict, rule, "%s", detail).About("campaign " + c.Name)
}

func (c Campaign) event(now time.Time, actor string, action audit.Action, facts map[string]any) audit.Event {
	return audit.Event{At: now, Actor: actor, Action: action, Subject: "campaign:" + c.Name, Body: audit.Body(facts)}
}

// place is where a device stands in a campaign's order: random, and the same on every
// process. Each campaign has another order, so that no device is always the canary.
func (c Campaign) place(id verify.RegistrationID) int64 {
	sum := sha256.Sum256([]byte(c.Name + "\n" + id.String()))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// movedIn is how many were told in the hour of now.
func (c Campaign) movedIn(now time.Time) int64 {
	if c.Hour != policies.HourOf(now) {
		return 0
	}
	return c.Moved
}

// left is how many may be told in the hour of now, -1 for any number.
func (c Campaign) left(now time.Time) int64 {
	if c.MaxPerHour == 0 {
		return -1
	}
	return max(0, int64(c.MaxPerHour)-c.movedIn(now))
}
