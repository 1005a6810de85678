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
	selectPlans = statement("SELECT " + planColumns.list("") + " FROM rotation_plans ORDER BY name")
	insertPlan  = statement(insert("rotation_plans", planColumns)).unique(exists("plan"))
	countMoves  = statement("UPDATE rotation_plans SET moved = CASE WHEN hour = ? THEN moved ELSE 0 END + ?, hour = ? WHERE name = ?")
)

// planSettings is a plan's content as stored. Durations are nanoseconds.
type planSettings struct {
	Role       policies.RollRole `json:"role"`
	Paused     bool              `json:"paused,omitempty"`
	Entries    []string          `json:"entries,omitempty"`
	Profiles   []string          `json:"profiles,omitempty"`
	Windows    policies.Windows  `json:"windows,omitempty"`
	MaxPerHour int               `json:"maxPerHour,omitempty"`
	Jitter     float64           `json:"jitter,omitempty"`
	PrepareAt  float64           `json:"prepareAt,omitempty"`
	Overlap    time.Duration     `json:"overlap,omitempty"`
	Every      time.Duration     `json:"every,omitempty"`
	Deadline   time.Duration     `json:"deadline,omitempty"`
	Auto       bool              `json:"auto,omitempty"`
	Publish    time.Duration     `json:"publish,omitempty"`
}

func scanPlan(r *row) provisioning.Plan {
	name := r.text()
	var s planSettings
	if err := json.Unmarshal([]byte(r.text()), &s); err != nil && r.err == nil {
		r.err = fmt.Errorf("plan %q on record: %w", name, err)
	}
	return provisioning.Plan{
		RotationPlan: policies.RotationPlan{
			Name: name, Role: s.Role, Paused: s.Paused, Entries: s.Entries, Profiles: s.Profiles, Windows: s.Windows, MaxPerHour: s.MaxPerHour,
			Jitter: s.Jitter, PrepareAt: s.PrepareAt, Overlap: s.Overlap, Every: s.Every, Deadline: s.Deadline, Auto: s.Auto, Publish: s.Publish,
		},
		Hour: r.int(), Moved: r.int(), Created: r.time(), Updated: r.time(), Version: r.int(),
	}
}

func (t *tx) Plans() ([]provisioning.Plan, error) { return all(t, selectPlans, scanPlan) }

func (t *tx) InsertPlan(p provisioning.Plan) error {
	s, err := json.Marshal(planSettings{
		Role: p.Role, Paused: p.Paused, Entries: p.Entries, Profiles: p.Profiles, Windows: p.Windows, MaxPerHour: p.MaxPerHour,
		Jitter: p.Jitter, PrepareAt: p.PrepareAt, Overlap: p.Overlap, Every: p.Every, Deadline: p.Deadline, Auto: p.Auto, Publish: p.Publish,
	})
	if err != nil {
		return fmt.Errorf("storing plan %q: %w", p.Name, err)
	}
	return t.exec(insertPlan, p.Name, string(s), p.Hour, p.Moved, micros(p.Created), micros(p.Updated), p.Version)
}

func (t *tx) CountMoves(plan string, hour, n int64) error {
	return t.exec(countMoves, hour, n, hour, plan)
}
