package store

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Most devices are ordinary: known by nothing but the chain or the group key they share
// with a whole fleet. What is on record of that fleet is the same for all of them, and
// changes only with the epoch of trust. So Facts keeps it with the epoch it was read at,
// and a device's own part is one narrow statement, which reads the epoch too. Nothing is
// decided from memory: what is kept is used only in a snapshot whose epoch says that it
// is still what the database holds (INV-D1).

// fleets keeps what is on record of fleets. It is emptied when it grows large.
type fleets struct {
	mu    sync.Mutex
	known map[fleetKey]provisioning.Facts
}

type fleetKey [sha256.Size]byte

const maxFleets = 512

func (f *fleets) get(k fleetKey) (provisioning.Facts, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	facts, ok := f.known[k]
	return facts, ok
}

// put keeps facts, or with no epoch forgets them.
func (f *fleets) put(k fleetKey, facts provisioning.Facts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if facts.Epoch == 0 {
		delete(f.known, k)
		return
	}
	if f.known == nil || len(f.known) >= maxFleets {
		f.known = make(map[fleetKey]provisioning.Facts)
	}
	f.known[k] = facts
}

// fleetOf names what a query shares with others: everything but the id, the leaf and a
// CSR's key.
func fleetOf(q provisioning.FactsQuery) fleetKey {
	h := sha256.New()
	h.Write([]byte{byte(flag(q.SharedKey)), byte(flag(q.Profiles)), byte(len(q.Thumbs))})
	for i, x := range q.Thumbs {
		if i > 0 {
			h.Write(x[:])
		}
	}
	for _, x := range q.Issuers {
		h.Write(x[:])
	}
	return fleetKey(h.Sum(nil))
}

// The second value is whether the device's own entry is enabled, if it has one. The third
// is 1 when something else on record names the device of a query itself: a disallowed leaf
// or key, a leaf that an entry holds or that was issued here, a claim on its id as a
// device id.
var selectOrdinary = statement("SELECT e.value, (SELECT CAST(enabled AS BIGINT) FROM entries WHERE kind = 0 AND id = ?)," +
	" CASE WHEN EXISTS (SELECT 1 FROM disallowances WHERE lifted_at = 0 AND digest = ?)" +
	" OR EXISTS (SELECT 1 FROM disallowances WHERE lifted_at = 0 AND digest = ?)" +
	" OR EXISTS (SELECT 1 FROM disallowances WHERE lifted_at = 0 AND digest = ?)" + // with IN, SQLite makes a table of the three
	" OR EXISTS (SELECT 1 FROM entry_credentials WHERE thumbprint = ?)" +
	" OR EXISTS (SELECT 1 FROM certificates WHERE thumb8 = ?)" +
	" OR EXISTS (SELECT 1 FROM registrations WHERE alias = ? AND alias <> '' AND hub <> '')" +
	" THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END, " + registrationColumns.list("r.") +
	" FROM trust_epoch e LEFT JOIN registrations r ON r.id = ?").apart()

// OrdinaryFacts answers from a fleet's facts and the device's own part, where it can.
func (t *tx) OrdinaryFacts(q provisioning.FactsQuery) (provisioning.Facts, bool, error) {
	fleet, known := t.db.fleets.get(fleetOf(q))
	if !known {
		return fleet, false, nil
	}
	id := q.ID.String()
	var leaf, leafKey, csrKey, index any
	if len(q.Thumbs) > 0 {
		leaf, index = q.Thumbs[0][:], thumb8(q.Thumbs[0])
	}
	if len(q.Thumbs) > 0 && len(q.Keys) > 0 {
		leafKey = q.Keys[0][:]
	}
	if len(q.Keys) > len(q.Thumbs) {
		csrKey = q.Keys[len(q.Keys)-1][:]
	}
	facts, usable := fleet, false
	err := t.query(selectOrdinary, func(r *row) error {
		epoch := r.int()
		entry := r.values[r.next] != nil
		enabled, special := r.bool(), r.bool()
		if entry && !enabled {
			// A disabled device costs one indexed read (INV-R3): nothing else matters.
			facts = provisioning.Facts{Epoch: epoch, Enrollments: []provisioning.Enrollment{
				{Owner: provisioning.Owner{Kind: provisioning.Individual, ID: q.ID}, Spelled: id},
			}}
			usable = true
			return nil
		}
		usable = epoch == fleet.Epoch && !entry && !special && !q.TPM
		if usable && r.values[r.next] != nil {
			reg := scanRegistration(r)
			facts.Registration = &reg
			usable = ordinaryName(reg) && reg.Mechanism != verify.MechanismTPM // lists may bear on it
		}
		return nil
	}, id, leaf, leafKey, csrKey, leaf, index, id, id)
	if err == nil && usable && facts.Registration != nil {
		t.seen = placeOf(*facts.Registration)
	}
	return facts, usable, err
}

// ordinaryName says that a registration's device has no other name than its id.
func ordinaryName(reg provisioning.Registration) bool {
	return reg.DeviceID == "" || strings.EqualFold(reg.DeviceID, reg.ID.String())
}

// fleetPart is what the facts of an ordinary device say of its fleet; no epoch when the
// device was not ordinary.
func fleetPart(q provisioning.FactsQuery, f provisioning.Facts) provisioning.Facts {
	_, individual := f.Individual(q.ID)
	special := individual || len(f.Listed) > 0 || f.Issued != nil || len(f.Aliases) > 0 ||
		f.Registration != nil && !ordinaryName(*f.Registration)
	// Disallowed CAs bear on a fleet as a whole; what is disallowed otherwise is the device's own.
	special = special || slices.ContainsFunc(f.Disallowances, func(x provisioning.Disallowance) bool { return x.Certificate == nil })
	for _, h := range f.Holders {
		special = special || len(q.Thumbs) > 0 && h.Thumbprint == q.Thumbs[0]
	}
	if special {
		return provisioning.Facts{}
	}
	f.Digest, f.Registration, f.ChainLinks = 0, nil, []verify.Thumbprint(nil)
	return f
}
