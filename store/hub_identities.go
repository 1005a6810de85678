package store

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	hubLinkColumns     = cols("t hub, b sealed_url, b sealed_key, i tries, i next_try, i answered, t problem, i paced, i trial")
	hubIdentityColumns = cols("t hub, t device, t spelled, t registration_id, i generation, i applied, i as_of, i since, i tries, i next_try, t problem, i told")
)

// ahead is what the sweep works off; the index hub_identities_ahead has its condition.
const ahead = " FROM hub_identities WHERE hub = ? AND generation > applied"

// leaving are the devices of a hub whose registration is on another, or on none.
const leaving = " FROM hub_identities WHERE hub = ? AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.id = hub_identities.registration_id AND r.hub = hub_identities.hub)"

var (
	selectHubLink  = statement("SELECT " + hubLinkColumns.list("") + " FROM hub_links WHERE hub = ?")
	selectHubLinks = statement("SELECT " + hubLinkColumns.list("") + " FROM hub_links ORDER BY hub").apart()
	insertHubLink  = statement(insert("hub_links", hubLinkColumns)).unique(exists("hub-link"))
	updateHubLink  = statement("UPDATE hub_links SET sealed_url = ?, sealed_key = ?, tries = 0, next_try = 0, problem = '', trial = 0 WHERE hub = ?").missed(notFound("hub-link"))
	deleteHubLink  = statement("DELETE FROM hub_links WHERE hub = ?")
	moveHubLink    = statement("UPDATE hub_links SET tries = ?, next_try = ?, answered = ?, problem = ?, trial = ? WHERE hub = ? AND tries = ? AND next_try = ? AND trial = ?").missed(errHubMoved)
	paceHubLink    = statement("UPDATE hub_links SET paced = ? WHERE hub = ? AND paced = ?").missed(errHubMoved)

	listHubIdentities = statement("SELECT " + hubIdentityColumns.list("") + " FROM hub_identities WHERE hub = ? AND device > ? ORDER BY device LIMIT ?")
	selectHubIdentity = statement("SELECT " + hubIdentityColumns.list("") + " FROM hub_identities WHERE hub = ? AND device = ?")
	dueHubIdentities  = skippingLocked("SELECT " + hubIdentityColumns.list("") + ahead + " AND next_try <= ? ORDER BY next_try LIMIT ?")
	countHubAhead     = statement("SELECT count(*), COALESCE(min(since), 0)" + ahead)
	takeHubIdentity   = statement("UPDATE hub_identities SET generation = ?, next_try = ? WHERE hub = ? AND device = ?")

	// What is on a hub comes, or changes: the hub is to be told, by the name that it knows.
	putHubIdentity = statement("INSERT INTO hub_identities (" + hubIdentityColumns.list("") + ") VALUES (" + marks(len(hubIdentityColumns)) + ") " +
		"ON CONFLICT (hub, device) DO UPDATE SET registration_id = excluded.registration_id, " +
		"since = CASE WHEN hub_identities.generation > hub_identities.applied THEN hub_identities.since ELSE excluded.since END, " +
		"generation = hub_identities.generation + 1, tries = 0, next_try = 0, problem = ''")
	stepHubIdentity = statement("UPDATE hub_identities SET since = CASE WHEN generation > applied THEN since ELSE ? END, generation = generation + 1, " +
		"tries = 0, next_try = 0, problem = '' WHERE hub = ? AND device = ?")
	hastenHubIdentity  = statement("UPDATE hub_identities SET next_try = 0 WHERE hub = ? AND device = ? AND generation > applied AND next_try > ?")
	hastenRegistration = statement("UPDATE hub_identities SET next_try = 0 WHERE registration_id = ? AND generation > applied")

	confirmHubIdentity = statement("UPDATE hub_identities SET applied = ?, as_of = ?, told = ?, tries = 0, next_try = 0, problem = '' WHERE hub = ? AND device = ? AND applied < ?")
	leaveHubIdentity   = statement("UPDATE hub_identities SET tries = ?, next_try = ?, problem = ? WHERE hub = ? AND device = ? AND generation = ? AND next_try = ?")
	deleteHubIdentity  = statement("DELETE FROM hub_identities WHERE hub = ? AND device = ?")

	putHubEntry    = statement("INSERT INTO hub_entries (kind, id, cursor) SELECT CAST(? AS BIGINT), CAST(? AS TEXT), '' WHERE EXISTS (SELECT 1 FROM hub_identities) ON CONFLICT (kind, id) DO UPDATE SET cursor = ''")
	nextHubEntry   = statement("SELECT kind, id, cursor FROM hub_entries ORDER BY kind, id LIMIT 1").apart()
	moveHubEntry   = statement("UPDATE hub_entries SET cursor = ? WHERE kind = ? AND id = ? AND cursor = ?").missed(errHubEntryMoved)
	deleteHubEntry = statement("DELETE FROM hub_entries WHERE kind = ? AND id = ? AND cursor = ?").missed(errHubEntryMoved)
	// A page is of the owner's registrations, whatever their hub: few are elsewhere than the others.
	ownedDevices = statement("SELECT r.id, r.hub, " + deviceKey + " FROM registrations r WHERE r.owner_kind = ? AND r.owner_id = ? AND r.id > ? ORDER BY r.id LIMIT ?")

	countBarring = statement("SELECT count(*) FROM (SELECT digest FROM disallowances WHERE digest = ? AND lifted_at = 0 UNION ALL " +
		"SELECT digest FROM disallowances WHERE digest = ? AND lifted_at = 0 UNION ALL " +
		"SELECT d.digest FROM chain_links l JOIN disallowances d ON d.digest = l.thumbprint AND d.lifted_at = 0 WHERE l.chain = ? UNION ALL " +
		"SELECT d.digest FROM chain_links l JOIN disallowances d ON d.digest = l.key_hash AND d.lifted_at = 0 WHERE l.chain = ?) found")
	stepRegistration = statement("UPDATE hub_identities SET since = CASE WHEN generation > applied THEN since ELSE ? END, generation = generation + 1, " +
		"tries = 0, next_try = 0, problem = '' WHERE registration_id = ?")
	identitiesOf    = statement("SELECT " + hubIdentityColumns.list("") + " FROM hub_identities WHERE registration_id = ? ORDER BY hub, device")
	countIdentities = statement("SELECT count(*) FROM hub_identities WHERE registration_id = ?")
	countLeaving    = statement("SELECT count(*)" + leaving)
	deleteLeaving   = statement("DELETE" + leaving)
)

