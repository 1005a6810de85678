package store

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var (
	pairColumns = cols("b primary_ref, i primary_state, i primary_from, i primary_until, i primary_seen, i primary_retire, " +
		"b secondary_ref, i secondary_state, i secondary_from, i secondary_until, i secondary_seen, i secondary_retire")
	rollingColumns = append(cols("t id, i owner_kind, t owner_id, t state, t hub, t device_id, i updated, i version, i due_at"), pairColumns...)
	rollColumns    = cols("b ref, i told_at, t stuck, i since, i tries")
)

// rollingPairs are narrow: a registration's payload and answer are not read.
func rollingPairs(from string) string {
	return "SELECT " + rollingColumns.list("r.") + ", e.enabled, e.profile, " + rollColumns.list("w.") + " FROM " + from + " r " +
		"LEFT JOIN entries e ON e.kind = r.owner_kind AND e.id = r.owner_id LEFT JOIN rolls w ON w.registration_id = r.id "
}

// marked is provisioning.RollingPair.IsMarked. All that sets a due date alone is below; what
// changes a registration sets it with the rest.
const marked = "due_at > 1 AND due_at <= updated"

const dueFirst = "WHERE r.due_at <> 0 AND r.due_at <= ? ORDER BY r.due_at LIMIT ?"

var (
	claimPairs = locking(rollingPairs("registrations")+dueFirst,
		rollingPairs("(SELECT "+rollingColumns.list("")+" FROM registrations r "+dueFirst+" FOR UPDATE SKIP LOCKED)")+"ORDER BY r.due_at")
	listPairs  = statement(rollingPairs("registrations") + "WHERE r.id > ? ORDER BY r.id LIMIT ?")
	countDue   = statement("SELECT count(*) FROM (SELECT 1 FROM registrations WHERE due_at <> 0 AND due_at <= ? LIMIT ?) due")
	updatePair = statement("UPDATE registrations SET " + set(pairColumns) + ", due_at = ?, updated = ?, version = ? WHERE id = ? AND version = ?").missed(errMoved)

	makeDue  = statement("UPDATE registrations SET due_at = CASE WHEN due_at <> 0 AND due_at < ? THEN due_at ELSE ? END WHERE id = ?").missed(notFound("registration"))
	markLeft = statement("UPDATE registrations SET due_at = CASE WHEN " + marked + " THEN due_at WHEN updated < ? THEN updated ELSE ? END WHERE id = ?")
	postpone = statement("UPDATE registrations SET due_at = CASE WHEN " + marked + " THEN due_at ELSE ? END WHERE id = ? AND due_at = ?").missed(errMoved)
	putDue   = statement("UPDATE registrations SET due_at = ? WHERE id = ?")

	selectGood = statement("SELECT " + certificateColumns.list("") + " FROM certificates WHERE registration_id = ? AND revoked_at = 0 AND not_after > ?")

	selectRoll = statement("SELECT " + rollColumns.list("") + " FROM rolls WHERE registration_id = ?")
	putRoll    = statement("INSERT INTO rolls (registration_id, " + rollColumns.list("") + ") VALUES (?, " + marks(len(rollColumns)) + ") " +
		"ON CONFLICT (registration_id) DO UPDATE SET ref = excluded.ref, told_at = excluded.told_at, stuck = excluded.stuck, since = excluded.since, tries = excluded.tries")
	deleteRoll = statement("DELETE FROM rolls WHERE registration_id = ?")
)

// locking is a read of rows that the transaction will write. Where writers do not wait for
// each other as a whole it takes them, leaves out what is taken, and only then joins.
func locking(text, taking string) *Stmt {
	return &Stmt{Text: text, Numbered: number(taking), Kept: true}
}

func scanPair(r *row, scan func(*row) rotation.Cell) rotation.Pair {
	pair, err := rotation.RestorePair(scan(r), scan(r))
	if err != nil && r.err == nil {
		r.err = err
	}
	return pair
}

func scanRolling(r *row) provisioning.RollingPair {
	p := provisioning.RollingPair{
		ID: r.id(), Owner: scanOwner(r), State: provisioning.State(r.text()), Hub: r.text(), DeviceID: r.text(),
		Updated: r.time(), Version: r.int(), DueAt: r.time(), Pair: scanPair(r, scanCell), Enabled: r.bool(), Profile: r.text(),
	}
	if r.values[r.next] != nil {
		p.Roll = scanRoll(r)
		p.Roll.ID = p.ID
	}
	return p
}

func scanRoll(r *row) provisioning.Roll {
	return provisioning.Roll{Ref: r.hash(), ToldAt: r.time(), Stuck: r.text(), Since: r.time(), Tries: r.int()}
}

func (t *tx) ClaimPairs(now time.Time, limit int) ([]provisioning.RollingPair, error) {
	return all(t, claimPairs, scanRolling, micros(now), atMost(limit))
}

func (t *tx) Pairs(after string, limit int) ([]provisioning.RollingPair, error) {
	return all(t, listPairs, scanRolling, after, atMost(limit))
}

func (t *tx) CountDue(now time.Time, limit int) (int64, error) {
	return one(t, countDue, notFound("count"), (*row).int, micros(now), int64(limit))
}

func (t *tx) PutPair(p provisioning.RollingPair) error {
	args := append(cellArgs(p.Pair.Cell(rotation.Primary)), cellArgs(p.Pair.Cell(rotation.Secondary))...)
	return t.exec(updatePair, append(args, micros(p.DueAt), micros(p.Updated), p.Version, p.ID.String(), p.Version-1)...)
}

func (t *tx) MakeDue(id verify.RegistrationID, at time.Time) error {
	return t.exec(makeDue, micros(at), micros(at), id.String())
}

func (t *tx) MarkLeft(id verify.RegistrationID, at time.Time) error {
	return t.exec(markLeft, micros(at), micros(at), id.String())
}

func (t *tx) PostponeRegistration(id verify.RegistrationID, was, until time.Time) error {
	return t.exec(postpone, micros(until), id.String(), micros(was))
}

func (t *tx) PutDue(id verify.RegistrationID, due time.Time) error {
	return t.exec(putDue, micros(due), id.String())
}

func (t *tx) GoodCertificates(id verify.RegistrationID, now time.Time) ([]ca.Certificate, error) {
	return all(t, selectGood, scanCertificate, id.String(), micros(now))
}

func (t *tx) Roll(id verify.RegistrationID) (provisioning.Roll, error) {
	w, err := one(t, selectRoll, notFound("roll"), scanRoll, id.String())
	if err == nil {
		w.ID = id
	}
	return w, err
}

func (t *tx) PutRoll(w provisioning.Roll) error {
	return t.exec(putRoll, w.ID.String(), w.Ref[:], micros(w.ToldAt), w.Stuck, micros(w.Since), w.Tries)
}

func (t *tx) DeleteRoll(id verify.RegistrationID) error { return t.exec(deleteRoll, id.String()) }
