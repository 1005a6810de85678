package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// OpenComesLater is left open by a quarantine: the device is refused, or on no hub, and comes to its
// hub when it registers.
const OpenComesLater = "comes-when-it-registers"

// confining is what the campaign asks for of a device; what refuses that fails the device alone.
func (s *campaignStep) confining(d *CampaignDevice) (c confinement, ok bool, err error) {
	r, err := s.engine.complete(QuarantineRequest{ID: d.ID, Hub: s.Quarantine.Hub, Twin: s.Quarantine.Twin, Why: s.Quarantine.Why})
	if err == nil {
		c, err = confined(s.tx, r)
	}
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.Malformed) {
		d.State, d.Reason = DeviceFailed, fault.RuleOf(err)
		return c, false, nil
	}
	return c, err == nil, err
}

func (s *campaignStep) foreseeQuarantine(d *CampaignDevice) error {
	c, ok, err := s.confining(d)
	if !ok {
		return err
	}
	d.Plan.Hub = c.reg.Hub
	if !c.plan.AtOnce {
		d.Plan.Open = []string{OpenComesLater}
	}
	return nil
}

func (s *campaignStep) quarantineOne(d *CampaignDevice) error {
	c, ok, err := s.confining(d)
	switch {
	case fault.Is(err, fault.NotFound):
		d.State = DeviceGone
		return nil
	case !ok:
		return err
	case !s.means(c.reg):
		d.State, d.Reason = DeviceFailed, RuleNotMeant
		return nil
	case !c.done() && d.Plan.grew(RetirePlan{HubPlace: c.reg.place()}):
		d.State, d.Reason = DeviceFailed, RuleEffectGrew
		return nil
	}
	_, err = s.writing().confine(s.tx, c, s.Name)
	return err
}

// awaitQuarantine sees whether the hubs of a device have confirmed that it moved.
func (s *campaignStep) awaitQuarantine(d *CampaignDevice) error {
	q, err := s.tx.Quarantine(d.ID)
	if err != nil {
		return err
	}
	d.State, d.LookAt = DeviceTold, time.Time{}
	if !q.Confirmed.IsZero() {
		d.State = DeviceSeen
		return nil
	}
	d.LookAt = s.nextLook(*d, Registration{})
	return nil
}
