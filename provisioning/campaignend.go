package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// The rule words of why a device is not retired, or its record not deleted.
const (
	RuleDeviceUnknown    = "device-unknown"    // nothing is on record of it
	RuleEffectGrew       = "effect-grew"       // it would be more than was planned
	RuleNotMeant         = "not-meant-now"     // it is not what the campaign is about any more
	RuleHubUnconfirmed   = "hub-unconfirmed"   // it is done here; a hub has not confirmed
	RuleCameBack         = "registered-again"  // somebody let it in since
	RuleRegistrationHeld = "registration-held" // it is refused until it is released
)

// OpenMayRegister is left open by the deletion of a record: an entry admits the device.
const OpenMayRegister = "may-register-again"

// spareKeys are for the exceptions of one page.
func spareKeys() ([][2][]byte, error) {
	keys := make([][2][]byte, endPage)
	for i := range keys {
		var err error
		if keys[i], err = newKeys(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// foresee puts on record what a campaign that ends something will do to a device.
func (s *campaignStep) foresee(d *CampaignDevice, reg Registration) error {
	switch s.Act {
	case policies.ActRetire:
		r, err := s.engine.retiree(s.tx, reg.ID, s.now)
		if fault.RuleOf(err) == RuleDeviceUnknown {
			d.State, d.Reason = DeviceFailed, RuleDeviceUnknown
			return nil
		}
		d.Plan = r.plan
		return err
	case policies.ActDelete:
		return s.foreseeDeletion(d, reg)
	case policies.ActQuarantine:
		return s.foreseeQuarantine(d)
	case policies.ActRenew, policies.ActReprovision:
	}
	return nil
}

func (s *campaignStep) foreseeDeletion(d *CampaignDevice, reg Registration) error {
	if err := stays(reg); err != nil {
		d.State, d.Reason = DeviceFailed, fault.RuleOf(err)
		return nil
	}
	d.Plan.Hub = reg.Hub
	awaited, err := s.tx.CountHubIdentities(reg.ID)
	if err != nil {
		return err
	}
	if reg.Hub != "" && awaited == 0 && !s.FromHub {
		d.Plan.Open = append(d.Plan.Open, OpenHubDevice)
	}
	if !reg.Owner.IsZero() {
		d.Plan.Open = append(d.Plan.Open, OpenMayRegister)
	}
	return nil
}

// endOne ends a device whose turn it is, if that is still what was planned.
func (s *campaignStep) endOne(was CampaignDevice, keys [2][]byte) error {
	d := was
	d.Wave, d.Updated = s.Wave, s.now
	s.WaveTaken++
	end := s.deleteOne
	switch s.Act {
	case policies.ActRetire:
		end = func(d *CampaignDevice) error { return s.retireOne(d, keys) }
	case policies.ActQuarantine:
		end = s.quarantineOne
	case policies.ActDelete, policies.ActRenew, policies.ActReprovision:
	}
	if err := end(&d); err != nil {
		return err
	}
	switch d.State {
	case DeviceDue: // it was done
		s.spent(1, s.now)
		d.ToldAt = s.now
		if err := s.await(&d); err != nil {
			return err
		}
	case DeviceFailed:
		if err := s.tx.Append(s.stuck(d)); err != nil {
			return err
		}
	}
	s.count(was, d)
	return s.tx.UpdateCampaignDevice(d)
}

func (s *campaignStep) retireOne(d *CampaignDevice, keys [2][]byte) error {
	r, err := s.engine.retiree(s.tx, d.ID, s.now)
	switch {
	case fault.RuleOf(err) == RuleDeviceUnknown:
		d.State = DeviceGone
		return nil
	case err != nil:
		return err
	}
	if r.done(s.DeleteRecords) {
		if _, err := s.tx.Retirement(d.ID); !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	switch {
	case r.reg != nil && !s.means(*r.reg):
		d.State, d.Reason = DeviceFailed, RuleNotMeant
		return nil
	case d.Plan.grew(r.plan):
		d.State, d.Reason = DeviceFailed, RuleEffectGrew
		return nil
	}
	_, err = s.writing().retire(s.tx, r, retiring{deleteRecord: s.DeleteRecords, campaign: s.Name, keys: keys})
	return err
}

func (s *campaignStep) deleteOne(d *CampaignDevice) error {
	reg, err := s.tx.Registration(d.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		d.State = DeviceGone
		return nil
	case err != nil:
		return err
	case !s.means(reg):
		d.State, d.Reason = DeviceFailed, RuleNotMeant
		return nil
	case stays(reg) != nil:
		d.State, d.Reason = DeviceFailed, fault.RuleOf(stays(reg))
		return nil
	case d.Plan.grew(RetirePlan{HubPlace: reg.place()}):
		d.State, d.Reason = DeviceFailed, RuleEffectGrew
		return nil
	}
	return s.writing().deleteRecord(s.tx, reg, s.FromHub, map[string]any{"campaign": s.Name})
}

func (s *campaignStep) writing() hubWriting {
	return hubWriting{Engine: s.engine, actor: campaignJob, at: s.now}
}

// means says whether a registration is what the campaign is about, as it was when it was gathered.
// A device whose entry was deleted since is.
func (s *campaignStep) means(reg Registration) bool {
	of := func(kind Kind, id string) bool {
		return reg.Owner.IsZero() || reg.Owner.Kind == kind && reg.Owner.ID.Matches(id)
	}
	switch {
	case s.Select.Orphaned:
		return reg.Owner.IsZero()
	case s.Select.Group != "":
		return of(Group, s.Select.Group)
	case s.Select.Enrollment != "":
		return of(Individual, s.Select.Enrollment)
	}
	return true
}

// grew says whether more would be done than was planned. Certificates may be renewed meanwhile:
// the device's are meant, whichever they are.
func (p RetirePlan) grew(is RetirePlan) bool {
	return is.Hub != "" && is.Hub != p.Hub || is.Entry != p.Entry && is.Entry != FateWasDisabled
}

// await sees whether the hubs of a device have confirmed, and when to look again.
func (s *campaignStep) await(d *CampaignDevice) error {
	if s.Act == policies.ActQuarantine {
		return s.awaitQuarantine(d)
	}
	awaited, err := s.tx.CountHubIdentities(d.ID)
	if err != nil {
		return err
	}
	d.State, d.LookAt = DeviceTold, time.Time{}
	if awaited == 0 {
		d.State = DeviceRetired
		return nil
	}
	d.LookAt = s.nextLook(*d, Registration{})
	return nil
}

// lookAtEnd sees whether the hubs of a device have confirmed.
func (s *campaignStep) lookAtEnd(was CampaignDevice) error {
	d := was
	if err := s.await(&d); err != nil {
		return err
	}
	reg, err := s.tx.Registration(d.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	switch {
	case s.Act != policies.ActQuarantine && reg.Operation.At.After(d.ToldAt):
		d.State, d.Reason = DeviceFailed, RuleCameBack
	case s.late(d):
		d.State, d.Reason = DeviceFailed, RuleHubUnconfirmed
	}
	if d.State == DeviceFailed {
		d.LookAt = time.Time{}
		if err := s.tx.Append(s.stuck(d)); err != nil {
			return err
		}
	}
	if d.State != was.State {
		d.Updated = s.now
		s.count(was, d)
	}
	return s.tx.UpdateCampaignDevice(d)
}
