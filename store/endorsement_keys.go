package store

import (
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	selectListedKeys = statement("SELECT " + listedColumns.list("") + " FROM endorsement_keys WHERE kind = 1 AND id = ? AND key_hash > ? ORDER BY key_hash LIMIT ?")
	countListedKeys  = statement("SELECT count(*) FROM endorsement_keys WHERE kind = 1 AND id = ?")
	putListedKey     = statement(insert("endorsement_keys", listedColumns) + " ON CONFLICT (kind, id, key_hash) DO UPDATE SET registration_id = excluded.registration_id").trust().
				foreign(notFound("enrollment"))
	deleteListedKey = statement("DELETE FROM endorsement_keys WHERE kind = 1 AND id = ? AND key_hash = ?").trust()
	clearListedKeys = statement("DELETE FROM endorsement_keys WHERE kind = 1 AND id = ?").trust()
)

func scanListed(r *row) provisioning.ListedKey {
	_ = r.int() // groups alone have lists
	return provisioning.ListedKey{Group: r.id(), Key: r.hash(), ID: r.id(), Since: r.time()}
}

func (t *tx) ListedKeys(group verify.RegistrationID, after verify.KeyHash, limit int) ([]provisioning.ListedKey, error) {
	from := after[:]
	if after.IsZero() {
		from = []byte{}
	}
	return all(t, selectListedKeys, scanListed, group.String(), from, atMost(limit))
}

func (t *tx) CountListedKeys(group verify.RegistrationID) (n int64, err error) {
	err = t.query(countListedKeys, func(r *row) error {
		n = r.int()
		return nil
	}, group.String())
	return n, err
}

func (t *tx) PutListedKey(k provisioning.ListedKey) error {
	return t.exec(putListedKey, int64(provisioning.Group), k.Group.String(), k.Key[:], k.ID.String(), micros(k.Since))
}

func (t *tx) DeleteListedKey(group verify.RegistrationID, key verify.KeyHash) error {
	return t.exec(deleteListedKey, group.String(), key[:])
}

func (t *tx) ClearListedKeys(group verify.RegistrationID) error {
	return t.exec(clearListedKeys, group.String())
}
