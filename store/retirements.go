package store

import (
	"strings"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var retirementColumns = cols("t registration_id, t spelled, t entry, i owner_kind, t owner_id, t hub, t device, i elsewhere, i certificates, t stays_open, i deleted, " +
	"t actor, t campaign, i retired_at, i confirmed")

// hasReturned is of a device that registered after it was retired.
const hasReturned = "(r.id IS NOT NULL AND r.state IN ('assigned', 'assigning') AND r.operation_at > t.retired_at)"

// toldOf are the hubs that know a device; of a retired one that has not returned, those that are to
// remove it. While there are any, its retirement waits.
const (
	toldOf = " FROM hub_identities h WHERE h.registration_id = t.registration_id"
	open   = "t.confirmed = 0 AND NOT " + hasReturned
	waits  = open + " AND EXISTS (SELECT 1" + toldOf + ")"
)

var (
	fromRetirements = " FROM retirements t LEFT JOIN registrations r ON r.id = t.registration_id"
	readRetirements = "SELECT " + retirementColumns.list("t.") + ", CASE WHEN " + open + " THEN (SELECT count(*)" + toldOf + ") ELSE CAST(0 AS BIGINT) END, " +
		"CASE WHEN " + hasReturned + " THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END" + fromRetirements
)

var (
	selectRetirement  = statement(readRetirements + " WHERE t.registration_id = ?")
	putRetirement     = statement(insert("retirements", retirementColumns) + " ON CONFLICT (registration_id) DO UPDATE SET " + retirementColumns.excluded("registration_id"))
	leftRetirements   = statement("SELECT t.registration_id FROM retirements t WHERE t.confirmed = 0 AND NOT EXISTS (SELECT 1" + toldOf + ") ORDER BY t.registration_id LIMIT ?").apart()
	confirmRetirement = statement("UPDATE retirements SET confirmed = ? WHERE registration_id = ? AND confirmed = 0 AND NOT EXISTS (SELECT 1 FROM hub_identities h WHERE h.registration_id = retirements.registration_id)")
	countPending      = statement("SELECT count(*)" + fromRetirements + " WHERE " + waits).apart()
)

// words reads words with a space between them.
func words(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Fields(text)
}

func scanRetirement(r *row) provisioning.Retirement {
	x := provisioning.Retirement{ID: r.id(), Spelled: r.text()}
	x.Entry, x.Owner = provisioning.EntryFate(r.text()), scanOwner(r)
	x.HubPlace = provisioning.HubPlace{Hub: r.text(), Device: r.id()}
	x.Elsewhere, x.Certificates, x.Open = r.bool(), r.int(), words(r.text())
	x.Deleted, x.Actor, x.Campaign, x.At = r.bool(), r.text(), r.text(), r.time()
	x.Confirmed, x.Awaited, x.Returned = r.time(), r.int(), r.bool()
	return x
}

func (t *tx) Retirement(id verify.RegistrationID) (provisioning.Retirement, error) {
	return one(t, selectRetirement, notFound("retirement"), scanRetirement, id.String())
}

func (t *tx) Retirements(f provisioning.RetirementFilter) ([]provisioning.Retirement, error) {
	var w where
	if f.Campaign != "" {
		w.add("t.campaign = ?", f.Campaign)
	}
	if f.Pending {
		w.add(waits)
	}
	if !f.After.IsZero() {
		w.add("t.registration_id > ?", f.After.String())
	}
	s, args := w.list(readRetirements, "t.registration_id", f.Limit)
	return all(t, s, scanRetirement, args...)
}

func (t *tx) PutRetirement(r provisioning.Retirement) error {
	return t.exec(putRetirement, r.ID.String(), r.Spelled, string(r.Entry), int64(r.Owner.Kind), r.Owner.ID.String(), r.Hub, r.Device.String(), flag(r.Elsewhere), r.Certificates,
		strings.Join(r.Open, " "), flag(r.Deleted), r.Actor, r.Campaign, micros(r.At), micros(r.Confirmed))
}

func (t *tx) ConfirmedRetirements(limit int) ([]verify.RegistrationID, error) {
	return all(t, leftRetirements, (*row).id, atMost(limit))
}

func (t *tx) ConfirmRetirement(id verify.RegistrationID, now time.Time) error {
	return t.exec(confirmRetirement, micros(now), id.String())
}

func (t *tx) CountPendingRetirements() (int64, error) {
	return one(t, countPending, notFound("count"), (*row).int)
}
