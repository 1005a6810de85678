package provisioning

import (
	"slices"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// An entry with symmetric keys has both slots filled, and devices may use either. So its
// keys roll within their slots: the one not in use is made anew, devices go over to it, and
// when the last has left the former one that is made anew too (scenarios H1; Azure's
// "regenerate secondary, switch, regenerate primary").

// The rule words of why a symmetric key is made anew, or why its roll does not go on.
const (
	keyTooOld     rotation.Reason = "key-age"            // made anew: the key in use is as old as its plan lets it get
	keyAwaited                    = rotation.NotCutOver  // stuck: nobody uses the new key
	keyLeft                       = rotation.OverlapOver // made anew: the overlap is over, and nobody uses it
	keyOverdue                    = deadlineOver         // made anew: who still uses it was waited for
	keyBehind                     = heldByStragglers     // stuck: devices still hang on it
	keyByOperator                 = operatorAsked
	keySeenInUse                  = inUse
)

// keyStep is what the keys of an entry need next. The zero step is to look again at due.
type keyStep struct {
	act    keyAct
	slot   rotation.Slot
	reason rotation.Reason
	tell   bool            // devices are to go over to the key that a renewal puts in
	stuck  rotation.Reason // said once, at the look that was made for it
	due    time.Time       // zero: never, until something changes
}

type keyAct uint8

const (
	keyKeep keyAct = iota
	keyRenew
	keyPromote
)

// keyUsers are the devices of the two slots: those that came last with its key, and with
// them those of which nobody knows what they came with.
type keyUsers struct{ seen, hang [2]int64 }

// lookAgain is how long a roll that cannot go on is left alone, unless its overlap is shorter.
const lookAgain = time.Hour

// nextKeyStep decides for one entry. Without a plan, or with one that rolls no keys, it only
// takes note that a key came into use.
func nextKeyStep(en Enrollment, p *policies.RotationPlan, users keyUsers, now time.Time) keyStep {
	current, standby := en.keys()
	if standby.State == rotation.Staged && users.seen[standby.Slot] > 0 {
		return keyStep{act: keyPromote, slot: standby.Slot, reason: keySeenInUse}
	}
	if p == nil || p.Every == 0 || !en.Enabled {
		return keyStep{}
	}
	overlap := keyOverlap(p)
	again := now.Add(max(time.Minute, min(lookAgain, overlap)))
	if p.Paused {
		return keyStep{due: again}
	}
	rolls := current.Since.Add(p.Every - time.Duration(p.Jitter*placeOf(en.Owner.String())*float64(p.Every)))
	old, behind := !now.Before(rolls), users.hang[standby.Slot] > 0
	renew := func(r rotation.Reason) keyStep {
		return keyStep{act: keyRenew, slot: standby.Slot, reason: r, tell: old}
	}
	if standby.State == rotation.Retiring {
		switch ends := standby.RetireAt; {
		case now.Before(ends):
			return keyStep{due: ends}
		case !behind:
			return renew(keyLeft)
		case p.Deadline > 0 && !now.Before(ends.Add(max(0, p.Deadline-overlap))):
			return renew(keyOverdue)
		default:
			return keyStep{stuck: saidAt(en, ends, keyBehind), due: again}
		}
	}
	if !old {
		return keyStep{due: rolls}
	}
	if standby.Role != "" && !standby.Since.Before(rolls) { // it is the new one
		late := standby.Since.Add(overlap)
		if now.Before(late) {
			return keyStep{due: late}
		}
		return keyStep{stuck: saidAt(en, late, keyAwaited)}
	}
	if behind {
		return keyStep{stuck: saidAt(en, rolls, keyBehind), due: again}
	}
	if open, opens := p.Windows.Open(now); !open {
		return keyStep{due: opens}
	}
	return renew(keyTooOld)
}

// keys are the key in use, as far as is known, and the other one; of the zero Role where the
// slot is empty.
func (en Enrollment) keys() (current, standby Credential) {
	list := en.Credentials
	at := max(0, slices.IndexFunc(list, func(c Credential) bool { return c.State == rotation.Active }))
	current = list[at]
	standby.Slot = current.Slot.Other()
	if len(list) > 1 {
		standby = list[1-at]
	}
	return current, standby
}

// saidAt has something said once: at the look that was made for the moment itself, not at
// those that come after it.
func saidAt(en Enrollment, moment time.Time, r rotation.Reason) rotation.Reason {
	if en.DueAt.Equal(moment) {
		return r
	}
	return ""
}

// keyOverlap is how long the former of two keys stands at the least.
func keyOverlap(p *policies.RotationPlan) time.Duration {
	overlap := policies.DefaultRotationPolicy().Overlap
	switch {
	case p == nil:
	case p.Overlap != 0:
		overlap = p.Overlap
	case p.Every != 0:
		overlap = min(overlap, p.Every/4)
	}
	return overlap
}
