package provisioning

import (
	"time"

	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// maxOthers bounds how many of a TPM's other registrations are read: one is enough to refuse it.
const maxOthers = 2

// meetsTPMGroup says whether a group may admit the device by its TPM.
func (d *decision) meetsTPMGroup(a Attempt) bool {
	for i := range d.facts.Enrollments {
		if g := &d.facts.Enrollments[i]; d.query.TPM && g.Kind == Group && (g.Role() == RoleTPMList || g.Role() == RoleTPMCA) {
			return true
		}
	}
	return d.pollsByGroup(a)
}

// pollsByGroup says that a poll is by the token of a TPM that a group admitted: it shows neither
// the TPM's keys nor its certificate, which are on record.
func (d *decision) pollsByGroup(a Attempt) bool {
	reg := d.facts.Registration
	return d.polls && a.Evidence.Token != nil && reg != nil && reg.Mechanism == verify.MechanismTPM && reg.Owner.Kind == Group
}

// readOthers reads which other registrations the TPM shown has attested.
func (d *decision) readOthers(tx Tx) error {
	ids, err := tx.TPMRegistrations(verify.KeyHashOf(d.tpm.shown.Endorsement.SPKI()), maxOthers)
	for _, id := range ids {
		if id != d.query.ID {
			d.tpm.others = append(d.tpm.others, id)
		}
	}
	return err
}

// judgeTPMGroup admits a TPM that a group lists. A group binds nobody to a name, as an own
// entry does, or the CN of a certificate, or the key derived for it: so the name belongs to the
// first TPM that takes it, and a TPM has one (ADR 0038).
func (e *Engine) judgeTPMGroup(d *decision, a Attempt, now time.Time) error {
	key, err := d.speaker()
	if err != nil {
		return err
	}
	if err := d.judgeEndorsement(key); err != nil {
		return err
	}
	group, err := d.listing(key)
	if err != nil {
		return err
	}
	if err := d.judgeName(group); err != nil {
		return err
	}
	return e.proveTPM(d, a, group, now)
}

// speaker is the endorsement key of who speaks: the one shown or, in a poll, the one on record.
// Its challenge has to be for that.
func (d *decision) speaker() (key verify.KeyHash, err error) {
	if shown := d.tpm.shown; shown != nil {
		return verify.KeyHashOf(shown.Endorsement.SPKI()), nil
	}
	t, device := &d.trace, d.tpm.device
	switch {
	case device == nil:
		return key, t.refuse("tpm-challenge-unknown", "", "nothing is on record of the device's TPM: register without a token first")
	case d.tpm.challenge != nil && d.tpm.challenge.Keys.Endorsement != tpm.DigestOf(device.TPM.Endorsement):
		return key, t.refuse("tpm-other-endorsement-key", "registration "+d.query.ID.String(), "the challenge was made for another TPM than the one that registered")
	}
	return device.Key, nil
}

// listing is the group that lists an endorsement key. One that is disabled refuses it, as it does
// the key that it shares with another.
func (d *decision) listing(key verify.KeyHash) (group Enrollment, err error) {
	t := &d.trace
	var found []Enrollment
	for _, l := range d.facts.Listed {
		g, there := d.facts.Entry(Owner{Kind: Group, ID: l.Group})
		switch {
		case l.Key != key || !there || g.Role() != RoleTPMList:
			continue
		case !g.Enabled:
			return g, t.refuse("enrollment-disabled", g.String(), "the group that lists this endorsement key is disabled")
		}
		found = append(found, g)
	}
	group, there := d.preferOwner(found)
	if !there {
		return group, t.refuse("no-enrollment", "", "no enrollment names this endorsement key, and no group lists it ("+key.String()+")")
	}
	t.pass("group", group.String(), "it lists this endorsement key")
	return group, nil
}

// judgeName refuses a registration id that is not the TPM's to take.
func (d *decision) judgeName(group Enrollment) error {
	t, reg := &d.trace, d.facts.Registration
	for _, l := range d.facts.Listed {
		if l.Group == group.ID && l.Key == d.key.hash && !l.ID.IsZero() && l.ID != d.query.ID {
			return t.refuse("tpm-listed-otherwise", group.String(), "the group lists this endorsement key for the registration id "+l.ID.String())
		}
	}
	switch {
	case reg != nil && reg.LeafKey != d.key.hash:
		return t.refuse("tpm-name-taken", "registration "+d.query.ID.String(), "the registration belongs to another key: delete its record to let this TPM have it")
	case len(d.tpm.others) > 0:
		return t.refuse("tpm-registered-otherwise", "registration "+d.tpm.others[0].String(), "the TPM is registered as that: delete its record to let the TPM have another")
	}
	t.pass("name", "", "the registration id is this TPM's to take")
	return nil
}

// judgeRecordedTPM is judgeTPMGroup for a device of which only the record is at hand.
func (d *decision) judgeRecordedTPM(reg Registration) error {
	if err := d.judgeEndorsement(reg.LeafKey); err != nil {
		return err
	}
	group, err := d.listing(reg.LeafKey)
	if err != nil {
		return err
	}
	d.entry = group
	return d.judgeName(group)
}