var (
	errHubMoved      = fault.New(fault.Conflict, "hub-moved", "The hub was told, or tried, by somebody else, or unlinked.")
	errHubEntryMoved = fault.New(fault.Conflict, "hub-entry-moved", "The entry's devices were looked at by somebody else.")
)

// skippingLocked is a read of rows that the transaction will write: where writers do not wait for
// each other as a whole, it takes them, and leaves out what is taken.
func skippingLocked(text string) *Stmt {
	s := statement(text)
	s.Numbered += " FOR UPDATE SKIP LOCKED"
	return s
}

func scanHubLink(r *row) provisioning.HubLink {
	return provisioning.HubLink{
		Hub: r.text(), SealedURL: r.blob(), SealedKey: r.blob(), Tries: int(r.int()), NextTry: r.time(), Answered: r.time(), Problem: r.text(),
		Paced: r.time(), Trial: r.time(),
	}
}

func (t *tx) HubLink(hub string) (provisioning.HubLink, error) {
	return one(t, selectHubLink, notFound("hub-link"), scanHubLink, hub)
}

func (t *tx) HubLinks() ([]provisioning.HubLink, error) { return all(t, selectHubLinks, scanHubLink) }

func (t *tx) InsertHubLink(l provisioning.HubLink) error {
	return t.exec(insertHubLink, l.Hub, l.SealedURL, l.SealedKey, int64(l.Tries), micros(l.NextTry), micros(l.Answered), l.Problem, micros(l.Paced), micros(l.Trial))
}

func (t *tx) UpdateHubLink(l provisioning.HubLink) error {
	return t.exec(updateHubLink, l.SealedURL, l.SealedKey, l.Hub)
}

func (t *tx) DeleteHubLink(hub string) error { return t.exec(deleteHubLink, hub) }

func (t *tx) MoveHubLink(was, is provisioning.HubLink) error {
	return t.exec(moveHubLink, int64(is.Tries), micros(is.NextTry), micros(is.Answered), is.Problem, micros(is.Trial),
		is.Hub, int64(was.Tries), micros(was.NextTry), micros(was.Trial))
}

func (t *tx) PaceHubLink(was, is provisioning.HubLink) error {
	return t.exec(paceHubLink, micros(is.Paced), is.Hub, micros(was.Paced))
}

func scanHubIdentity(r *row) provisioning.HubIdentityRecord {
	return provisioning.HubIdentityRecord{
		HubPlace: provisioning.HubPlace{Hub: r.text(), Device: r.id()}, Spelled: r.text(), Registration: r.id(),
		Generation: r.int(), Applied: r.int(), AsOf: r.time(), Since: r.time(), Tries: int(r.int()), NextTry: r.time(), Problem: r.text(), Told: r.time(),
	}
}

func (t *tx) HubIdentity(at provisioning.HubPlace) (provisioning.HubIdentityRecord, error) {
	return one(t, selectHubIdentity, notFound("hub-identity"), scanHubIdentity, at.Hub, at.Device.String())
}

func (t *tx) HubIdentities(hub string, after verify.RegistrationID, limit int) ([]provisioning.HubIdentityRecord, error) {
	return all(t, listHubIdentities, scanHubIdentity, hub, after.String(), atMost(limit))
}

