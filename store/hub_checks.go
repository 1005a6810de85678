package store

import (
	"encoding/json"
	"fmt"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

var (
	hubCheckColumns = cols("t id, t hub, t actor, i requested, i taken, i began, i ended, t problem, i held, i untold, i unnamed, t drift, " +
		"i repair_at, t repair_by, i removes, t cursor, i repaired, i repair_done")
	hubDriftColumns = cols("t check_id, i grade, t device, t spelled, t registration_id, i generation")
)

const fromHubChecks = " FROM hub_checks WHERE "

var (
	insertHubCheck  = statement(insert("hub_checks", hubCheckColumns)).unique(exists("hub-check"))
	selectHubCheck  = statement("SELECT " + hubCheckColumns.list("") + fromHubChecks + "id = ?")
	selectHubChecks = statement("SELECT " + hubCheckColumns.list("") + fromHubChecks + "hub = ? ORDER BY id DESC")
	openHubChecks   = statement("SELECT " + hubCheckColumns.list("") + fromHubChecks + "ended = 0 ORDER BY id").apart()
	hubRepairs      = statement("SELECT " + hubCheckColumns.list("") + fromHubChecks + "repair_at <> 0 AND repair_done = 0 ORDER BY id").apart()
	moveHubCheck    = statement("UPDATE hub_checks SET " + set(hubCheckColumns, "id", "hub", "actor", "requested") +
		" WHERE id = ? AND taken = ? AND ended = ? AND repair_at = ? AND cursor = ? AND repair_done = ?").
		missed(fault.New(fault.Conflict, "hub-check-moved", "The check was moved by somebody else."))
	deleteHubChecks = statement("DELETE FROM hub_checks WHERE hub = ? AND id < ? AND ended <> 0 AND (repair_at = 0 OR repair_done <> 0) AND (? = 0 OR problem <> '')")

	putHubDrift     = statement(insert("hub_drifts", hubDriftColumns) + " ON CONFLICT (check_id, grade, device) DO NOTHING")
	selectHubDrifts = statement("SELECT " + hubDriftColumns.list("") + ", (SELECT hub FROM hub_checks WHERE id = check_id) FROM hub_drifts " +
		"WHERE check_id = ? AND (grade > ? OR grade = ? AND device > ?) ORDER BY grade, device LIMIT ?")
	forgetHubDrifts = statement("DELETE FROM hub_drifts WHERE check_id = ?")
)

func scanHubCheck(r *row) provisioning.HubCheck {
	c := provisioning.HubCheck{
		ID: r.text(), Hub: r.text(), Actor: r.text(), Requested: r.time(), Taken: r.time(), Began: r.time(), Ended: r.time(), Problem: r.text(),
		Held: r.int(), Untold: r.int(), Unnamed: r.int(),
	}
	if err := json.Unmarshal([]byte(r.text()), &c.Drift); err != nil && r.err == nil {
		r.err = fmt.Errorf("drift of a check on record: %w", err)
	}
	c.Repair = provisioning.HubRepair{At: r.time(), By: r.text(), Removes: r.bool(), Cursor: r.text(), Devices: r.int(), Done: r.time()}
	return c
}

func hubCheckArgs(c provisioning.HubCheck) ([]any, error) {
	drift, err := json.Marshal(c.Drift)
	return []any{
		c.ID, c.Hub, c.Actor, micros(c.Requested), micros(c.Taken), micros(c.Began), micros(c.Ended), c.Problem, c.Held, c.Untold, c.Unnamed, string(drift),
		micros(c.Repair.At), c.Repair.By, flag(c.Repair.Removes), c.Repair.Cursor, c.Repair.Devices, micros(c.Repair.Done),
	}, err
}

func (t *tx) InsertHubCheck(c provisioning.HubCheck) error {
	args, err := hubCheckArgs(c)
	if err != nil {
		return err
	}
	return t.exec(insertHubCheck, args...)
}

func (t *tx) HubCheck(id string) (provisioning.HubCheck, error) {
	return one(t, selectHubCheck, notFound("hub-check"), scanHubCheck, id)
}

func (t *tx) HubChecks(hub string) ([]provisioning.HubCheck, error) {
	return all(t, selectHubChecks, scanHubCheck, hub)
}

func (t *tx) OpenHubChecks() ([]provisioning.HubCheck, error) {
	return all(t, openHubChecks, scanHubCheck)
}

func (t *tx) HubRepairs() ([]provisioning.HubCheck, error) { return all(t, hubRepairs, scanHubCheck) }

func (t *tx) MoveHubCheck(was, is provisioning.HubCheck) error {
	args, err := hubCheckArgs(is)
	if err != nil {
		return err
	}
	return t.exec(moveHubCheck, append(args[4:], is.ID, micros(was.Taken), micros(was.Ended), micros(was.Repair.At), was.Repair.Cursor, micros(was.Repair.Done))...)
}

func (t *tx) DeleteHubChecks(hub, before string, failed bool) error {
	return t.exec(deleteHubChecks, hub, before, flag(failed))
}

func (t *tx) PutHubDrifts(check string, list []provisioning.HubDrift) error {
	for _, d := range list {
		if err := t.exec(putHubDrift, check, int64(d.Kind.Grade()), d.Device.String(), d.Spelled, d.Registration.String(), d.Generation); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) HubDrifts(check, after string, limit int) ([]provisioning.HubDrift, error) {
	grade, device := int64(-1), ""
	if len(after) > 2 {
		grade, device = int64(after[0]-'a'), after[2:]
	}
	return all(t, selectHubDrifts, scanHubDrift, check, grade, grade, device, atMost(limit))
}

func scanHubDrift(r *row) (d provisioning.HubDrift) {
	_ = r.text() // the check
	if grade := r.int(); grade >= 0 && int(grade) < len(provisioning.HubDriftKinds) {
		d.Kind = provisioning.HubDriftKinds[grade]
	}
	d.Device, d.Spelled, d.Registration, d.Generation, d.Hub = r.id(), r.text(), r.id(), r.int(), r.text()
	return d
}

func (t *tx) ForgetHubDrifts(check string) error { return t.exec(forgetHubDrifts, check) }
