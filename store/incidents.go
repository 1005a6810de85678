package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var (
	incidentColumns       = cols("t id, t scope, t reason, t subject, b certificate, i since, t actor, i created, t entries, t issuers, i revoked, i devices, t cursor, i passed, i done, i lifted_at, t lifted_by")
	incidentDeviceColumns = cols("t incident, t registration_id, t hub, t device, i awaited, i found, i confirmed")
)

var errIncidentMoved = fault.New(fault.Conflict, "incident-moved", "The disallowance, or one of its devices, was moved by somebody else.")

// signedHere says of a certificate c that one of some issuers of ours signed it: their ids in one text.
const signedHere = "CAST(? AS TEXT) LIKE '%' || c.issuer || '%'"

// ofKey are certificates of ours with a key: its first eight octets, and all of it.
const ofKey = "substr(key_hash, 1, 8) = ? AND key_hash = ?"

// exactly is what registrations are found by: two digests, a thumbprint and a key, that a leaf or
// a link of the outside chain has, or a certificate of ours in the pair. None but chains are indexed: an
// index would be paid by every registration. restsOn finds those, too, that have the name of
// who signed a link, or a leaf that an entry pins, and are to be looked at more closely.
const (
	exactly = "(r.leaf IN (?, ?) OR r.primary_ref IN (?, ?) OR r.secondary_ref IN (?, ?) OR r.leaf_key IN (?, ?) OR r.chain IN (SELECT chain FROM chain_links WHERE thumbprint IN (?, ?) OR key_hash IN (?, ?)))"
	restsOn = "(" + exactly + " OR r.chain IN (SELECT chain FROM chain_links WHERE issuer_hash = ?)" +
		" OR r.chain IS NULL AND r.leaf IN (SELECT thumbprint FROM entry_credentials WHERE issuer_hash = ?)" +
		" OR CAST(? AS TEXT) <> '' AND EXISTS (SELECT 1 FROM certificates c WHERE c.registration_id = r.id AND c.thumbprint IN (r.leaf, r.primary_ref, r.secondary_ref) AND " + signedHere + "))"
)

