package provisioning

import (
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// hubJudging compares devices of a hub with what it has been told, in one View.
type hubJudging struct {
	reading  *hubReading
	now      time.Time
	began    time.Time
	barring  bool // disallowances are on their way to hubs: see Incident.Passed
	entering bool // an entry was changed, and its devices' hubs are to be told
}

func (c *hubChecking) judging(tx Tx, keys bool) (*hubJudging, error) {
	j := &hubJudging{reading: c.readingHub(tx, c.is.Hub, keys), began: c.is.Began}
	j.now = j.reading.at
	incidents, err := tx.OpenIncidents()
	if err != nil {
		return nil, err
	}
	j.barring = slices.ContainsFunc(incidents, func(i Incident) bool { return i.Passed.IsZero() })
	_, err = tx.NextHubEntry()
	j.entering = err == nil
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return j, err
}

// told is what a hub was told of a device, by the function that tells it; false when it is
// still to be told, or was while it was being read.
func (j *hubJudging) told(rec HubIdentityRecord) (HubIdentity, bool, error) {
	return j.toldAt(rec, j.now)
}

func (j *hubJudging) toldAt(rec HubIdentityRecord, at time.Time) (HubIdentity, bool, error) {
	if rec.Generation > rec.Applied || !rec.Told.Before(j.began) {
		return HubIdentity{}, false, nil
	}
	j.reading.at = at
	d := tellingOf{HubIdentityRecord: rec}
	err := d.read(j.reading)
	return d.want, d.held == "", err
}

// judge says how a device that the hub holds differs; Kind is "" where it does not.
func (j *hubJudging) judge(at HubPlace, found HubFound) (d HubDrift, untold bool, err error) {
	rec, err := j.reading.tx.HubIdentity(at)
	if fault.Is(err, fault.NotFound) {
		return HubDrift{Kind: DriftUnknown, HubPlace: at, Spelled: found.DeviceID}, false, nil
	}
	if err != nil {
		return d, false, err
	}
	want, told, err := j.told(rec)
	if err != nil || !told || !want.Present {
		return d, true, err
	}
	kind := want.differs(found)
	if kind == "" {
		return d, false, nil
	}
	untold, err = j.onItsWay(rec, kind, found)
	return rec.drift(kind), untold, err
}

// onItsWay says that a difference comes from what Muster has decided, and not made its hub
// ahead by yet: a disallowance spreads, an entry's devices are gone through, an overlap is over.
func (j *hubJudging) onItsWay(rec HubIdentityRecord, kind HubDriftKind, found HubFound) (bool, error) {
	switch {
	case j.barring && (kind == DriftEnabled || kind == DriftDisabled):
		return true, nil
	case j.entering && (kind == DriftCredentials || kind == DriftDeviceKind):
		return true, nil
	case kind != DriftCredentials:
		return false, nil
	}
	then, _, err := j.toldAt(rec, rec.AsOf)
	return then.differs(found) == "", err
}

func (rec HubIdentityRecord) drift(kind HubDriftKind) HubDrift {
	return HubDrift{Kind: kind, HubPlace: rec.HubPlace, Spelled: rec.Spelled, Registration: rec.Registration, Generation: rec.Generation}
}

// differs says how a device as it was found differs from what is wanted: the most dangerous way,
// "" when it does not.
func (want HubIdentity) differs(found HubFound) HubDriftKind {
	says := found.Auth.Type != ""
	switch {
	case found.Enabled && !want.Enabled:
		return DriftEnabled
	case says && !want.Auth.agrees(found.Auth):
		return DriftCredentials
	case !found.Enabled && want.Enabled:
		return DriftDisabled
	case says && found.IoTEdge != want.IoTEdge:
		return DriftDeviceKind
	}
	return ""
}

// agrees compares credentials; a key that one side does not know, or show, is no difference.
func (a HubAuth) agrees(found HubAuth) bool {
	if a.Type != found.Type || !sameThumbprints(a.Thumbprints, found.Thumbprints) {
		return false
	}
	for i, key := range found.Keys {
		if !key.IsZero() && !a.Keys[i].IsZero() && !key.Equal(a.Keys[i]) {
			return false
		}
	}
	return true
}

// keyed says that a hub shows the keys of a device.
func (found HubFound) keyed() bool {
	return !found.Auth.Keys[0].IsZero() || !found.Auth.Keys[1].IsZero()
}

// changed says how the door of the built-in hub has changed a device.
func (r *hubReading) changed(rec HubRecord) (HubDriftKind, error) {
	if rec.Registration == nil {
		return DriftUnknown, nil
	}
	r.keys = rec.Change.Auth.Type == HubSAS
	is, err := r.device(rec)
	if err != nil {
		return "", err
	}
	rec.Change = nil
	was, err := r.device(rec)
	want := HubIdentity{Enabled: was.Enabled, Auth: was.Auth, IoTEdge: was.IoTEdge}
	kind := want.differs(HubFound{Enabled: is.Enabled, Auth: is.Auth, IoTEdge: is.IoTEdge})
	return kind, err
}
