package provisioning

import (
	"time"

	"github.com/passmuster/muster/rotation"
)

const (
	// hubAgain is when a pair that waits for its hub is looked at once more, should nothing
	// be heard of it: when the hub confirms, the pair is due at once.
	hubAgain = 15 * time.Minute
	// hubPatience is how long a pair waits for its hub before its roll is called stuck.
	hubPatience = time.Hour
	// hubUnconfirmed is the reason then, if the pair has none of its own.
	hubUnconfirmed = "hub-unconfirmed"
)

// waitsForHub says that an overlap of a registration is over, and that its hub, which lives
// elsewhere, has not confirmed an identity without that certificate. The hub is told.
func (w *rollPages) waitsForHub(p RollingPair) (bool, error) {
	if !w.distant[p.Hub] {
		return false, nil
	}
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if c := p.Pair.Cell(slot); c.State == rotation.Retiring && !w.now.Before(c.RetireAt) {
			confirmed, err := hubConfirmed(w.tx, placeOn(p.Hub, p.ID, p.DeviceID), c.RetireAt, w.now)
			return !confirmed, err
		}
	}
	return false, nil
}
