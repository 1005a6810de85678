package store

import (
	"encoding/json"
	"strings"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var entryColumns = cols("i kind, t id, t spelled, i enabled, t device_id, t allocation, t hubs, i update_hub, i migrate_data, " +
	"b initial_twin, t profile, i iot_edge, b optional_info, i created, i updated, i version, b webhook, i due_at, b tpm")

var (
	selectEntry = statement(entriesWithCredentials("SELECT * FROM entries WHERE kind = ? AND id = ?"))
	insertEntry = statement(insert("entries", entryColumns)).trust().unique(exists("enrollment"))
	updateEntry = statement("UPDATE entries SET " + set(entryColumns, "kind", "id") + " WHERE kind = ? AND id = ? AND version = ?").trust().
			missed(stale("enrollment"))
	deleteEntry   = statement("DELETE FROM entries WHERE kind = ? AND id = ? AND version = ?").trust().missed(stale("enrollment"))
	selectHolders = statement("SELECT c.kind, c.id, '', e.enabled, c.role, c.thumbprint FROM entry_credentials c " +
		"JOIN entries e ON e.kind = c.kind AND e.id = c.id WHERE c.thumbprint = ? " +
		"UNION ALL SELECT c.kind, c.id, a.name, e.enabled, c.role, a.thumbprint FROM trust_anchors a " +
		"JOIN entry_credentials c ON c.anchor = a.name JOIN entries e ON e.kind = c.kind AND e.id = c.id WHERE a.thumbprint = ? " +
		"UNION ALL SELECT 0, '', name, 1, '', thumbprint FROM trust_anchors WHERE thumbprint = ?")
)

// entriesWithCredentials reads entries, one row for each credential and one for an
// entry without any, in key order.
func entriesWithCredentials(entries string) string {
	return "SELECT " + entryColumns.list("e.") + ", " + credentialColumns.list("c.") + " FROM (" + entries + ") e " +
		"LEFT JOIN entry_credentials c ON c.kind = e.kind AND c.id = e.id ORDER BY e.kind, e.id, c.slot"
}

func scanOwner(r *row) provisioning.Owner {
	return provisioning.Owner{Kind: provisioning.Kind(r.int()), ID: r.id()}
}

func scanEntry(r *row) provisioning.Enrollment {
	return provisioning.Enrollment{
		Owner: scanOwner(r), Spelled: r.text(), Enabled: r.bool(), DeviceID: r.text(),
		Allocation: policies.AllocationPolicy(r.text()), Hubs: r.list(),
		Reprovision: policies.ReprovisionPolicy{UpdateHubAssignment: r.bool(), MigrateDeviceData: r.bool()},
		InitialTwin: r.blob(), Profile: r.text(), IoTEdge: r.bool(), OptionalInfo: r.blob(),
		Created: r.time(), Updated: r.time(), Version: r.int(), SealedWebhook: r.blob(), DueAt: r.time(), TPM: conditions(r),
	}
}

func entryArgs(e provisioning.Enrollment) []any {
	return []any{int64(e.Kind), e.ID.String(), e.Spelled, flag(e.Enabled), e.DeviceID, string(e.Allocation), lines(e.Hubs),
		flag(e.Reprovision.UpdateHubAssignment), flag(e.Reprovision.MigrateDeviceData),
		orNull(e.InitialTwin), e.Profile, flag(e.IoTEdge), orNull(e.OptionalInfo),
		micros(e.Created), micros(e.Updated), e.Version, orNull(e.SealedWebhook), micros(e.DueAt), orNull(conditionsText(e.TPM))}
}

// conditionsText is NULL where there are none.
func conditionsText(c provisioning.TPMConditions) []byte {
	if c.IsZero() {
		return nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic("internal error: conditions of TPMs: " + err.Error()) // lists of texts
	}
	return text
}

func conditions(r *row) (c provisioning.TPMConditions) {
	if text := r.blob(); len(text) > 0 && r.err == nil {
		r.err = json.Unmarshal(text, &c)
	}
	return c
}

// entries reads rows of entriesWithCredentials.
func (t *tx) entries(s *Stmt, args ...any) ([]provisioning.Enrollment, error) {
	var out []provisioning.Enrollment
	err := t.query(s, func(r *row) error {
		e := scanEntry(r)
		if n := len(out); n == 0 || out[n-1].Owner != e.Owner {
			out = append(out, e)
		}
		if c := scanCredential(r); c.Role != "" {
			last := &out[len(out)-1]
			last.Credentials = append(last.Credentials, c.Credential)
		}
		return nil
	}, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (t *tx) Enrollment(o provisioning.Owner) (provisioning.Enrollment, error) {
	found, err := t.entries(selectEntry, int64(o.Kind), o.ID.String())
	if err != nil {
		return provisioning.Enrollment{}, err
	}
	if len(found) == 0 {
		return provisioning.Enrollment{}, notFound("enrollment").About(o.String())
	}
	return found[0], nil
}

// pageOfEntries is a page of a list that nothing narrows: the one that whole fleets are read by.
var pageOfEntries = statement(entriesWithCredentials("SELECT * FROM entries WHERE kind = ? AND id > ? ORDER BY kind, id LIMIT ?"))

func (t *tx) Enrollments(f provisioning.EnrollmentFilter) ([]provisioning.Enrollment, error) {
	if f == (provisioning.EnrollmentFilter{Kind: f.Kind, After: f.After, Limit: f.Limit}) {
		return t.entries(pageOfEntries, int64(f.Kind), f.After.String(), atMost(f.Limit))
	}
	var w where
	w.add("kind = ?", int64(f.Kind))
	if !f.After.IsZero() {
		w.add("id > ?", f.After.String())
	}
	w.prefix("id", strings.ToLower(f.Prefix))
	if f.Enabled != nil {
		w.add("enabled = ?", flag(*f.Enabled))
	}
	if f.Role != "" {
		w.add("EXISTS (SELECT 1 FROM entry_credentials x WHERE x.kind = entries.kind AND x.id = entries.id AND x.role = ?)", string(f.Role))
	}
	page, args := w.list("SELECT * FROM entries", "kind, id", f.Limit)
	s := statement(entriesWithCredentials(page.Text))
	s.Kept = false
	return t.entries(s, args...)
}

func (t *tx) InsertEnrollment(e provisioning.Enrollment) error {
	if err := t.exec(insertEntry, entryArgs(e)...); err != nil {
		return err
	}
	return t.insertCredentials(e)
}

func (t *tx) UpdateEnrollment(e provisioning.Enrollment, was int64) error {
	args := append(entryArgs(e)[2:], int64(e.Kind), e.ID.String(), was)
	if err := t.exec(updateEntry, args...); err != nil {
		return err
	}
	if err := t.exec(deleteCredentials, int64(e.Kind), e.ID.String()); err != nil {
		return err
	}
	return t.insertCredentials(e)
}

// DeleteEnrollment lets the foreign keys do the rest: credentials go with the entry,
// registrations lose their owner.
func (t *tx) DeleteEnrollment(o provisioning.Owner, version int64) error {
	return t.exec(deleteEntry, int64(o.Kind), o.ID.String(), version)
}

func scanHolder(r *row) provisioning.Holder {
	return provisioning.Holder{
		Owner: scanOwner(r), Anchor: r.text(), Enabled: r.bool(), Role: provisioning.Role(r.text()), Thumbprint: r.hash(),
	}
}

func (t *tx) HoldersOf(x verify.Thumbprint) ([]provisioning.Holder, error) {
	return all(t, selectHolders, scanHolder, x[:], x[:], x[:])
}
