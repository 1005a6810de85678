package provisioning

import (
	"context"
	"encoding/hex"
	"encoding/json"
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
	for _, d := range page {
		if err := s.tellOne(d); err != nil {
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
	builtIn, err := s.builtIn(reg.Hub)
	if err != nil {
		return err
	}
	return w.say(s.tx, reg, builtIn, s.now)
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
func (w word) say(tx Tx, reg Registration, builtIn bool, now time.Time) error {
	facts := map[string]any{"act": string(w.act), "reason": w.reason, "at": w.at.Format(time.RFC3339), "by": w.by.Format(time.RFC3339)}
	if w.campaign != "" {
		facts["campaign"] = w.campaign
	}
	if w.ref != (rotation.Ref{}) && w.act == policies.ActRenew {
		facts["ref"] = refText(w.ref)
	}
	if builtIn && reg.State == Assigned {
		written, err := advise(tx, reg, w.desired(), now)
		if err != nil {
			return err
		}
		if written {
			facts["hub"], facts["deviceId"] = reg.Hub, reg.DeviceID
		}
	}
	return tx.Append(audit.Event{At: now, Actor: w.actor, Action: audit.RollTold, Subject: "registration:" + reg.ID.String(), Body: audit.Body(facts)})
}

// desired is the word as a merge patch of desired properties. A device that has done it
// since at does nothing: so the word need not be taken back.
func (w word) desired() []byte {
	said := map[string]any{"at": w.at.Format(time.RFC3339), "by": w.by.Format(time.RFC3339), "reason": w.reason, "campaign": nil}
	if w.campaign != "" {
		said["campaign"] = w.campaign
	}
	patch, err := json.Marshal(map[string]any{"muster": map[string]any{string(w.act): said}})
	if err != nil {
		panic("internal error: a word for a twin: " + err.Error())
	}
	return patch
}

// advise merges a patch into the desired properties of a registration's twin. It answers
// false where there is no room for it, which is the twin's owner's affair.
func advise(tx Tx, reg Registration, patch []byte, now time.Time) (bool, error) {
	rec, err := tx.HubRecord(reg.Hub, reg.hubDeviceID())
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	stored := rec.twin()
	current, _ := twinOf(stored, now)
	next, err := TwinDraft{Desired: patch}.apply(current)
	if fault.RuleOf(err) == "twin-size" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	next.Version++
	next.DesiredVersion++
	if next.Updated = now; stored != nil && !now.After(stored.Updated) {
		next.Updated = stored.Updated.Add(time.Microsecond) // the ETag must change
	}
	return true, tx.UpdateTwin(reg.ID, next, writtenVersion(rec.Twin))
}

// Reprovision tells one device to register again, now; both its certificates stay as they
// are. For many there are campaigns. It returns the registration as it stands.
//
// Errors: NotFound; Conflict, "entry-missing" or "entry-disabled", for a device that would be
// refused.
func (e *Engine) Reprovision(ctx context.Context, actor string, id verify.RegistrationID) (reg Registration, err error) {
	now := e.now()
	c := policies.Campaign{Act: policies.ActReprovision}.Complete()
	for range twinTries {
		err = e.store.Update(ctx, func(tx Tx) error {
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
			builtIn, err := s.builtIn(reg.Hub)
			if err != nil {
				return err
			}
			w := word{act: policies.ActReprovision, actor: actor, reason: "operator", at: now, by: now.Add(c.Patience)}
			return w.say(tx, reg, builtIn, now)
		})
		if fault.RuleOf(err) != "twin-changed" {
			break
		}
	}
	return reg, err
}

func refText(r rotation.Ref) string { return hex.EncodeToString(r[:]) }
