package store

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var (
	keyEntriesDue = statement("UPDATE entries SET due_at = ? WHERE (due_at = 0 OR due_at > ?) AND " + withKeys)
	dueKeyEntries = statement(entriesWithCredentials("SELECT * FROM entries WHERE due_at <> 0 AND due_at <= ? AND " + withKeys + " ORDER BY due_at LIMIT ?"))
	nextLook      = statement("UPDATE entries SET due_at = ? WHERE kind = ? AND id = ? AND due_at = ?").
			missed(fault.New(fault.Conflict, "entry-moved", "The entry was changed by somebody else."))
	// A leaf says that a certificate attested the device last.
	keyDevices = statement("SELECT count(*) FROM (SELECT 1 FROM registrations WHERE owner_kind = ? AND owner_id = ? AND leaf = ? AND leaf_key IN (?, ?) LIMIT ?) x")

	accessKeyUsed = [2]*Stmt{accessUsed("primary"), accessUsed("secondary")}
)

const withKeys = "EXISTS (SELECT 1 FROM entry_credentials c WHERE c.kind = entries.kind AND c.id = entries.id AND c.role = 'key')"

func accessUsed(slot string) *Stmt {
	return statement("UPDATE access_policies SET " + slot + "_used = ? WHERE plane = ? AND name = ? AND " + slot + "_since = ? AND " + slot + "_used < ?")
}

func (t *tx) KeyEntriesDue(at time.Time) error {
	return t.exec(keyEntriesDue, micros(at), micros(at))
}

func (t *tx) DueKeyEntries(now time.Time, limit int) ([]provisioning.Enrollment, error) {
	return t.entries(dueKeyEntries, micros(now), atMost(limit))
}

func (t *tx) NextLook(o provisioning.Owner, was, next time.Time) error {
	return t.exec(nextLook, micros(next), int64(o.Kind), o.ID.String(), micros(was))
}

func (t *tx) KeyDevices(o provisioning.Owner, key verify.KeyHash, unknown bool, limit int) (n int64, err error) {
	other := key
	if unknown {
		other = verify.KeyHash{}
	}
	err = t.query(keyDevices, func(r *row) error {
		n = r.int()
		return nil
	}, int64(o.Kind), o.ID.String(), []byte{}, digest(key), digest(other), int64(limit))
	return n, err
}

func (t *tx) AccessKeyUsed(plane provisioning.Plane, name string, slot rotation.Slot, since, used time.Time) error {
	return t.exec(accessKeyUsed[slot], micros(used), string(plane), name, micros(since), micros(used))
}
