package store

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

var profileColumns = cols("t name, t settings, i created, i updated, i version")

var (
	selectProfile    = statement("SELECT " + profileColumns.list("") + " FROM profiles WHERE name = ?")
	selectProfiles   = statement("SELECT " + profileColumns.list("") + " FROM profiles ORDER BY name")
	insertProfile    = statement(insert("profiles", profileColumns)).trust().unique(exists("profile"))
	updateProfile    = statement("UPDATE profiles SET " + set(profileColumns, "name") + " WHERE name = ? AND version = ?").trust().missed(stale("profile"))
	deleteProfile    = statement("DELETE FROM profiles WHERE name = ? AND version = ?").trust().missed(stale("profile"))
	selectProfileUse = statement("SELECT count(*) FROM entries WHERE profile = ? AND profile <> ''")
)

// profileSettings is a profile's content as stored. Durations are nanoseconds; key
// usages are the numbers of crypto/x509, which Go's compatibility promise keeps.
type profileSettings struct {
	Lifetime    time.Duration      `json:"lifetime"`
	Backdate    time.Duration      `json:"backdate"`
	Keys        []policies.KeyType `json:"keys"`
	ExtKeyUsage []x509.ExtKeyUsage `json:"extKeyUsage"`
	PrepareAt   float64            `json:"prepareAt"`
	Overlap     time.Duration      `json:"overlap"`
	EmbedSCT    bool               `json:"embedSCT,omitempty"`
}

func scanProfile(r *row) provisioning.Profile {
	var p provisioning.Profile
	var s profileSettings
	p.Name = r.text()
	if err := json.Unmarshal([]byte(r.text()), &s); err != nil && r.err == nil {
		r.err = fmt.Errorf("profile %q on record: %w", p.Name, err)
	}
	p.Lifetime, p.Backdate, p.Keys, p.ExtKeyUsage = s.Lifetime, s.Backdate, s.Keys, s.ExtKeyUsage
	p.Renewal = policies.RotationPolicy{PrepareAt: s.PrepareAt, Overlap: s.Overlap}
	p.EmbedSCT = s.EmbedSCT
	p.Created, p.Updated, p.Version = r.time(), r.time(), r.int()
	return p
}

func profileArgs(p provisioning.Profile) ([]any, error) {
	s, err := json.Marshal(profileSettings{
		Lifetime: p.Lifetime, Backdate: p.Backdate, Keys: p.Keys, ExtKeyUsage: p.ExtKeyUsage,
		PrepareAt: p.Renewal.PrepareAt, Overlap: p.Renewal.Overlap, EmbedSCT: p.EmbedSCT,
	})
	if err != nil {
		return nil, fmt.Errorf("storing profile %q: %w", p.Name, err)
	}
	return []any{p.Name, string(s), micros(p.Created), micros(p.Updated), p.Version}, nil
}

func (t *tx) Profile(name string) (provisioning.Profile, error) {
	return one(t, selectProfile, notFound("profile"), scanProfile, name)
}

func (t *tx) Profiles() ([]provisioning.Profile, error) { return all(t, selectProfiles, scanProfile) }

func (t *tx) InsertProfile(p provisioning.Profile) error {
	args, err := profileArgs(p)
	if err != nil {
		return err
	}
	return t.exec(insertProfile, args...)
}

func (t *tx) UpdateProfile(p provisioning.Profile, was int64) error {
	args, err := profileArgs(p)
	if err != nil {
		return err
	}
	return t.exec(updateProfile, append(args[1:], p.Name, was)...)
}

func (t *tx) DeleteProfile(name string, version int64) error {
	return t.exec(deleteProfile, name, version)
}

func (t *tx) ProfileUse(name string) (entries int64, err error) {
	return one(t, selectProfileUse, notFound("profile"), (*row).int, name)
}
