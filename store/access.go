package store

import (
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

var accessColumns = cols("t plane, t name, i rights, b primary_key, b secondary_key, i created, i updated, i version, " +
	"i primary_since, i primary_used, i secondary_since, i secondary_used")

var (
	selectAccess = statement("SELECT " + accessColumns.list("") + " FROM access_policies WHERE plane = ? AND name = ?").alone()
	listAccess   = statement("SELECT " + accessColumns.list("") + " FROM access_policies ORDER BY plane, name")
	insertAccess = statement(insert("access_policies", accessColumns)).unique(exists("policy"))
	updateAccess = statement("UPDATE access_policies SET " + set(accessColumns, "plane", "name") + " WHERE plane = ? AND name = ? AND version = ?").
			missed(stale("policy"))
	deleteAccess = statement("DELETE FROM access_policies WHERE plane = ? AND name = ? AND version = ?").missed(stale("policy"))
)

func scanAccess(r *row) provisioning.AccessPolicy {
	return provisioning.AccessPolicy{
		Plane: provisioning.Plane(r.text()), Name: r.text(), Rights: policies.Rights(r.int()), SealedKeys: [2][]byte{r.blob(), r.blob()},
		Created: r.time(), Updated: r.time(), Version: r.int(),
		Keys: [2]provisioning.AccessKey{{Since: r.time(), Used: r.time()}, {Since: r.time(), Used: r.time()}},
	}
}

func accessArgs(p provisioning.AccessPolicy) []any {
	return []any{string(p.Plane), p.Name, int64(p.Rights), octets(p.SealedKeys[0]), octets(p.SealedKeys[1]), micros(p.Created), micros(p.Updated), p.Version,
		micros(p.Keys[0].Since), micros(p.Keys[0].Used), micros(p.Keys[1].Since), micros(p.Keys[1].Used)}
}

func (t *tx) AccessPolicy(plane provisioning.Plane, name string) (provisioning.AccessPolicy, error) {
	return one(t, selectAccess, notFound("policy"), scanAccess, string(plane), name)
}

func (t *tx) AccessPolicies() ([]provisioning.AccessPolicy, error) {
	return all(t, listAccess, scanAccess)
}

func (t *tx) InsertAccessPolicy(p provisioning.AccessPolicy) error {
	return t.exec(insertAccess, accessArgs(p)...)
}

func (t *tx) UpdateAccessPolicy(p provisioning.AccessPolicy, was int64) error {
	return t.exec(updateAccess, append(accessArgs(p)[2:], string(p.Plane), p.Name, was)...)
}

func (t *tx) DeleteAccessPolicy(plane provisioning.Plane, name string, version int64) error {
	return t.exec(deleteAccess, string(plane), name, version)
}
