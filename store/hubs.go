package store

import "github.com/passmuster/muster/provisioning"

var hubColumns = cols("t name, t driver, t location, i weight, i draining, i rate, i created, i updated, i version")

var (
	selectHub    = statement("SELECT " + hubColumns.list("") + " FROM hubs WHERE name = ?")
	selectHubs   = statement("SELECT " + hubColumns.list("") + " FROM hubs ORDER BY name")
	insertHub    = statement(insert("hubs", hubColumns)).trust().unique(exists("hub"))
	updateHub    = statement("UPDATE hubs SET " + set(hubColumns, "name") + " WHERE name = ? AND version = ?").trust().missed(stale("hub"))
	deleteHub    = statement("DELETE FROM hubs WHERE name = ? AND version = ?").trust().missed(stale("hub"))
	selectHubUse = statement("SELECT (SELECT count(*) FROM entries WHERE hubs <> '' AND replace(hubs, ?, '') <> hubs), " +
		"(SELECT count(*) FROM registrations WHERE hub = ?) + (SELECT count(*) FROM hub_devices WHERE registration = '' AND hub = ?) + " +
		"(SELECT count(*) FROM hub_identities i WHERE i.hub = ? AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.id = i.registration_id AND r.hub = i.hub))")
)

func scanHub(r *row) provisioning.Hub {
	return provisioning.Hub{
		Name: r.text(), Driver: r.text(), Location: r.text(), Weight: int(r.int()), Draining: r.bool(), Rate: int(r.int()),
		Created: r.time(), Updated: r.time(), Version: r.int(),
	}
}

func hubArgs(h provisioning.Hub) []any {
	return []any{h.Name, h.Driver, h.Location, int64(h.Weight), flag(h.Draining), int64(h.Rate), micros(h.Created), micros(h.Updated), h.Version}
}

func (t *tx) Hub(name string) (provisioning.Hub, error) {
	return one(t, selectHub, notFound("hub"), scanHub, name)
}

func (t *tx) Hubs() ([]provisioning.Hub, error) { return all(t, selectHubs, scanHub) }

func (t *tx) InsertHub(h provisioning.Hub) error { return t.exec(insertHub, hubArgs(h)...) }

func (t *tx) UpdateHub(h provisioning.Hub, was int64) error {
	return t.exec(updateHub, append(hubArgs(h)[1:], h.Name, was)...)
}

func (t *tx) DeleteHub(name string, version int64) error { return t.exec(deleteHub, name, version) }

func (t *tx) HubUse(name string) (entries, registrations int64, err error) {
	err = t.query(selectHubUse, func(r *row) error {
		entries, registrations = r.int(), r.int()
		return nil
	}, lines([]string{name}), name, name, name)
	return entries, registrations, err
}
