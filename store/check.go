package store

import (
	"cmp"
	"context"
	"slices"
)

// Violation is an invariant of architecture §7 that does not hold for one object.
type Violation struct {
	Invariant string // its name there: "recorded", "contained", …
	Object    string // "certificate 0123…/00ff…", "registration dev-1"
	Detail    string
}

func (v Violation) String() string { return v.Invariant + ": " + v.Object + ": " + v.Detail }

// maxViolations ends a check of a store that is broken throughout.
const maxViolations = 1000

// Check looks for broken invariants in one snapshot, as far as rows tell: what a device
// was told, and what a hub did, they do not. It streams, so its memory does not grow with
// the store; on a live database it is one long read. The list is in the order found, at
// most 1000 long.
func Check(ctx context.Context, db *DB) ([]Violation, error) {
	c := checker{}
	err := db.view(ctx, func(t *tx) error {
		c = checker{tx: t}
		for _, check := range []func() error{
			c.statements, c.inventory, c.objects, c.registrations, c.contained,
		} {
			if err := check(); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortStableFunc(c.found, func(a, b Violation) int { return cmp.Compare(a.Invariant, b.Invariant) })
	return c.found, err
}

type checker struct {
	tx    *tx
	found []Violation
}

func (c *checker) add(invariant, object, detail string) {
	if len(c.found) < maxViolations {
		c.found = append(c.found, Violation{invariant, object, detail})
	}
}

// each streams the rows of a statement that only this check runs.
func (c *checker) each(text string, f func(*row), args ...any) error {
	s := statement(text)
	s.Kept = false
	return c.tx.query(s, func(r *row) error { f(r); return nil }, args...)
}

// rules are the invariants that one statement decides: each row it finds names an object
// that breaks it. Most of them the engine holds by a constraint too; a check does not
// take the engine's word for it.
var rules = []struct{ invariant, detail, text string }{
	{"recorded", "two certificates have this serial",
		"SELECT 'serial ' || issuer FROM certificates GROUP BY issuer, serial HAVING count(*) > 1"},
	{"recorded", "its last certificate is not on record, or is another device's",
		"SELECT 'registration ' || r.id FROM registrations r LEFT JOIN certificates c ON c.issuer = r.issuer AND c.serial = r.serial " +
			"WHERE r.issuer <> '' AND (c.position IS NULL OR c.registration_id <> r.id)"},
	{"recorded", "no request to its upstream came to it",
		"SELECT 'certificate of ' || c.registration_id FROM certificates c JOIN issuers i ON i.id = c.issuer AND i.upstream <> '' " +
			"LEFT JOIN intents n ON n.issuer = c.issuer AND n.serial = c.serial AND n.state = 'issued' WHERE n.id IS NULL"},
	{"recorded", "the certificate that it came to is not on record",
		"SELECT 'intent ' || n.id FROM intents n LEFT JOIN certificates c ON c.issuer = n.issuer AND c.serial = n.serial WHERE n.state = 'issued' AND c.position IS NULL"},
	{"recorded", "its certificate is nobody's and is not to be revoked",
		"SELECT 'intent ' || n.id FROM intents n LEFT JOIN upstream_revocations r ON r.issuer = n.issuer AND r.serial = n.serial " +
			"LEFT JOIN certificates c ON c.issuer = n.issuer AND c.serial = n.serial " +
			"WHERE n.state IN ('orphaned', 'revoked') AND length(n.serial) > 0 AND r.issuer IS NULL AND c.position IS NULL"},
	{"one-way", "it is revoked, and its upstream is not told",
		"SELECT 'certificate of ' || c.registration_id FROM certificates c JOIN issuers i ON i.id = c.issuer AND i.upstream <> '' " +
			"LEFT JOIN upstream_revocations r ON r.issuer = c.issuer AND r.serial = c.serial WHERE c.revoked_at <> 0 AND r.issuer IS NULL"},
	{"two-slots", "both its cells are active",
		"SELECT 'registration ' || id FROM registrations WHERE primary_state = 2 AND secondary_state = 2"},
	{"two-slots", "one credential stands in both cells",
		"SELECT 'registration ' || id FROM registrations WHERE length(primary_ref) > 0 AND primary_ref = secondary_ref"},
	{"individual-first", "a group owned its last operation though the device has an enrollment of its own",
		"SELECT 'registration ' || r.id FROM registrations r JOIN entries e ON e.kind = 0 AND e.id = r.id " +
			"WHERE r.owner_kind = 1 AND r.operation_at > e.created + " + tolerance},
	{"disabled-wins", "its last operation is later than its entry was disabled",
		"SELECT 'registration ' || r.id FROM entries e JOIN registrations r ON r.owner_kind = e.kind AND r.owner_id = e.id " +
			"WHERE e.enabled = 0 AND r.operation_at > e.updated + " + tolerance},
	{"one-way", "its latest CRL is not the last one made",
		"SELECT 'issuer ' || s.issuer FROM crl_shards s WHERE s.crl_number <> COALESCE((SELECT max(number) FROM crls WHERE issuer = s.issuer AND shard = s.shard), 0)"},
	{"one-way", "it has more revoked certificates than it counted",
		"SELECT 'issuer ' || s.issuer FROM crl_shards s WHERE s.revocations < (SELECT count(*) FROM certificates WHERE issuer = s.issuer AND shard = s.shard AND revoked_at <> 0)"},
	{"one-open", "two disallowances of one certificate or key by one act are open",
		"SELECT 'disallowance ' || min(id) FROM disallowances WHERE lifted_at = 0 GROUP BY digest, incident HAVING count(*) > 1"},
	{"one-open", "two issuers of one role and profile are active",
		"SELECT 'issuer ' || min(id) FROM issuers WHERE role <> 'external' AND state = 'active' GROUP BY role, profile HAVING count(*) > 1"},
	{"two-slots", "two issuers of one role and profile stand in one slot",
		"SELECT 'issuer ' || min(id) FROM issuers WHERE role <> 'external' AND state IN ('prepared', 'active') GROUP BY role, profile, slot HAVING count(*) > 1"},
	{"one-open", "two registrations have one device id on one hub",
		"SELECT 'registration ' || a.id FROM registrations a JOIN registrations b ON b.id = a.alias AND b.hub = a.hub AND b.alias = '' WHERE a.alias <> '' AND a.hub <> ''"},
	{"one-identity", "its registration is not on this hub under this name",
		"SELECT 'hub device ' || h.hub || '/' || h.device FROM hub_devices h LEFT JOIN registrations r ON r.id = h.registration AND r.hub = h.hub AND " +
			deviceKey + " = h.device WHERE h.registration <> '' AND r.id IS NULL"},
	{"one-identity", "it is a device of its own and that of a registration too",
		"SELECT 'hub device ' || h.hub || '/' || h.device FROM hub_devices h JOIN registrations r ON r.hub = h.hub AND " +
			deviceKey + " = h.device WHERE h.registration = ''"},
	{"agreeing", "it is on a hub that lives elsewhere, and nothing says whether that is in step",
		"SELECT 'registration ' || r.id FROM registrations r JOIN hubs h ON h.name = r.hub AND h.driver <> 'registry' " +
			"LEFT JOIN hub_identities i ON i.hub = r.hub AND i.device = " + deviceKey + " AND i.registration_id = r.id WHERE i.hub IS NULL"},
	{"agreeing", "it waits for its hub, which has confirmed",
		"SELECT 'registration ' || r.id FROM registrations r LEFT JOIN hub_identities i ON i.hub = r.hub AND i.device = " + deviceKey +
			" AND i.generation > i.applied WHERE r.state = 'assigning' AND i.hub IS NULL"},
	{"agreeing", "it is to leave the hub, which is not to be told",
		"SELECT 'hub device ' || i.hub || '/' || i.device FROM hub_identities i LEFT JOIN registrations r ON r.id = i.registration_id AND r.hub = i.hub AND " +
			deviceKey + " = i.device WHERE r.id IS NULL AND i.generation = i.applied"},
	{"agreeing", "it is on the built-in hub, which is told nothing",
		"SELECT 'hub device ' || i.hub || '/' || i.device FROM hub_identities i JOIN hubs h ON h.name = i.hub AND h.driver = 'registry'"},
	{"vouched", "a credential refers to a CA that does not exist",
		"SELECT 'entry ' || c.id FROM entry_credentials c LEFT JOIN trust_anchors a ON a.name = c.anchor WHERE c.role = 'ca-reference' AND a.name IS NULL"},
	{"recorded", "it has a hub and attested by its TPM, of which nothing is on record",
		"SELECT 'registration ' || r.id FROM registrations r LEFT JOIN tpm_devices t ON t.registration_id = r.id WHERE r.mechanism = 'tpm' AND r.hub <> '' AND t.registration_id IS NULL"},
	{"one-way", "it was spent later than it expired",
		"SELECT 'TPM challenge of ' || registration_id FROM tpm_challenges WHERE spent_at > expires"},
	{"accounted", "it has an owner that does not exist",
		"SELECT 'registration ' || r.id FROM registrations r LEFT JOIN entries e ON e.kind = r.owner_kind AND e.id = r.owner_id WHERE r.owner_id IS NOT NULL AND e.id IS NULL"},
}

// tolerance is how far clocks of replicas may differ, in microseconds (INV-T5): a
// decision stamped that much later may have been committed earlier.
const (
	tolerance       = "5000000"
	toleranceMicros = 5_000_000
)

func (c *checker) statements() error {
	for _, r := range rules {
		err := c.each(r.text, func(found *row) { c.add(r.invariant, found.text(), r.detail) })
		if err != nil {
			return err
		}
	}
	return nil
}
