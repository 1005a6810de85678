package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var (
	// Both read their index from its beginning.
	nextRegistrations = statement("SELECT " + registrationColumns.list("") + " FROM registrations WHERE due_at <> 0 AND due_at <= ? ORDER BY due_at LIMIT ?")
	nextEntries       = statement("SELECT " + entryColumns.list("e.") + ", " + credentialColumns.list("c.") +
		" FROM (SELECT * FROM entries WHERE due_at <> 0 AND due_at <= ? ORDER BY due_at LIMIT ?) e " +
		"LEFT JOIN entry_credentials c ON c.kind = e.kind AND c.id = e.id ORDER BY e.due_at, e.kind, e.id, c.slot")
	countAllDue = statement("SELECT (SELECT count(*) FROM (SELECT 1 FROM registrations WHERE due_at <> 0 AND due_at <= ? LIMIT ?) r) + " +
		"(SELECT count(*) FROM (SELECT 1 FROM entries WHERE due_at <> 0 AND due_at <= ? LIMIT ?) e)")
	makeEntryDue = statement("UPDATE entries SET due_at = ? WHERE kind = ? AND id = ?").missed(notFound("enrollment"))

	stuckDevices = statement("SELECT registration_id, ref, stuck, since, told_at, tries FROM rolls WHERE stuck <> '' AND stuck = ? AND registration_id > ? ORDER BY registration_id LIMIT ?")
	stuckReasons = statement("SELECT stuck, count(*) FROM rolls WHERE stuck <> '' GROUP BY stuck ORDER BY stuck")

	surveyDevices = statement("SELECT r.id, r.primary_state, r.primary_from, r.primary_until, r.secondary_state, r.secondary_from, r.secondary_until, COALESCE(e.profile, '') " +
		"FROM registrations r LEFT JOIN entries e ON e.kind = r.owner_kind AND e.id = r.owner_id WHERE r.id > ? ORDER BY r.id LIMIT ?")
	putMeta = statement("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
)

func (t *tx) NextRegistrations(by time.Time, limit int) ([]provisioning.Registration, error) {
	return all(t, nextRegistrations, scanRegistration, micros(by), atMost(limit))
}

func (t *tx) NextEntries(by time.Time, limit int) ([]provisioning.Enrollment, error) {
	return t.entries(nextEntries, micros(by), atMost(limit))
}

func (t *tx) CountAllDue(by time.Time, limit int) (int64, error) {
	return one(t, countAllDue, notFound("registration"), (*row).int, micros(by), int64(limit), micros(by), int64(limit))
}

func (t *tx) MakeEntryDue(o provisioning.Owner, at time.Time) error {
	return t.exec(makeEntryDue, micros(at), int64(o.Kind), o.ID.String())
}

func (t *tx) StuckDevices(reason string, after verify.RegistrationID, limit int) ([]provisioning.StuckDevice, error) {
	return all(t, stuckDevices, func(r *row) provisioning.StuckDevice {
		return provisioning.StuckDevice{ID: r.id(), Ref: r.hash(), Reason: r.text(), Since: r.time(), ToldAt: r.time(), Tries: r.int()}
	}, reason, after.String(), atMost(limit))
}

func (t *tx) StuckReasons() ([]provisioning.ReasonCount, error) {
	return all(t, stuckReasons, func(r *row) provisioning.ReasonCount {
		return provisioning.ReasonCount{Reason: r.text(), Count: r.int()}
	})
}

func (t *tx) SurveyedDevices(after verify.RegistrationID, limit int) ([]provisioning.SurveyedDevice, error) {
	return all(t, surveyDevices, func(r *row) provisioning.SurveyedDevice {
		return provisioning.SurveyedDevice{ID: r.id(), Pair: scanPair(r, scanDates), Profile: r.text()}
	}, after.String(), int64(limit))
}

// scanDates reads of a cell what a survey needs.
func scanDates(r *row) rotation.Cell {
	return rotation.Cell{State: rotation.State(r.int()), NotBefore: r.time(), NotAfter: r.time()}
}

const surveyKey = "expiry-survey"

// survey is provisioning.Survey as stored. Times are microseconds.
type survey struct {
	At    int64        `json:"at"`
	Took  int64        `json:"took"`
	Roles []roleSurvey `json:"roles"`
}

type roleSurvey struct {
	Role    string       `json:"role"`
	Total   int64        `json:"total"`
	Endless int64        `json:"endless,omitempty"`
	Ended   int64        `json:"ended,omitempty"`
	Later   int64        `json:"later,omitempty"`
	Within  []int64      `json:"within"`
	Soonest int64        `json:"soonest,omitempty"`
	Weeks   []weekSurvey `json:"weeks,omitempty"`
}

type weekSurvey struct {
	Begins    int64 `json:"begins"`
	Ending    int64 `json:"ending,omitempty"`
	Succeeded int64 `json:"succeeded,omitempty"`
	Renewals  int64 `json:"renewals,omitempty"`
}

func (t *tx) Survey() (provisioning.Survey, error) {
	text, err := one(t, selectMeta, notFound("survey"), (*row).text, surveyKey)
	if err != nil {
		return provisioning.Survey{}, err
	}
	var s survey
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return provisioning.Survey{}, fmt.Errorf("survey on record: %w", err)
	}
	out := provisioning.Survey{At: time.UnixMicro(s.At).UTC(), Took: time.Duration(s.Took) * time.Microsecond}
	for _, r := range s.Roles {
		role := provisioning.RoleSurvey{Role: provisioning.ExpiryRole(r.Role), Total: r.Total, Endless: r.Endless, Ended: r.Ended, Later: r.Later}
		if r.Soonest != 0 {
			role.Soonest = time.UnixMicro(r.Soonest).UTC()
		}
		if copy(role.Within[:], r.Within) != len(role.Within) {
			return provisioning.Survey{}, fault.New(fault.NotFound, "survey-not-found", "The survey on record is of another release.")
		}
		for _, w := range r.Weeks {
			role.Weeks = append(role.Weeks, provisioning.WeekSurvey{Begins: time.UnixMicro(w.Begins).UTC(), Ending: w.Ending, Succeeded: w.Succeeded, Renewals: w.Renewals})
		}
		out.Roles = append(out.Roles, role)
	}
	return out, nil
}

func (t *tx) PutSurvey(s provisioning.Survey) error {
	out := survey{At: micros(s.At), Took: s.Took.Microseconds()}
	for _, r := range s.Roles {
		role := roleSurvey{Role: string(r.Role), Total: r.Total, Endless: r.Endless, Ended: r.Ended, Later: r.Later, Within: r.Within[:], Soonest: micros(r.Soonest)}
		for _, w := range r.Weeks {
			role.Weeks = append(role.Weeks, weekSurvey{Begins: micros(w.Begins), Ending: w.Ending, Succeeded: w.Succeeded, Renewals: w.Renewals})
		}
		out.Roles = append(out.Roles, role)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("storing the survey: %w", err)
	}
	return t.exec(putMeta, surveyKey, string(text))
}
