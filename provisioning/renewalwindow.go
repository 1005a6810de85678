package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// RenewalWindow is when a device is advised to ask for its next certificate; zero: nothing
// is advised. From is when a successor is due, By when the device is reminded.
type RenewalWindow struct{ From, By time.Time }

// IsZero reports whether nothing is advised.
func (w RenewalWindow) IsZero() bool { return w.By.IsZero() }

func renewalWindow(rule policies.RotationPolicy, notBefore, notAfter time.Time) RenewalWindow {
	return RenewalWindow{From: rule.PrepareAfter(notBefore, notAfter), By: rule.RemindAfter(notBefore, notAfter)}
}

// windowOf is the window for the certificate that a registration has in use.
func windowOf(tx Tx, reg Registration) (RenewalWindow, error) {
	inUse := reg.Pair.Current()
	if inUse.State == rotation.Empty || reg.Owner.IsZero() {
		return RenewalWindow{}, nil
	}
	owner, err := tx.Enrollment(reg.Owner)
	if err != nil {
		return RenewalWindow{}, err
	}
	return windowBy(tx, owner.Profile, inUse.NotBefore, inUse.NotAfter)
}

// windowBy is the window by a profile that may be gone.
func windowBy(tx Tx, profile string, notBefore, notAfter time.Time) (RenewalWindow, error) {
	p, err := tx.Profile(profile)
	if fault.Is(err, fault.NotFound) {
		return RenewalWindow{}, nil
	}
	return renewalWindow(p.Renewal, notBefore, notAfter), err
}
