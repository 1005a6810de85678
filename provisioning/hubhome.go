package provisioning

import (
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// homecoming is what a registration changes at hubs that live elsewhere. On the built-in hub
// it is the zero value, and nothing is written.
type homecoming struct {
	leaves HubPlace          // the device is to be removed here; zero: nowhere
	tells  HubIdentityRecord // the hub is to be told of the device; zero: it is not
	hasten HubPlace          // the hub has not been told yet; zero: it has
}

// place is where a registration's device is.
func (r Registration) place() HubPlace { return HubPlace{Hub: r.Hub, Device: r.hubDeviceID()} }

// placeOn is the same, of the parts of one.
func placeOn(hub string, id verify.RegistrationID, deviceID string) HubPlace {
	return Registration{ID: id, Hub: hub, DeviceID: deviceID}.place()
}

// elsewhere says that a linked hub is not the built-in one.
func (d *decision) elsewhere(hub string) bool {
	i := slices.IndexFunc(d.facts.Hubs, func(h Hub) bool { return strings.EqualFold(h.Name, hub) })
	return i >= 0 && d.facts.Hubs[i].Driver != BuiltIn
}

// comeHome says what hubs that live elsewhere are to be told. A registration is assigned when
// its hub has confirmed, and not before (architecture §6 step 7).
func (d *decision) comeHome(p *plan, now time.Time) {
	var was Registration
	if d.facts.Registration != nil {
		was = *d.facts.Registration
	}
	next := &p.next
	stays := was.Hub == next.Hub && was.place() == next.place()
	if was.Hub != "" && !stays && d.elsewhere(was.Hub) {
		p.home.leaves = was.place()
	}
	if next.Hub == "" || !d.elsewhere(next.Hub) {
		return
	}
	waits := next.State == Assigned
	switch {
	case !stays, p.issue != nil && !next.comesByKey(), faceOf(was, now) != faceOf(*next, now), waits && was.State != Assigned && was.State != Assigning:
		p.home.tells = HubIdentityRecord{HubPlace: next.place(), Spelled: next.DeviceID, Registration: next.ID, Generation: firstVersion(now), Since: now}
	case was.State == Assigning:
		p.home.hasten = next.place()
	default:
		return
	}
	if waits {
		next.State = Assigning
	}
}

// write is what of it is written. It comes before the registration's own row, as it does in
// the sweep's transactions: on PostgreSQL rows are locked in that order.
func (h homecoming) write(tx Tx, now time.Time) error {
	if h.leaves != (HubPlace{}) {
		if err := tx.StepHubIdentity(h.leaves, now); err != nil {
			return err
		}
	}
	if h.hasten != (HubPlace{}) {
		return tx.HastenHubIdentity(h.hasten, now.Add(hubLease))
	}
	if h.tells.HubPlace == (HubPlace{}) {
		return nil
	}
	return tx.PutHubIdentity(h.tells)
}

// face is what a registration shows its hub, but for what its entry says.
type face struct {
	owner Owner
	keys  bool
	key   verify.KeyHash  // of a device with a TPM, the endorsement key: its key on the hub goes with it
	chain ChainID         // what attested it may be disallowed, or not any more
	refs  [2]rotation.Ref // in no order that a promotion would change
}

// comesByKey says that the device comes to its hub with a symmetric key.
func (r Registration) comesByKey() bool {
	return r.Mechanism == verify.MechanismSymmetricKey || r.Mechanism == verify.MechanismTPM
}

func faceOf(r Registration, now time.Time) face {
	f := face{owner: r.Owner, keys: r.comesByKey(), chain: r.Chain}
	if r.Mechanism == verify.MechanismTPM {
		f.key = r.LeafKey
	}
	if f.keys {
		return f
	}
	for slot := range f.refs {
		if c := r.Pair.Cell(rotation.Slot(slot)); r.Pair.Standing(c.Ref, now) {
			f.refs[slot] = c.Ref
		}
	}
	if f.refs == ([2]rotation.Ref{}) {
		f.refs[0] = rotation.Ref(r.Leaf)
	}
	return f
}

// hubsAdapt has the hubs of an entry's devices told, where the change of the entry bears on
// what they know: its keys, or that its devices are edge devices. Whoever changes an entry
// calls it in the same transaction. Disabling is none of it: hubs are left alone (scenarios J1).
func hubsAdapt(tx Tx, was, is Enrollment) error {
	sealed := func(e Enrollment) (keys [2]string) {
		for _, c := range e.Credentials {
			keys[c.Slot] = string(c.SealedKey)
		}
		return keys
	}
	if was.Version == 0 || was.IoTEdge == is.IoTEdge && sealed(was) == sealed(is) {
		return nil
	}
	return tx.PutHubEntry(is.Owner)
}

// hubConfirmed says whether the hub of a registration has confirmed an identity of since or
// later, and has it told if it has not. The built-in hub always has. The registration
// is due again when the hub has confirmed.
func hubConfirmed(tx Tx, at HubPlace, since, now time.Time) (bool, error) {
	rec, err := tx.HubIdentity(at)
	switch {
	case fault.Is(err, fault.NotFound):
		return true, nil
	case err != nil:
		return false, err
	case rec.Applied == rec.Generation && !rec.AsOf.Before(since):
		return true, nil
	case rec.Applied < rec.Generation:
		return false, nil // whoever tells it does so as of then
	}
	return false, tx.StepHubIdentity(at, now)
}
