package store

import (
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	profileVersionColumns = cols("t name, i version, t settings, i at, t actor")
	recentRequestColumns  = cols("i at, t registration_id, t profile, b csr")
)

var (
	insertProfileVersion = statement(insert("profile_versions", profileVersionColumns)).unique(exists("profile-version"))
	selectProfileVersion = statement("SELECT " + profileVersionColumns.list("") + " FROM profile_versions WHERE name = ? AND version = ?")
	insertRecentRequest  = statement(insert("recent_requests", recentRequestColumns))
	trimRecentRequests   = statement("DELETE FROM recent_requests WHERE position < (SELECT min(position) FROM (SELECT position FROM recent_requests ORDER BY position DESC LIMIT ?) AS kept)")
	selectRecentRequests = statement("SELECT " + recentRequestColumns.list("") + " FROM recent_requests ORDER BY position DESC LIMIT ?")
	keyReused            = fault.New(fault.Malformed, "key-reused", "the key in the CSR has been used already; make a new one").At("/csr")
	insertKeyHolder      = statement("INSERT INTO key_holders (key_hash, registration_id) VALUES (?, ?)").unique(keyReused)
	insertKeyHolderAgain = statement("INSERT INTO key_holders (key_hash, registration_id) VALUES (?, ?)" +
		" ON CONFLICT (key_hash) DO UPDATE SET registration_id = excluded.registration_id WHERE key_holders.registration_id = excluded.registration_id").missed(keyReused)
)

func scanProfileVersion(r *row) provisioning.ProfileVersion {
	name, version := r.text(), r.int()
	return provisioning.ProfileVersion{Profile: readSettings(r, name), Version: version, At: r.time(), Actor: r.text()}
}

func (t *tx) InsertProfileVersion(v provisioning.ProfileVersion) error {
	settings, err := writeSettings(v.Profile)
	if err != nil {
		return err
	}
	return t.exec(insertProfileVersion, v.Name, v.Version, settings, micros(v.At), v.Actor)
}

func (t *tx) ProfileVersion(name string, version int64) (provisioning.ProfileVersion, error) {
	return one(t, selectProfileVersion, notFound("profile-version"), scanProfileVersion, name, version)
}

func (t *tx) ProfileVersions(name string, before int64, limit int) ([]provisioning.ProfileVersion, error) {
	var w where
	w.add("name = ?", name)
	if before != 0 {
		w.add("version < ?", before)
	}
	s, args := w.list("SELECT "+profileVersionColumns.list("")+" FROM profile_versions", "version DESC", limit)
	return all(t, s, scanProfileVersion, args...)
}

func (t *tx) HoldKey(key verify.KeyHash, id verify.RegistrationID, again bool) error {
	s := insertKeyHolder
	if again {
		s = insertKeyHolderAgain
	}
	return t.exec(s, key[:], id.String())
}

func scanRecentRequest(r *row) provisioning.RecentRequest {
	return provisioning.RecentRequest{At: r.time(), ID: r.id(), Profile: r.text(), CSR: r.blob()}
}

func (t *tx) AppendRecentRequests(list []provisioning.RecentRequest) error {
	for _, r := range list {
		if err := t.exec(insertRecentRequest, micros(r.At), r.ID.String(), r.Profile, r.CSR); err != nil {
			return err
		}
	}
	return t.exec(trimRecentRequests, int64(provisioning.MaxRecent))
}

func (t *tx) RecentRequests(limit int) ([]provisioning.RecentRequest, error) {
	return all(t, selectRecentRequests, scanRecentRequest, atMost(limit))
}
