package store

import (
	"strings"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var registrationColumns = cols("t id, t spelled, i owner_kind, t owner_id, t mechanism, t state, t substatus, t hub, t device_id, t alias, " +
	"i error_code, t error_message, b payload, i created, i updated, i version, t operation_id, b operation_digest, i operation_at, " +
	"b primary_ref, i primary_state, i primary_from, i primary_until, i primary_seen, i primary_retire, " +
	"b secondary_ref, i secondary_state, i secondary_from, i secondary_until, i secondary_seen, i secondary_retire, " +
	"t issuer, b serial, b leaf, b leaf_key, i chain, b answer, i due_at, i held_at, i quarantined_at")

var errMoved = fault.New(fault.Conflict, "registration-moved", "The registration was changed by somebody else.")

var (
	selectRegistration = statement("SELECT " + registrationColumns.list("") + " FROM registrations WHERE id = ?")
	insertRegistration = statement(insert("registrations", registrationColumns) + " ON CONFLICT (id) DO NOTHING").
				missed(errMoved).foreign(errMoved).unique(errDeviceIDTaken)
	// Two texts: an engine maintains an index whose column is named in SET, so owner and
	// hub are named only where they may have changed (store design §1).
	updateRegistration = statement("UPDATE registrations SET " + set(registrationColumns, "id", "owner_kind", "owner_id", "hub", "alias") +
		" WHERE id = ? AND version = ?").missed(errMoved).foreign(errMoved).unique(errDeviceIDTaken)
	moveRegistration = statement("UPDATE registrations SET " + set(registrationColumns, "id") +
		" WHERE id = ? AND version = ?").missed(errMoved).foreign(errMoved).unique(errDeviceIDTaken)
	countHeld          = statement("SELECT count(*) FROM registrations WHERE id > '' AND held_at <> 0").apart() // all ids are
	deleteRegistration = statement("DELETE FROM registrations WHERE id = ? AND version = ?").trust().missed(stale("registration"))
)

var errDeviceIDTaken = fault.New(fault.Conflict, "device-id-taken", "Another registration has this device id on this hub.")

func scanRegistration(r *row) provisioning.Registration {
	reg := provisioning.Registration{
		ID: r.id(), Spelled: r.text(), Owner: scanOwner(r), Mechanism: verify.Mechanism(r.text()),
		State: provisioning.State(r.text()), Substatus: r.text(), Hub: r.text(), DeviceID: r.text(),
	}
	r.text() // the alias follows from the device id
	reg.ErrorCode, reg.ErrorMessage, reg.Payload = int(r.int()), r.text(), r.blob()
	reg.Created, reg.Updated, reg.Version = r.time(), r.time(), r.int()
	reg.Operation = provisioning.OperationRecord{ID: r.text(), Digest: r.hash(), At: r.time()}
	reg.Pair = scanPair(r, scanCell)
	reg.Certificate = provisioning.CertificateRef{Issuer: ca.IssuerID(r.text()), Serial: ca.Serial(r.hex())}
	reg.Leaf, reg.LeafKey, reg.Chain = r.hash(), r.hash(), provisioning.ChainID(r.int())
	reg.Returned, reg.DueAt, reg.HeldAt, reg.QuarantinedAt = r.blob(), r.time(), r.time(), r.time()
	return reg
}

func scanCell(r *row) rotation.Cell {
	return rotation.Cell{
		Ref: r.hash(), State: rotation.State(r.int()), NotBefore: r.time(), NotAfter: r.time(),
		SeenAt: r.time(), RetireAt: r.time(),
	}
}

func cellArgs(c rotation.Cell) []any {
	return []any{digest(c.Ref), int64(c.State), micros(c.NotBefore), micros(c.NotAfter), micros(c.SeenAt), micros(c.RetireAt)}
}

// registrationArgs are the values of registrationColumns.
func registrationArgs(reg provisioning.Registration) ([]any, error) {
	serial, err := serialBytes(reg.Certificate.Serial)
	if err != nil {
		return nil, err
	}
	var kind, owner, chain any
	if !reg.Owner.IsZero() {
		kind, owner = int64(reg.Owner.Kind), reg.Owner.ID.String()
	}
	if reg.Chain != 0 {
		chain = int64(reg.Chain)
	}
	args := make([]any, 0, len(registrationColumns))
	args = append(args, reg.ID.String(), reg.Spelled, kind, owner, string(reg.Mechanism),
		string(reg.State), reg.Substatus, reg.Hub, reg.DeviceID, alias(reg),
		int64(reg.ErrorCode), reg.ErrorMessage, orNull(reg.Payload), micros(reg.Created), micros(reg.Updated), reg.Version,
		reg.Operation.ID, digest(reg.Operation.Digest), micros(reg.Operation.At))
	args = append(args, cellArgs(reg.Pair.Cell(rotation.Primary))...)
	args = append(args, cellArgs(reg.Pair.Cell(rotation.Secondary))...)
	return append(args, string(reg.Certificate.Issuer), octets(serial), digest(reg.Leaf), digest(reg.LeafKey), chain, orNull(reg.Returned), micros(reg.DueAt), micros(reg.HeldAt), micros(reg.QuarantinedAt)), nil
}

// alias is the device id in lower case where it is not the registration id (INV-P3:
// ids are compared without regard to case).
func alias(reg provisioning.Registration) string {
	if a := strings.ToLower(reg.DeviceID); a != reg.ID.String() {
		return a
	}
	return ""
}

func (t *tx) PutRegistration(reg provisioning.Registration) error {
	args, err := registrationArgs(reg)
	if err != nil {
		return err
	}
	key := []any{reg.ID.String(), reg.Version - 1}
	switch {
	case reg.Version == 1:
		return t.exec(insertRegistration, args...)
	case t.seen == placeOf(reg):
		const owner, hub = 2, 7 // where owner_kind and owner_id, hub, device_id and alias stand in args
		same := append(args[1:owner:owner], args[owner+2:hub]...)
		same = append(append(same, args[hub+1]), args[hub+3:]...)
		return t.exec(updateRegistration, append(same, key...)...)
	default:
		return t.exec(moveRegistration, append(args[1:], key...)...)
	}
}

func (t *tx) Registration(id verify.RegistrationID) (provisioning.Registration, error) {
	reg, err := one(t, selectRegistration, notFound("registration"), scanRegistration, id.String())
	if err == nil {
		t.seen = placeOf(reg)
	}
	return reg, err
}

func (t *tx) Registrations(f provisioning.RegistrationFilter) ([]provisioning.Registration, error) {
	w := narrowed(f)
	if !f.After.IsZero() {
		w.add("id > ?", f.After.String())
	}
	s, args := w.list("SELECT "+registrationColumns.list("")+" FROM registrations", "id", f.Limit)
	return all(t, s, scanRegistration, args...)
}

func (t *tx) CountRegistrations(f provisioning.RegistrationFilter) ([]provisioning.HubCount, error) {
	w := narrowed(f)
	s, args := w.grouped("SELECT hub, count(*) FROM registrations", "hub")
	return all(t, s, scanHubCount, args...)
}

func (t *tx) CountHeld() (int64, error) { return one(t, countHeld, notFound("count"), (*row).int) }

// narrowed are a filter's conditions.
func narrowed(f provisioning.RegistrationFilter) (w where) {
	w.prefix("id", strings.ToLower(f.Prefix))
	if !f.Owner.IsZero() {
		w.add("owner_kind = ? AND owner_id = ?", int64(f.Owner.Kind), f.Owner.ID.String())
	}
	if f.Orphaned {
		w.add("owner_kind IS NULL AND owner_id IS NULL")
	}
	if f.Held {
		w.add("held_at <> 0") // the condition of the index registrations_held
	}
	if f.State != "" {
		w.add("state = ?", string(f.State))
	}
	if f.Hub != "" {
		w.add("hub = ?", f.Hub)
	}
	return w
}

func (t *tx) DeleteRegistration(id verify.RegistrationID, version int64) error {
	return t.exec(deleteRegistration, id.String(), version)
}

// place is whose a registration was, and where, when it was read.
type place struct {
	id         verify.RegistrationID
	owner      provisioning.Owner
	hub, alias string
}

func placeOf(reg provisioning.Registration) place {
	return place{reg.ID, reg.Owner, reg.Hub, alias(reg)}
}
