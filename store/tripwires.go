package store

import (
	"fmt"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var tripwireColumns = cols("t id, t registration_id, t kind, i period, i first, i last, i count, t object, t detail, t door, t address, i held")

var (
	insertTripwire = statement(insert("tripwires", tripwireColumns)).unique(exists("tripwire"))
	tripped        = statement("SELECT 1 FROM tripwires WHERE registration_id = ? AND kind = ? AND period = ?")
	countTripwire  = statement("UPDATE tripwires SET count = count + ?, last = CASE WHEN last < ? THEN CAST(? AS BIGINT) ELSE last END, " +
		"object = ?, detail = ?, door = ?, address = ? WHERE registration_id = ? AND kind = ? AND period = ?")

	// A registration's subject in the ledger is registration:ID; of its rows those that the device itself
	// caused. Keys without a leaf are symmetric, but for a TPM's.
	newKeys = statement("SELECT k.key_hash, k.id, COALESCE(s.registration_id, '') FROM (SELECT u.key_hash, u.id, min(u.seen) AS seen FROM (" +
		"SELECT r.leaf_key AS key_hash, r.id AS id, l.at AS seen FROM ledger l CROSS JOIN registrations r " +
		"WHERE l.seq > ? AND l.seq <= ? AND l.subject LIKE 'registration:%' AND l.actor LIKE 'device:%' AND r.id = substr(l.subject, 14) AND (length(r.leaf) > 0 OR r.mechanism = 'tpm')" +
		" UNION ALL SELECT c.key_hash, c.registration_id, c.issued FROM certificates c WHERE c.position > ? AND c.position <= ? AND c.registration_id <> ''" +
		") u GROUP BY u.key_hash, u.id) k " +
		"LEFT JOIN seen_keys s ON s.key_hash = k.key_hash WHERE s.registration_id IS NULL OR s.registration_id <> k.id ORDER BY k.seen, k.id, k.key_hash")
	putSeenKey = statement("INSERT INTO seen_keys (key_hash, registration_id) VALUES (?, ?) ON CONFLICT (key_hash) DO UPDATE SET registration_id = excluded.registration_id")

	errKeyPositionMoved = fault.New(fault.Conflict, "key-position-moved", "Another process has looked at the same keys meanwhile.")
	insertKeyPosition   = statement("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING").missed(errKeyPositionMoved)
	updateKeyPosition   = statement("UPDATE meta SET value = ? WHERE key = ? AND value = ?").missed(errKeyPositionMoved)
)

func scanTripwire(r *row) provisioning.Tripwire {
	return provisioning.Tripwire{
		ID: r.text(), Registration: r.id(), Kind: provisioning.TripwireKind(r.text()), Period: r.time(), First: r.time(), Last: r.time(), Count: r.int(),
		Object: r.text(), Detail: r.text(), Door: r.text(), Address: r.text(), Held: r.bool(),
	}
}

func (t *tx) InsertTripwire(x provisioning.Tripwire) error {
	return t.exec(insertTripwire, x.ID, x.Registration.String(), string(x.Kind), micros(x.Period), micros(x.First), micros(x.Last), x.Count,
		x.Object, x.Detail, x.Door, x.Address, flag(x.Held))
}

func (t *tx) Tripped(x provisioning.Tripwire) (found bool, err error) {
	err = t.query(tripped, func(*row) error {
		found = true
		return nil
	}, x.Registration.String(), string(x.Kind), micros(x.Period))
	return found, err
}

func (t *tx) CountTripwire(x provisioning.Tripwire) error {
	last := micros(x.Last)
	return t.exec(countTripwire, x.Count, last, last, x.Object, x.Detail, x.Door, x.Address, x.Registration.String(), string(x.Kind), micros(x.Period))
}

func (t *tx) Tripwires(f provisioning.TripwireFilter) ([]provisioning.Tripwire, error) {
	var w where
	if f.Before != "" {
		w.add("id < ?", f.Before)
	}
	if f.Kind != "" {
		w.add("kind = ?", string(f.Kind))
	}
	if !f.Registration.IsZero() {
		w.add("registration_id = ?", f.Registration.String())
	}
	s, args := w.list("SELECT "+tripwireColumns.list("")+" FROM tripwires", "id DESC", f.Limit)
	return all(t, s, scanTripwire, args...)
}

func (t *tx) NewKeys(from, upTo provisioning.KeyPosition) ([]provisioning.NewKey, error) {
	return all(t, newKeys, func(r *row) provisioning.NewKey {
		return provisioning.NewKey{Key: r.hash(), ID: r.id(), Holder: r.id()}
	}, from.Seq, upTo.Seq, from.Certificate, upTo.Certificate)
}

func (t *tx) PutSeenKey(key verify.KeyHash, id verify.RegistrationID) error {
	return t.exec(putSeenKey, key[:], id.String())
}

// keyPositionKey is where meta keeps up to where keys were looked at.
const keyPositionKey = "key-position"

func (t *tx) KeyPosition() (p provisioning.KeyPosition, err error) {
	text, err := one(t, selectMeta, notFound("meta"), (*row).text, keyPositionKey)
	if fault.Is(err, fault.NotFound) {
		return p, nil
	}
	if err == nil {
		if _, err = fmt.Sscanf(text, "%d %d", &p.Seq, &p.Certificate); err != nil {
			err = fmt.Errorf("the position of keys on record: %w", err)
		}
	}
	return p, err
}

func (t *tx) MoveKeyPosition(was, is provisioning.KeyPosition) error {
	text := func(p provisioning.KeyPosition) string { return fmt.Sprintf("%d %d", p.Seq, p.Certificate) }
	if was == (provisioning.KeyPosition{}) {
		return t.exec(insertKeyPosition, keyPositionKey, text(is))
	}
	return t.exec(updateKeyPosition, text(is), keyPositionKey, text(was))
}
