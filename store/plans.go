package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

var planColumns = cols("t name, t settings, i hour, i moved, i created, i updated, i version")

var (
	selectPlan  = statement("SELECT " + planColumns.list("") + " FROM rotation_plans WHERE name = ?")
	selectPlans = statement("SELECT " + planColumns.list("") + " FROM rotation_plans ORDER BY name")
	insertPlan  = statement(insert("rotation_plans", planColumns)).unique(exists("plan"))
	updatePlan  = statement("UPDATE rotation_plans SET " + set(planColumns, "name", "hour", "moved") + " WHERE name = ? AND version = ?").missed(stale("plan"))
	deletePlan  = statement("DELETE FROM rotation_plans WHERE name = ? AND version = ?").missed(stale("plan"))
	// An hour that another process is already past is counted in that one's.
	countMoves = statement("UPDATE rotation_plans SET moved = CASE WHEN hour = ? THEN moved ELSE 0 END + ?, hour = ? WHERE name = ?")
)

// planSettings is a plan's content as stored. Durations are nanoseconds.
type planSettings struct {
	Role       policies.RollRole `json:"role"`
	Paused     bool              `json:"paused,omitempty"`
	Entries    []string          `json:"entries,omitempty"`
	Profiles   []string          `json:"profiles,omitempty"`
	Windows    []planWindow      `json:"windows,omitempty"`
	MaxPerHour int               `json:"maxPerHour,omitempty"`
	Jitter     float64           `json:"jitter,omitempty"`
	PrepareAt  float64           `json:"prepareAt,omitempty"`
	Overlap    time.Duration     `json:"overlap,omitempty"`
	Every      time.Duration     `json:"every,omitempty"`
	Deadline   time.Duration     `json:"deadline,omitempty"`
	Auto       bool              `json:"auto,omitempty"`
	Publish    time.Duration     `json:"publish,omitempty"`
}

type planWindow struct {
	Opens  string        `json:"opens"`
	Length time.Duration `json:"length"`
	Zone   string        `json:"zone,omitempty"`
}

func scanPlan(r *row) provisioning.Plan {
	p := provisioning.Plan{RotationPlan: policies.RotationPlan{Name: r.text()}}
	var s planSettings
	if err := json.Unmarshal([]byte(r.text()), &s); err != nil && r.err == nil {
		r.err = fmt.Errorf("plan %q on record: %w", p.Name, err)
	}
	p.Role, p.Paused, p.Entries, p.Profiles, p.MaxPerHour, p.Jitter = s.Role, s.Paused, s.Entries, s.Profiles, s.MaxPerHour, s.Jitter
	p.PrepareAt, p.Overlap, p.Every, p.Deadline, p.Auto, p.Publish = s.PrepareAt, s.Overlap, s.Every, s.Deadline, s.Auto, s.Publish
	for _, w := range s.Windows {
		p.Windows = append(p.Windows, policies.Window(w))
	}
	p.Hour, p.Moved, p.Created, p.Updated, p.Version = r.int(), r.int(), r.time(), r.time(), r.int()
	return p
}

func planText(p policies.RotationPlan) (string, error) {
	s := planSettings{
		Role: p.Role, Paused: p.Paused, Entries: p.Entries, Profiles: p.Profiles, MaxPerHour: p.MaxPerHour, Jitter: p.Jitter,
		PrepareAt: p.PrepareAt, Overlap: p.Overlap, Every: p.Every, Deadline: p.Deadline, Auto: p.Auto, Publish: p.Publish,
	}
	for _, w := range p.Windows {
		s.Windows = append(s.Windows, planWindow(w))
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("storing plan %q: %w", p.Name, err)
	}
	return string(text), nil
}

func (t *tx) Plan(name string) (provisioning.Plan, error) {
	return one(t, selectPlan, notFound("plan"), scanPlan, name)
}

func (t *tx) Plans() ([]provisioning.Plan, error) { return all(t, selectPlans, scanPlan) }

func (t *tx) InsertPlan(p provisioning.Plan) error {
	text, err := planText(p.RotationPlan)
	if err != nil {
		return err
	}
	return t.exec(insertPlan, p.Name, text, p.Hour, p.Moved, micros(p.Created), micros(p.Updated), p.Version)
}

func (t *tx) UpdatePlan(p provisioning.Plan, was int64) error {
	text, err := planText(p.RotationPlan)
	if err != nil {
		return err
	}
	return t.exec(updatePlan, text, micros(p.Created), micros(p.Updated), p.Version, p.Name, was)
}

func (t *tx) DeletePlan(name string, version int64) error { return t.exec(deletePlan, name, version) }

func (t *tx) CountMoves(name string, hour, n int64) error {
	return t.exec(countMoves, hour, n, hour, name)
}
