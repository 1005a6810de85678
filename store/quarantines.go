package store

import (
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var quarantineColumns = cols("t registration_id, t spelled, t hub, b twin, t from_hub, t from_device, t shut, t why, t actor, t campaign, i started, t ended_by, i ended, i confirmed")

var (
	selectQuarantine = statement("SELECT " + quarantineColumns.list("") + " FROM quarantines WHERE registration_id = ?")
	putQuarantine    = statement(insert("quarantines", quarantineColumns) + " ON CONFLICT (registration_id) DO UPDATE SET " + quarantineColumns.excluded("registration_id"))
	countQuarantines = statement("SELECT hub, count(*) FROM quarantines WHERE ended = 0 GROUP BY hub ORDER BY hub").apart()
	quarantinesOn    = statement("SELECT count(*) FROM quarantines WHERE hub = ? AND ended = 0")
	countUnconfirmed = statement("SELECT count(*) FROM quarantines WHERE registration_id > '' AND confirmed = 0").apart()
	// A hub has something to confirm while it is to remove the device or, of a quarantine that
	// stands, is still to be told of it.
	confirmQuarantines = statement("UPDATE quarantines SET confirmed = ? WHERE confirmed = 0 AND NOT EXISTS (SELECT 1 FROM hub_identities i " +
		"WHERE i.registration_id = quarantines.registration_id AND (quarantines.ended = 0 AND i.generation > i.applied OR " +
		"NOT EXISTS (SELECT 1 FROM registrations r WHERE r.id = i.registration_id AND r.hub = i.hub)))")
)

func scanQuarantine(r *row) provisioning.Quarantine {
	return provisioning.Quarantine{
		ID: r.id(), Spelled: r.text(), Hub: r.text(), Twin: r.blob(), From: provisioning.HubPlace{Hub: r.text(), Device: r.id()}, Shut: r.text(), Why: r.text(),
		Actor: r.text(), Campaign: r.text(), At: r.time(), EndedBy: r.text(), EndedAt: r.time(), Confirmed: r.time(),
	}
}

func (t *tx) Quarantine(id verify.RegistrationID) (provisioning.Quarantine, error) {
	return one(t, selectQuarantine, notFound("quarantine"), scanQuarantine, id.String())
}

func (t *tx) Quarantines(f provisioning.QuarantineFilter) ([]provisioning.Quarantine, error) {
	var w where
	if f.Ended {
		w.add("ended <> 0")
	} else {
		w.add("ended = 0")
	}
	if f.Hub != "" {
		w.add("hub = ?", f.Hub)
	}
	if f.Campaign != "" {
		w.add("campaign = ?", f.Campaign)
	}
	if f.Pending {
		w.add("confirmed = 0")
	}
	if !f.After.IsZero() {
		w.add("registration_id > ?", f.After.String())
	}
	s, args := w.list("SELECT "+quarantineColumns.list("")+" FROM quarantines", "registration_id", f.Limit)
	return all(t, s, scanQuarantine, args...)
}

func (t *tx) PutQuarantine(q provisioning.Quarantine) error {
	return t.exec(putQuarantine, q.ID.String(), q.Spelled, q.Hub, orNull(q.Twin), q.From.Hub, q.From.Device.String(), q.Shut, q.Why, q.Actor, q.Campaign,
		micros(q.At), q.EndedBy, micros(q.EndedAt), micros(q.Confirmed))
}

func (t *tx) CountQuarantines() ([]provisioning.HubCount, error) {
	return all(t, countQuarantines, scanHubCount)
}

func (t *tx) QuarantinesOn(hub string) (int64, error) {
	return one(t, quarantinesOn, notFound("count"), (*row).int, hub)
}

func (t *tx) CountPendingQuarantines() (int64, error) {
	return one(t, countUnconfirmed, notFound("count"), (*row).int)
}

func (t *tx) ConfirmQuarantines(now time.Time) error { return t.exec(confirmQuarantines, micros(now)) }
