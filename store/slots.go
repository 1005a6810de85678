package store

import (
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// dueEntries are in the order of the index entries_due. Entries that hold keys have a sweep
// of their own.
const dueEntries = "FROM entries WHERE due_at <> 0 AND due_at <= ? AND NOT EXISTS " +
	"(SELECT 1 FROM entry_credentials k WHERE k.kind = entries.kind AND k.id = entries.id AND k.role = 'key') ORDER BY due_at LIMIT ?"

var (
	selectDueEntries = statement(entriesWithCredentials("SELECT * " + dueEntries))
	claimEntries     = claiming("SELECT kind, id, version, due_at " + dueEntries)
	// What is due already stays so, and is changed all the same: who decided about the entry
	// before notices by that.
	wakeEntry      = statement("UPDATE entries SET due_at = CASE WHEN due_at > 1 AND due_at <= ? THEN due_at - 1 ELSE ? END WHERE kind = ? AND id = ?")
	dateEntry      = statement("UPDATE entries SET due_at = ? WHERE kind = ? AND id = ? AND version = ?").missed(stale("enrollment"))
	moveEntry      = statement("UPDATE entries SET version = ?, due_at = ? WHERE kind = ? AND id = ? AND version = ?").missed(stale("enrollment"))
	moveCredential = statement("UPDATE entry_credentials SET state = ?, seen_at = ?, retire_at = ? WHERE kind = ? AND id = ? AND slot = ?").
			missed(stale("enrollment"))
	// The certificates of an entry are on their way from one to the other when there are two.
	twoSlotsDue = statement("UPDATE entries SET due_at = ? WHERE kind = ? AND due_at > ? AND 2 = " +
		"(SELECT count(*) FROM entry_credentials c WHERE c.kind = entries.kind AND c.id = entries.id AND c.role <> 'key')")
)

// claiming is a read that keeps others from the rows it found until its transaction ends. On
// SQLite there is one writer: nobody else claims meanwhile.
func claiming(text string) *Stmt {
	s := statement(text)
	s.Numbered += " FOR NO KEY UPDATE SKIP LOCKED"
	return s
}

func (t *tx) DueEntries(now time.Time, limit int) ([]provisioning.Enrollment, error) {
	return t.entries(selectDueEntries, micros(now), atMost(limit))
}

func (t *tx) ClaimEntries(now time.Time, limit int) ([]provisioning.DueEntry, error) {
	return all(t, claimEntries, func(r *row) provisioning.DueEntry {
		return provisioning.DueEntry{Owner: scanOwner(r), Version: r.int(), DueAt: r.time()}
	}, micros(now), atMost(limit))
}

func (t *tx) WakeEntry(o provisioning.Owner, at time.Time) error {
	return t.exec(wakeEntry, micros(at), micros(at), int64(o.Kind), o.ID.String())
}

func (t *tx) TwoSlotsDue(k provisioning.Kind, at time.Time) error {
	return t.exec(twoSlotsDue, micros(at), int64(k), micros(at))
}

func (t *tx) DateEntry(o provisioning.Owner, due time.Time, was int64) error {
	return t.exec(dateEntry, micros(due), int64(o.Kind), o.ID.String(), was)
}

func (t *tx) MoveEntry(e provisioning.Enrollment, was int64) error {
	if err := t.exec(moveEntry, e.Version, micros(e.DueAt), int64(e.Kind), e.ID.String(), was); err != nil {
		return err
	}
	// The active one last: at no moment are there two (entry_credentials_one_active).
	for _, active := range []bool{false, true} {
		for _, c := range e.Credentials {
			if (c.State == rotation.Active) != active {
				continue
			}
			err := t.exec(moveCredential, int64(c.State), micros(c.SeenAt), micros(c.RetireAt), int64(e.Kind), e.ID.String(), int64(c.Slot))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// An individual entry's device hangs on its leaf; a group's on what its outside chain
// contains. No index leads from a chain to its registrations: those of the owner are walked.
const (
	hangsByLeaf  = " FROM registrations r WHERE r.owner_kind = 0 AND r.owner_id = ? AND r.leaf = ?"
	hangsByChain = " FROM registrations r WHERE r.owner_kind = 1 AND r.owner_id = ? AND r.chain IN (SELECT chain FROM chain_links WHERE thumbprint = ?)" +
		" AND r.chain NOT IN (SELECT chain FROM chain_links WHERE thumbprint = ?)"
	goodCells = "(r.primary_state <> 0 AND r.primary_until > ? AND (r.primary_state <> 3 OR r.primary_retire > ?)" +
		" OR r.secondary_state <> 0 AND r.secondary_until > ? AND (r.secondary_state <> 3 OR r.secondary_retire > ?))"
)

// hanging is a question about the devices that hang on a slot, for either kind of entry.
type hanging [2]*Stmt

func hangingBy(before, after string) (h hanging) {
	for kind, from := range [...]string{provisioning.Individual: hangsByLeaf, provisioning.Group: hangsByChain} {
		h[kind] = statement(before + from + after)
	}
	return h
}

var (
	hangsAny    = hangingBy("SELECT 1", " LIMIT 1")
	hangCount   = hangingBy("SELECT count(*), count(CASE WHEN "+goodCells+" THEN NULL ELSE 1 END)", "")
	hangingList = hangingBy("SELECT "+registrationColumns.list("r."), " AND r.id > ? ORDER BY r.id LIMIT ?")
)

// of is the statement for a slot and the parameters of its condition.
func (h hanging) of(x provisioning.Hang) (*Stmt, []any) {
	args := []any{x.Owner.ID.String(), x.On[:]}
	if x.Owner.Kind == provisioning.Group {
		args = append(args, x.But[:])
	}
	return h[x.Owner.Kind], args
}

func (t *tx) HangsAny(x provisioning.Hang) (any bool, err error) {
	s, args := hangsAny.of(x)
	err = t.query(s, func(*row) error { any = true; return nil }, args...)
	return any, err
}

func (t *tx) HangCount(x provisioning.Hang, now time.Time) (devices, locked int64, err error) {
	s, args := hangCount.of(x)
	at := micros(now)
	err = t.query(s, func(r *row) error {
		devices, locked = r.int(), r.int()
		return nil
	}, append([]any{at, at, at, at}, args...)...)
	return devices, locked, err
}

func (t *tx) Hanging(x provisioning.Hang, after verify.RegistrationID, limit int) ([]provisioning.Registration, error) {
	s, args := hangingList.of(x)
	return all(t, s, scanRegistration, append(args, after.String(), atMost(limit))...)
}
