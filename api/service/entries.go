package service

import (
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// entries is what differs between enrollments and enrollment groups (§4.1, §4.2).
type entries struct {
	kind   provisioning.Kind
	path   string // as routed
	source string // after FROM
	item   string // x-ms-item-type
}

var (
	individuals = entries{provisioning.Individual, "/enrollments", "enrollments", "Enrollment"}
	groups      = entries{provisioning.Group, "/enrollmentgroups", "enrollmentGroups", "EnrollmentGroup"}
)

func (h *handler) addEntries(d *wire.Door, e entries) {
	address := e.path + "/:id"
	// Before the routes that have an id there: no entry may be called "query" (§4).
	h.handle(d, http.MethodPost, e.path+"/query", readEntries, e.query)
	h.handle(d, http.MethodPost, e.path, writeEntries, func(k call) error { return h.bulk(k, e) })
	h.handle(d, http.MethodPut, address, writeEntries, e.put)
	h.handle(d, http.MethodGet, address, readEntries, e.get)
	h.handle(d, http.MethodDelete, address, writeEntries, e.delete)
	h.handle(d, http.MethodPost, address+"/attestationmechanism", readSecrets, e.mechanism)
}

// owner names the entry of an id.
func (e entries) owner(id string) (provisioning.Owner, error) {
	parsed, err := verify.ParseRegistrationID(id)
	return provisioning.Owner{Kind: e.kind, ID: parsed}, err
}

// idOf is the id that a body says.
func (e entries) idOf(body azure.Enrollment) string {
	if e.kind == provisioning.Group {
		return body.GroupID
	}
	return body.RegistrationID
}

func (e entries) put(k call) error {
	spelled := k.c.Param("id")
	o, err := e.owner(spelled)
	if err != nil {
		return err
	}
	pre, err := azure.ParseIfMatch(k.header("If-Match"))
	if err != nil {
		return err
	}
	var body azure.Enrollment
	if err := k.read(&body); err != nil {
		return err
	}
	if !o.ID.Matches(e.idOf(body)) {
		return fault.New(fault.Malformed, "id-differs", "The id in the body is not the one in the address.")
	}
	d, err := draft(body, o, spelled)
	if err != nil {
		return err
	}
	stored, _, err := k.engine.Put(k.ctx(), k.actor, d, pre)
	if err != nil {
		return err
	}
	return e.answer(k, stored)
}

// draft is a body as the engine takes it. A lone secondary credential becomes the primary
// one, as it is answered: pairs without a primary are more than C#'s client bears (§4.1).
// Keys are always two.
func draft(body azure.Enrollment, o provisioning.Owner, spelled string) (provisioning.Draft, error) {
	body.InitialTwin = azure.TwinWithoutMetadata(body.InitialTwin)
	if o.Kind == provisioning.Group {
		body.DeviceID, body.OptionalInfo = "", nil // not among a group's fields (§4.2)
	}
	d, err := body.Draft(o, spelled)
	slots := &d.Attestation.Slots
	if d.Attestation.Role != provisioning.RoleKey && slots[rotation.Primary].IsZero() {
		slots[rotation.Primary], slots[rotation.Secondary] = slots[rotation.Secondary], slots[rotation.Primary]
	}
	return d, err
}

func (e entries) get(k call) error {
	o, err := e.owner(k.c.Param("id"))
	if err != nil {
		return err
	}
	stored, err := k.engine.Enrollment(k.ctx(), o)
	if err != nil {
		return err
	}
	return e.answer(k, stored)
}

// answer is one entry, with the record of its device once that has registered.
func (e entries) answer(k call, stored provisioning.Enrollment) error {
	body, err := azure.EnrollmentOf(stored)
	if err != nil {
		return err
	}
	if e.kind == provisioning.Individual {
		device, err := k.engine.Device(k.ctx(), stored.ID)
		switch {
		case err == nil:
			state := azure.RecordOf(device.Registration)
			body.RegistrationState = &state
		case !fault.Is(err, fault.NotFound):
			return err
		}
	}
	k.tag(body.ETag)
	return k.reply(body)
}

func (e entries) delete(k call) error {
	o, err := e.owner(k.c.Param("id"))
	if err != nil {
		return err
	}
	pre, err := deletion(k)
	if err != nil {
		return err
	}
	if err := k.engine.Delete(k.ctx(), k.actor, o, pre); err != nil {
		return err
	}
	return k.done()
}

// deletion is the precondition of a DELETE: without If-Match, whatever is there (§4.3).
func deletion(k call) (provisioning.Precondition, error) {
	pre, err := azure.ParseIfMatch(k.header("If-Match"))
	if pre == (provisioning.Precondition{}) {
		pre.Any = true
	}
	return pre, err
}

// mechanism answers with the secrets, if there are any, and only then is it on record
// (INV-K5). Clients send no body.
func (e entries) mechanism(k call) error {
	o, err := e.owner(k.c.Param("id"))
	if err != nil {
		return err
	}
	stored, err := k.engine.Enrollment(k.ctx(), o)
	if err != nil {
		return err
	}
	body, err := azure.AttestationOf(stored)
	if err != nil {
		return err
	}
	if stored.Role() == provisioning.RoleKey {
		keys, err := k.engine.Keys(k.ctx(), k.actor, o)
		if err != nil {
			return err
		}
		body.SymmetricKey = azure.KeysOf(keys)
	}
	return k.reply(body)
}
