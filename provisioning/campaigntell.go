package provisioning

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// tell tells a page of those whose turn it is.
func (s *campaignStep) tell() (n int, err error) {
	room := s.room(s.now)
	if room == 0 {
		return 0, nil
	}
	page, err := s.tx.CampaignDue(s.Name, room)
	if err != nil {
		return 0, err
	}
	for i, d := range page {
		if s.Act.Ends() {
			err = s.endOne(d, s.keys[i])
		} else {
			err = s.tellOne(d)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(page), nil
}

// tellOne takes a device into the wave. One that has come by itself meanwhile, or cannot
// come, is not told.
func (s *campaignStep) tellOne(was CampaignDevice) error {
	d := was
	d.Wave, d.Updated = s.Wave, s.now
	s.WaveTaken++
	reg, err := s.tx.Registration(d.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		d.State = DeviceGone
	case err != nil:
		return err
	default:
		d.State = d.progress(*s.Campaign, reg)
	}
	if d.State == DeviceDue {
		if d.Reason, err = s.barred(reg); err != nil {
			return err
		}
		if d.Reason != "" {
			d.State = DeviceFailed
			err = s.tx.Append(s.stuck(d))
		} else {
			d.State, d.ToldAt = DeviceTold, s.now
			err = s.send(d, reg)
		}
		if err != nil {
			return err
		}
	} else if d.State == DeviceStaged {
		d.ToldAt = s.now // waited for like one that was told
	}
	d.LookAt = s.nextLook(d, reg)
	s.count(was, d)
	return s.tx.UpdateCampaignDevice(d)
}

// send tells one device.
func (s *campaignStep) send(d CampaignDevice, reg Registration) error {
	s.spent(1, s.now)
	at := s.comesAt(d, d.ToldAt)
	w := word{act: s.Act, campaign: s.Name, actor: campaignJob, reason: "campaign", at: at, by: at.Add(s.Patience), ref: d.Ref}
	return w.say(s.tx, reg, s.now)
}

// word is what a device is told: to renew, or to register again, at a moment; until by it is
// waited for.
type word struct {
	act             policies.CampaignAct
	campaign, actor string
	reason          string
	at, by          time.Time
	ref             rotation.Ref // of the certificate to be renewed
}

// say tells a device: in the desired properties of its twin where the built-in hub has it,
// and in the ledger, which those who carry word to other hubs follow.
func (w word) say(tx Tx, reg Registration, now time.Time) error {
	facts := map[string]any{"act": string(w.act), "reason": w.reason, "at": w.at.Format(time.RFC3339), "by": w.by.Format(time.RFC3339)}
	if w.campaign != "" {
		facts["campaign"] = w.campaign
	}
	if w.ref != (rotation.Ref{}) && w.act == policies.ActRenew {
		facts["ref"] = refText(w.ref)
	}
	if reg.State == Assigned {
		said, err := sayInTwin(tx, reg, map[string]any{string(w.act): w.desired()}, maxTwinDesired, now)
		if err != nil {
			return err
		}
		if said {
			facts["hub"], facts["deviceId"] = reg.Hub, reg.DeviceID
		}
	}
	return tx.Append(audit.Event{At: now, Actor: w.actor, Action: audit.RollTold, Subject: "registration:" + reg.ID.String(), Body: audit.Body(facts)})
}

// desired is the word as the twin has it. A device that has done it since at does nothing:
// so the word need not be taken back.
func (w word) desired() map[string]any {
	said := map[string]any{"at": w.at.Format(time.RFC3339), "by": w.by.Format(time.RFC3339), "reason": w.reason}
	if w.campaign != "" {
		said["campaign"] = w.campaign
	}
	return said
}

// Reprovision tells one device to register again, now; both its certificates stay as they
// are. For many there are campaigns. It returns the registration as it stands.
//
// Errors: NotFound; Conflict, "entry-missing" or "entry-disabled", for a device that would be
// refused.
func (e *Engine) Reprovision(ctx context.Context, actor string, id verify.RegistrationID) (reg Registration, err error) {
	now := e.now()
	c := policies.Campaign{Act: policies.ActReprovision}.Complete()
	err = e.writeTwin(ctx, twinTries, func(tx Tx) error {
		if reg, err = tx.Registration(id); err != nil {
			return err
		}
		s := campaignStep{Campaign: &Campaign{Campaign: c}, tx: tx, now: now}
		reason, err := s.barred(reg)
		if err != nil {
			return err
		}
		if reason != "" {
			return fault.New(fault.Conflict, reason, "The device would be refused if it came.").About("registration " + id.String())
		}
		w := word{act: policies.ActReprovision, actor: actor, reason: "operator", at: now, by: now.Add(c.Patience)}
		return w.say(tx, reg, now)
	})
	return reg, err
}

func refText(r rotation.Ref) string { return hex.EncodeToString(r[:]) }