func (t *tx) TakeHubIdentities(hub string, now, until time.Time, limit int) ([]provisioning.HubIdentityRecord, error) {
	list, err := all(t, dueHubIdentities, scanHubIdentity, hub, micros(now), atMost(limit))
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Generation, list[i].NextTry = list[i].Generation+1, until
		if err := t.exec(takeHubIdentity, list[i].Generation, micros(until), hub, list[i].Device.String()); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (t *tx) CountHubAhead(hub string) (n int64, oldest time.Time, err error) {
	err = t.query(countHubAhead, func(r *row) error {
		n, oldest = r.int(), r.time()
		return nil
	}, hub)
	return n, oldest, err
}

func (t *tx) PutHubIdentity(rec provisioning.HubIdentityRecord) error {
	return t.exec(putHubIdentity, rec.Hub, rec.Device.String(), rec.Spelled, rec.Registration.String(), rec.Generation, rec.Applied,
		micros(rec.AsOf), micros(rec.Since), int64(rec.Tries), micros(rec.NextTry), rec.Problem, micros(rec.Told))
}

func (t *tx) StepHubIdentity(at provisioning.HubPlace, now time.Time) error {
	return t.exec(stepHubIdentity, micros(now), at.Hub, at.Device.String())
}

func (t *tx) StepHubIdentities(id verify.RegistrationID, now time.Time) (int64, error) {
	if err := t.exec(stepRegistration, micros(now), id.String()); err != nil {
		return 0, err
	}
	return t.CountHubIdentities(id)
}

func (t *tx) CountHubIdentities(id verify.RegistrationID) (int64, error) {
	return one(t, countIdentities, notFound("count"), (*row).int, id.String())
}

func (t *tx) HubIdentitiesOf(id verify.RegistrationID) ([]provisioning.HubIdentityRecord, error) {
	return all(t, identitiesOf, scanHubIdentity, id.String())
}

func (t *tx) AbandonHubIdentities(hub string) (int64, error) {
	n, err := one(t, countLeaving, notFound("count"), (*row).int, hub)
	if err != nil {
		return 0, err
	}
	return n, t.exec(deleteLeaving, hub)
}

func (t *tx) HastenHubIdentity(at provisioning.HubPlace, than time.Time) error {
	return t.exec(hastenHubIdentity, at.Hub, at.Device.String(), micros(than))
}

func (t *tx) HastenHubIdentities(id verify.RegistrationID) error {
	return t.exec(hastenRegistration, id.String())
}

func (t *tx) ConfirmHubIdentity(at provisioning.HubPlace, generation int64, asOf, now time.Time) error {
	return t.exec(confirmHubIdentity, generation, micros(asOf), micros(now), at.Hub, at.Device.String(), generation)
}

func (t *tx) LeaveHubIdentity(was, is provisioning.HubIdentityRecord) error {
	return t.exec(leaveHubIdentity, int64(is.Tries), micros(is.NextTry), is.Problem, is.Hub, is.Device.String(), was.Generation, micros(was.NextTry))
}

func (t *tx) DeleteHubIdentity(at provisioning.HubPlace) error {
	return t.exec(deleteHubIdentity, at.Hub, at.Device.String())
}

func (t *tx) PutHubEntry(o provisioning.Owner) error {
	return t.exec(putHubEntry, int64(o.Kind), o.ID.String())
}

func (t *tx) NextHubEntry() (provisioning.HubEntry, error) {
	return one(t, nextHubEntry, notFound("hub-entry"), func(r *row) provisioning.HubEntry {
		return provisioning.HubEntry{Owner: provisioning.Owner{Kind: provisioning.Kind(r.int()), ID: r.id()}, Cursor: r.text()}
	})
}

func (t *tx) StepHubEntry(x provisioning.HubEntry, now time.Time, limit int) (more bool, err error) {
	type owned struct {
		id    string
		place provisioning.HubPlace
	}
	list, err := all(t, ownedDevices, func(r *row) owned {
		return owned{r.text(), provisioning.HubPlace{Hub: r.text(), Device: r.id()}}
	}, int64(x.Kind), x.ID.String(), x.Cursor, atMost(limit))
	if err != nil {
		return false, err
	}
	for _, o := range list {
		if err := t.StepHubIdentity(o.place, now); err != nil {
			return false, err
		}
	}
	if len(list) < limit {
		return false, t.exec(deleteHubEntry, int64(x.Kind), x.ID.String(), x.Cursor)
	}
	return true, t.exec(moveHubEntry, list[len(list)-1].id, int64(x.Kind), x.ID.String(), x.Cursor)
}

func (t *tx) Barred(reg provisioning.Registration) (bool, error) {
	n, err := one(t, countBarring, notFound("count"), (*row).int, reg.Leaf[:], reg.LeafKey[:], int64(reg.Chain), int64(reg.Chain))
	return n > 0, err
}
