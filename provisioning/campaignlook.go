package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// The rule words of why a device failed, beside those of the refusals that kept it out.
const (
	RuleNotComing     = "not-coming"     // it was told, and did not come
	RuleEntryMissing  = "entry-missing"  // nothing admits it any more
	RuleEntryDisabled = "entry-disabled" // likewise
	RuleNoProfile     = "no-issuing-profile"
)

// How often a device that was told is looked at: soon at first, then after half the time
// that has passed since, so that a million who do not come cost little.
const (
	minLook = 2 * time.Second
	maxLook = time.Hour
)

// look sees what became of a page of devices.
func (s *campaignStep) look() (n int, err error) {
	page, err := s.tx.CampaignLooks(s.Name, s.now, lookPage)
	if err != nil {
		return 0, err
	}
	for _, d := range page {
		if err := s.lookAt(d); err != nil {
			return 0, err
		}
	}
	return len(page), nil
}

func (s *campaignStep) lookAt(was CampaignDevice) error {
	if s.Act.Ends() {
		return s.lookAtEnd(was)
	}
	d := was
	reg, err := s.tx.Registration(d.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		d.State = DeviceGone
	case err != nil:
		return err
	default:
		d.State = d.progress(*s.Campaign, reg)
		if s.late(d) {
			if d.Reason, err = s.whyLate(d, reg); err != nil {
				return err
			}
			d.State = DeviceFailed
		}
	}
	d.LookAt = s.nextLook(d, reg)
	if d.State != was.State {
		d.Updated = s.now
		s.count(was, d)
	}
	if d.State == DeviceFailed {
		if err := s.tx.Append(s.stuck(d)); err != nil {
			return err
		}
	}
	return s.tx.UpdateCampaignDevice(d)
}

// progress is how far a device is by its registration; it never goes back. A successor that
// was staged before is none: the device has lost it, or would use it.
func (d CampaignDevice) progress(c Campaign, reg Registration) DeviceState {
	since := d.ToldAt
	if since.IsZero() {
		since = c.Created
	}
	came := reg.Operation.At.After(since)
	slot, held := reg.Pair.Find(d.Ref)
	mine, other := reg.Pair.Cell(slot), reg.Pair.Cell(slot.Other())
	next := cellInUse(reg.Pair)
	switch {
	case c.Act == policies.ActReprovision && came:
		return DeviceSeen
	case c.Act == policies.ActReprovision:
		return d.State
	case !held && next.State == rotation.Active:
		return DeviceRetired
	case held && other.State == rotation.Active:
		return DeviceSeen
	case !held && next.State == rotation.Staged && came,
		held && other.State == rotation.Staged && came && (mine.State == rotation.Active || other.NotAfter.After(mine.NotAfter)):
		return DeviceStaged
	}
	return d.State
}

// comesAt is the moment at which a device told at told shall come: jitter by its place.
func (c Campaign) comesAt(d CampaignDevice, told time.Time) time.Time {
	return told.Add(time.Duration(float64(c.Jitter) * (float64(d.Place) / (1 << 63)))).Truncate(time.Microsecond)
}

func (s *campaignStep) late(d CampaignDevice) bool {
	waiting := d.State == DeviceTold || d.State == DeviceStaged
	return waiting && !s.now.Before(s.comesAt(d, d.ToldAt).Add(s.Patience))
}

// whyLate is why a device that was told did not come: it may not any more, it was refused,
// or nobody knows.
func (s *campaignStep) whyLate(d CampaignDevice, reg Registration) (string, error) {
	if d.State == DeviceStaged {
		return string(rotation.NotCutOver), nil
	}
	reason, err := s.barred(reg)
	if reason != "" || err != nil {
		return reason, err
	}
	if r, known := s.engine.refusals.last(d.ID); known && r.Last.After(d.ToldAt) && r.Rule != "" {
		return r.Rule, nil
	}
	return RuleNotComing, nil
}

// barred is why a device could not come if it were told, "" when nothing stands in its way.
func (s *campaignStep) barred(reg Registration) (string, error) {
	en, err := s.entry(reg.Owner)
	switch {
	case err != nil:
		return "", err
	case !reg.HeldAt.IsZero():
		return RuleRegistrationHeld, nil
	case en.ID.IsZero():
		return RuleEntryMissing, nil
	case !en.Enabled:
		return RuleEntryDisabled, nil
	case en.Profile == "" && s.Act == policies.ActRenew:
		return RuleNoProfile, nil
	}
	return "", nil
}

// nextLook is when a device is looked at again; zero when it has ended.
func (s *campaignStep) nextLook(d CampaignDevice, reg Registration) time.Time {
	since := s.now.Sub(d.ToldAt)
	next := s.now.Add(min(max(since/2, minLook), maxLook))
	switch d.State {
	case DeviceTold, DeviceStaged:
		comes := s.comesAt(d, d.ToldAt)
		if end := comes.Add(s.Patience); next.After(end) {
			next = end
		}
		if next.Before(comes) && d.State == DeviceTold {
			next = comes
		}
		return next
	case DeviceSeen:
		if s.Act == policies.ActReprovision {
			return time.Time{}
		}
		if slot, held := reg.Pair.Find(d.Ref); held && reg.Pair.Cell(slot).RetireAt.After(s.now) {
			return reg.Pair.Cell(slot).RetireAt.Add(minLook)
		}
		return next
	}
	return time.Time{}
}

// stuck is the ledger row of a device that does not go on.
func (s *campaignStep) stuck(d CampaignDevice) audit.Event {
	facts := map[string]any{"campaign": s.Name, "act": string(s.Act), "reason": d.Reason}
	if d.Ref != (rotation.Ref{}) {
		facts["ref"] = refText(d.Ref)
	}
	return audit.Event{At: s.now, Actor: campaignJob, Action: audit.RollStuck, Subject: "registration:" + d.ID.String(), Body: audit.Body(facts)}
}