var (
	knownCertificate = statement("SELECT certificate FROM entry_credentials WHERE thumbprint = ? AND certificate IS NOT NULL AND role <> 'tpm'" +
		" UNION ALL SELECT certificate FROM trust_anchors WHERE thumbprint = ?" +
		" UNION ALL SELECT der FROM chain_links WHERE thumbprint = ?" +
		" UNION ALL SELECT certificate FROM disallowances WHERE digest = ? AND lifted_at = 0 AND certificate IS NOT NULL" +
		" UNION ALL SELECT der FROM certificates WHERE thumb8 = ? AND thumbprint = ?")
	// Both by the index certificates_key.
	withKey       = statement("SELECT der FROM chain_links WHERE key_hash = ? AND thumbprint <> ? UNION SELECT der FROM certificates WHERE " + ofKey + " AND thumbprint <> ? LIMIT ?")
	goodWithKey   = statement("SELECT " + certificateColumns.list("") + " FROM certificates WHERE " + ofKey + " AND revoked_at = 0 AND not_after > ? ORDER BY position")
	attestingWith = statement("SELECT id, leaf FROM registrations WHERE leaf_key = ? ORDER BY id LIMIT ?")
	heldCAsNamed  = statement("SELECT certificate FROM trust_anchors WHERE subject_hash = ?" +
		" UNION SELECT certificate FROM entry_credentials WHERE subject_hash = ? AND certificate IS NOT NULL")
	disallowedCAs        = statement("SELECT " + disallowanceColumns.list("") + " FROM disallowances WHERE subject_hash IS NOT NULL AND lifted_at = 0 ORDER BY id")
	pinnedLeaf           = statement("SELECT certificate FROM entry_credentials WHERE thumbprint = ? AND role <> 'tpm' AND certificate IS NOT NULL LIMIT 1")
	entriesSignedBy      = statement("SELECT DISTINCT kind, id FROM entry_credentials WHERE issuer_hash = ? AND kind = ? ORDER BY kind, id LIMIT ?")
	countEntriesSignedBy = statement("SELECT count(DISTINCT id) FROM entry_credentials WHERE issuer_hash = ? AND kind = ?")
	restingOn            = statement("SELECT r.id, r.hub, " + deviceKey + ", r.version, CASE WHEN " + exactly + " THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END FROM registrations r WHERE r.id > ? AND " + restsOn + " ORDER BY r.id LIMIT ?")
	countRestingOn       = statement("SELECT r.hub, count(*) FROM registrations r WHERE " + restsOn + " GROUP BY r.hub ORDER BY r.hub")
	// A registration's subject in the ledger is registration:ID.
	countNewRestingOn = statement("SELECT count(DISTINCT r.id) FROM ledger l JOIN registrations r ON r.id = substr(l.subject, 14) " +
		"WHERE l.seq > ? AND l.subject LIKE 'registration:%' AND r.created >= ? AND " + restsOn)
	countInUse       = statement("SELECT count(*) FROM registrations r CROSS JOIN certificates c WHERE c.registration_id = r.id AND c.thumbprint IN (r.primary_ref, r.secondary_ref) AND " + signedHere)
	ofRevoked        = statement("SELECT c.thumbprint FROM certificates c JOIN issuers i ON i.id = c.issuer WHERE c.thumb8 IN (?, ?) AND c.thumbprint IN (?, ?) AND i.state = 'revoked'")
	countIssuedSince = statement("SELECT c.issuer, c.shard, count(*) FROM registrations r JOIN certificates c ON c.registration_id = r.id " +
		"WHERE c.revoked_at = 0 AND c.issued >= ? AND " + restsOn + " GROUP BY c.issuer, c.shard ORDER BY c.issuer, c.shard")

	insertIncident  = statement(insert("incidents", incidentColumns)).trust()
	selectIncident  = statement("SELECT " + incidentColumns.list("") + " FROM incidents WHERE id = ?")
	selectIncidents = statement("SELECT " + incidentColumns.list("") + " FROM incidents WHERE id < ? ORDER BY id DESC LIMIT ?")
	openIncidents   = statement("SELECT " + incidentColumns.list("") + " FROM incidents WHERE done = 0 ORDER BY id").apart()
	incidentInForce = statement("SELECT id FROM incidents WHERE lifted_at = 0 AND scope = ? AND certificate = ? ORDER BY id LIMIT 1")
	moveIncident    = statement("UPDATE incidents SET revoked = ?, devices = ?, cursor = ?, passed = ?, done = ?, lifted_at = ?, lifted_by = ? " +
		"WHERE id = ? AND cursor = ? AND passed = ? AND done = ? AND lifted_at = ?").missed(errIncidentMoved)
	liftDisallowances = statement("UPDATE disallowances SET lifted_at = ? WHERE incident = ? AND lifted_at = 0").trust()

	putIncidentDevice = statement(insert("incident_devices", incidentDeviceColumns) + " ON CONFLICT (incident, registration_id) DO UPDATE SET " +
		"hub = excluded.hub, device = excluded.device, awaited = excluded.awaited, found = excluded.found, confirmed = excluded.confirmed")
	settleIncidentDevice = statement("INSERT INTO incident_devices (incident, registration_id, hub, device, awaited, found, confirmed) " +
		"SELECT CAST(? AS TEXT), r.id, CAST(? AS TEXT), CAST(? AS TEXT), 0, CAST(? AS BIGINT), CAST(? AS BIGINT) FROM registrations r WHERE r.id = ? AND r.version = ? " +
		"ON CONFLICT (incident, registration_id) DO UPDATE SET found = excluded.found").missed(errIncidentMoved)
	countIncidentDevices = statement("SELECT count(*) FROM incident_devices WHERE incident = ?")
	incidentDevices      = statement("SELECT d.registration_id, d.hub, d.device, d.awaited, d.found, d.confirmed, COALESCE(h.problem, '') FROM incident_devices d " +
		"LEFT JOIN hub_identities h ON d.confirmed = 0 AND h.hub = d.hub AND h.device = d.device WHERE d.incident = ? AND d.registration_id > ? AND (? = 0 OR d.confirmed = 0) " +
		"ORDER BY d.registration_id LIMIT ?")
	confirmedDevices = statement("SELECT d.registration_id FROM incident_devices d WHERE d.incident = ? AND d.confirmed = 0 AND d.registration_id > ? AND NOT EXISTS " +
		"(SELECT 1 FROM hub_identities h WHERE h.registration_id = d.registration_id AND (h.applied = 0 OR h.as_of < d.found OR h.as_of = d.found AND h.generation > h.applied)) ORDER BY d.registration_id LIMIT ?")
	countPendingReceipts  = statement("SELECT count(*) FROM incident_devices WHERE confirmed = 0")
	confirmIncidentDevice = statement("UPDATE incident_devices SET confirmed = ? WHERE incident = ? AND registration_id = ? AND confirmed = 0")
	incidentHubs          = statement("SELECT d.hub, count(*), sum(CASE WHEN d.confirmed = 0 THEN 1 ELSE 0 END), COALESCE(max(h.problem), '') FROM incident_devices d " +
		"LEFT JOIN hub_identities h ON d.confirmed = 0 AND h.hub = d.hub AND h.device = d.device WHERE d.incident = ? GROUP BY d.hub ORDER BY d.hub")
)

