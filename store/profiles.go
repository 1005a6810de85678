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
	Grace       time.Duration      `json:"grace,omitempty"`
	Retain      bool               `json:"retain,omitempty"`

	Template                string                  `json:"template,omitempty"`
	Names                   *policies.Names         `json:"names,omitempty"`
	Extensions              []string                `json:"extensions,omitempty"`
	MinLifetime             time.Duration           `json:"minLifetime,omitempty"`
	MaxLifetime             time.Duration           `json:"maxLifetime,omitempty"`
	KeyReuse                policies.KeyReuse       `json:"keyReuse,omitempty"`
	KeyAttestation          policies.KeyAttestation `json:"keyAttestation,omitempty"`
	KeyAttestationExtension string                  `json:"keyAttestationExtension,omitempty"`
	ServerKeygen            bool                    `json:"serverKeygen,omitempty"`
	EmbedSCT                bool                    `json:"embedSct,omitempty"`
}

// readSettings reads a profile's content; a damaged one spoils the row.
func readSettings(r *row, name string) policies.Profile {
	var s profileSettings
	if err := json.Unmarshal([]byte(r.text()), &s); err != nil && r.err == nil {
		r.err = fmt.Errorf("profile %q on record: %w", name, err)
	}
	return policies.Profile{
		Name: name, Lifetime: s.Lifetime, Backdate: s.Backdate, Keys: s.Keys, ExtKeyUsage: s.ExtKeyUsage,
		Renewal:  policies.RotationPolicy{PrepareAt: s.PrepareAt, Overlap: s.Overlap, Grace: s.Grace, Retain: s.Retain},
		Template: s.Template, Names: s.Names, Extensions: s.Extensions, MinLifetime: s.MinLifetime, MaxLifetime: s.MaxLifetime,
		KeyReuse: s.KeyReuse, KeyAttestation: s.KeyAttestation, KeyAttestationExtension: s.KeyAttestationExtension, ServerKeygen: s.ServerKeygen, EmbedSCT: s.EmbedSCT,
	}
}

func writeSettings(p policies.Profile) (string, error) {
	s, err := json.Marshal(profileSettings{
		Lifetime: p.Lifetime, Backdate: p.Backdate, Keys: p.Keys, ExtKeyUsage: p.ExtKeyUsage,
		PrepareAt: p.Renewal.PrepareAt, Overlap: p.Renewal.Overlap, Grace: p.Renewal.Grace, Retain: p.Renewal.Retain,
		Template: p.Template, Names: p.Names, Extensions: p.Extensions, MinLifetime: p.MinLifetime, MaxLifetime: p.MaxLifetime,
		KeyReuse: p.KeyReuse, KeyAttestation: p.KeyAttestation, KeyAttestationExtension: p.KeyAttestationExtension, ServerKeygen: p.ServerKeygen, EmbedSCT: p.EmbedSCT,
	})
	if err != nil {
		return "", fmt.Errorf("storing profile %q: %w", p.Name, err)
	}
	return string(s), nil
}

func scanProfile(r *row) provisioning.Profile {
	name := r.text()
	return provisioning.Profile{Profile: readSettings(r, name), Created: r.time(), Updated: r.time(), Version: r.int()}
}

func profileArgs(p provisioning.Profile) ([]any, error) {
	s, err := writeSettings(p.Profile)
	return []any{p.Name, s, micros(p.Created), micros(p.Updated), p.Version}, err
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