// exact are the parameters of exactly, and resting those of restsOn.
func exact(on provisioning.RestsOn) (args []any) {
	a, b := on.Digests[0], on.Digests[len(on.Digests)-1]
	for range 6 {
		args = append(args, a[:], b[:])
	}
	return args
}

func resting(on provisioning.RestsOn) []any {
	issuers := idsText(on.Issuers)
	return append(exact(on), digest(on.Below), digest(on.Below), issuers, issuers)
}

func idsText(ids []ca.IssuerID) string {
	var b strings.Builder
	for n, id := range ids {
		if n > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(id))
	}
	return b.String()
}

func readIDs(text string) (ids []ca.IssuerID) {
	for _, id := range strings.Fields(text) {
		ids = append(ids, ca.IssuerID(id))
	}
	return ids
}

func (t *tx) KnownCertificate(x verify.Thumbprint) ([]byte, error) {
	list, err := all(t, knownCertificate, (*row).blob, x[:], x[:], x[:], x[:], thumb8(x), x[:])
	if err == nil && len(list) == 0 {
		err = fault.New(fault.NotFound, "certificate-unknown", "No certificate of this thumbprint is on record.")
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (t *tx) WithKey(of verify.Link, limit int) ([][]byte, error) {
	key, print := of.KeyHash[:], of.Thumbprint[:]
	return all(t, withKey, (*row).blob, key, print, key[:8], key, print, int64(limit))
}

func (t *tx) GoodWithKey(key verify.KeyHash, now time.Time) ([]ca.Certificate, error) {
	return all(t, goodWithKey, scanCertificate, key[:8], key[:], micros(now))
}

func (t *tx) AttestingWith(key verify.KeyHash, limit int) ([]provisioning.Registration, error) {
	return all(t, attestingWith, func(r *row) provisioning.Registration {
		return provisioning.Registration{ID: r.id(), Leaf: r.hash()}
	}, key[:], int64(limit))
}

func (t *tx) HeldCAsNamed(subject [32]byte) ([][]byte, error) {
	return all(t, heldCAsNamed, (*row).blob, subject[:], subject[:])
}

func (t *tx) DisallowedCAs() ([]provisioning.Disallowance, error) {
	return all(t, disallowedCAs, scanDisallowance)
}

func (t *tx) PinnedLeaf(leaf verify.Thumbprint) ([]byte, error) {
	list, err := all(t, pinnedLeaf, (*row).blob, leaf[:])
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

func (t *tx) EntriesSignedBy(name [32]byte, kind provisioning.Kind, limit int) ([]provisioning.Owner, error) {
	return all(t, entriesSignedBy, scanOwner, name[:], int64(kind), int64(limit))
}

func (t *tx) CountEntriesSignedBy(name [32]byte, kind provisioning.Kind) (int64, error) {
	return one(t, countEntriesSignedBy, notFound("count"), (*row).int, name[:], int64(kind))
}

func (t *tx) RestingOn(on provisioning.RestsOn, after string, limit int) ([]provisioning.RestingDevice, error) {
	args := append(append(exact(on), after), resting(on)...)
	return all(t, restingOn, func(r *row) provisioning.RestingDevice {
		return provisioning.RestingDevice{
			Registration: r.id(), HubPlace: provisioning.HubPlace{Hub: r.text(), Device: r.id()}, Version: r.int(), Closer: r.bool(),
		}
	}, append(args, int64(limit))...)
}

func (t *tx) CountRestingOn(on provisioning.RestsOn) ([]provisioning.HubCount, error) {
	return all(t, countRestingOn, scanHubCount, resting(on)...)
}

func scanHubCount(r *row) provisioning.HubCount {
	return provisioning.HubCount{Hub: r.text(), Devices: r.int()}
}

func (t *tx) CountNewRestingOn(on provisioning.RestsOn, seq int64, since time.Time) (int64, error) {
	return one(t, countNewRestingOn, notFound("count"), (*row).int, append([]any{seq, micros(since)}, resting(on)...)...)
}

func (t *tx) CountInUse(issuers []ca.IssuerID) (int64, error) {
	return one(t, countInUse, notFound("count"), (*row).int, idsText(issuers))
}

func (t *tx) OfRevokedIssuers(list []verify.Thumbprint) (lost []verify.Thumbprint, err error) {
	for pair := range slices.Chunk(list, 2) {
		a, b := pair[0], pair[len(pair)-1]
		found, err := all(t, ofRevoked, func(r *row) verify.Thumbprint { return r.hash() }, thumb8(a), thumb8(b), a[:], b[:])
		if err != nil {
			return nil, err
		}
		lost = append(lost, found...)
	}
	return lost, nil
}

func (t *tx) CountIssuedSince(on provisioning.RestsOn, since time.Time) ([]provisioning.ShardCount, error) {
	return all(t, countIssuedSince, func(r *row) provisioning.ShardCount {
		return provisioning.ShardCount{Issuer: ca.IssuerID(r.text()), Shard: int(r.int()), Certificates: r.int()}
	}, append([]any{micros(since)}, resting(on)...)...)
}

// entryEffect is provisioning.EntryEffect as stored.
type entryEffect struct {
	Kind int64  `json:"kind"`
	ID   string `json:"id"`
	Act  string `json:"act"`
	Slot int64  `json:"slot"`
}

func effectsText(list []provisioning.EntryEffect) (string, error) {
	out := make([]entryEffect, 0, len(list))
	for _, x := range list {
		out = append(out, entryEffect{int64(x.Owner.Kind), x.Owner.ID.String(), string(x.Act), int64(x.Slot)})
	}
	text, err := json.Marshal(out)
	return string(text), err
}

func readEffects(text string) (list []provisioning.EntryEffect, err error) {
	var rows []entryEffect
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&rows); err != nil {
		return nil, fmt.Errorf("entries of a disallowance on record: %w", err)
	}
	for _, x := range rows {
		id, err := verify.ParseRegistrationID(x.ID)
		if err != nil {
			return nil, err
		}
		list = append(list, provisioning.EntryEffect{
			Owner: provisioning.Owner{Kind: provisioning.Kind(x.Kind), ID: id}, Act: provisioning.EntryAct(x.Act), Slot: rotation.Slot(x.Slot),
		})
	}
	return list, nil
}

func scanIncident(r *row) provisioning.Incident {
	i := provisioning.Incident{
		ID: r.text(), Scope: provisioning.DisallowScope(r.text()), Reason: ca.Reason(r.text()), Subject: r.text(), Certificate: r.blob(),
		Since: r.time(), Actor: r.text(), Created: r.time(),
	}
	effects, err := readEffects(r.text())
	if err != nil && r.err == nil {
		r.err = err
	}
	i.Entries, i.Issuers = effects, readIDs(r.text())
	i.Revoked, i.Devices, i.Cursor, i.Passed, i.Done, i.LiftedAt, i.LiftedBy = r.int(), r.int(), r.text(), r.time(), r.time(), r.time(), r.text()
	return i
}

func (t *tx) InsertIncident(i provisioning.Incident) error {
	effects, err := effectsText(i.Entries)
	if err != nil {
		return err
	}
	return t.exec(insertIncident, i.ID, string(i.Scope), string(i.Reason), i.Subject, i.Certificate, micros(i.Since), i.Actor, micros(i.Created),
		effects, idsText(i.Issuers), i.Revoked, i.Devices, i.Cursor, micros(i.Passed), micros(i.Done), micros(i.LiftedAt), i.LiftedBy)
}

func (t *tx) Incident(id string) (provisioning.Incident, error) {
	return one(t, selectIncident, notFound("disallowance"), scanIncident, id)
}

func (t *tx) Incidents(before string, limit int) ([]provisioning.Incident, error) {
	if before == "" {
		before = "~" // behind every id
	}
	return all(t, selectIncidents, scanIncident, before, atMost(limit))
}

func (t *tx) OpenIncidents() ([]provisioning.Incident, error) {
	return all(t, openIncidents, scanIncident)
}

func (t *tx) IncidentInForce(scope provisioning.DisallowScope, certificate []byte) (string, error) {
	list, err := all(t, incidentInForce, (*row).text, string(scope), certificate)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

func (t *tx) MoveIncident(was, is provisioning.Incident) error {
	return t.exec(moveIncident, is.Revoked, is.Devices, is.Cursor, micros(is.Passed), micros(is.Done), micros(is.LiftedAt), is.LiftedBy,
		is.ID, was.Cursor, micros(was.Passed), micros(was.Done), micros(was.LiftedAt))
}

func (t *tx) LiftDisallowances(incident string, at time.Time) error {
	return t.exec(liftDisallowances, micros(at), incident)
}

func (t *tx) PutIncidentDevice(incident string, d provisioning.IncidentDevice) error {
	return t.exec(putIncidentDevice, incident, d.Registration.String(), d.Hub, d.Device.String(), flag(d.Awaited), micros(d.Found), micros(d.Confirmed))
}

func (t *tx) SettleIncidentDevice(incident string, d provisioning.RestingDevice, now time.Time) error {
	return t.exec(settleIncidentDevice, incident, d.Hub, d.Device.String(), micros(now), micros(now), d.Registration.String(), d.Version)
}

func (t *tx) CountIncidentDevices(incident string) (int64, error) {
	return one(t, countIncidentDevices, notFound("count"), (*row).int, incident)
}

func (t *tx) IncidentDevices(incident, after string, limit int, pending bool) ([]provisioning.IncidentDevice, error) {
	return all(t, incidentDevices, func(r *row) provisioning.IncidentDevice {
		return provisioning.IncidentDevice{
			Registration: r.id(), HubPlace: provisioning.HubPlace{Hub: r.text(), Device: r.id()},
			Awaited: r.bool(), Found: r.time(), Confirmed: r.time(), Problem: r.text(),
		}
	}, incident, after, flag(pending), atMost(limit))
}

func (t *tx) ConfirmedDevices(incident string, after verify.RegistrationID, limit int) ([]verify.RegistrationID, error) {
	return all(t, confirmedDevices, (*row).id, incident, after.String(), atMost(limit))
}

func (t *tx) CountPendingReceipts() (int64, error) {
	return one(t, countPendingReceipts, notFound("count"), (*row).int)
}

func (t *tx) ConfirmIncidentDevice(incident string, id verify.RegistrationID, now time.Time) error {
	return t.exec(confirmIncidentDevice, micros(now), incident, id.String())
}

func (t *tx) IncidentHubs(incident string) ([]provisioning.IncidentHub, error) {
	return all(t, incidentHubs, func(r *row) provisioning.IncidentHub {
		return provisioning.IncidentHub{Hub: r.text(), Devices: r.int(), Pending: r.int(), Problem: r.text()}
	}, incident)
}
