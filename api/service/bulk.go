package service

import (
	"encoding/json"
	"strings"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// maxBulk is the most entries of one bulk call (§7).
const maxBulk = 10

// bulkRequest is the body of a bulk call (§4.6). Entries are read one by one: they are
// independent, in their faults as well.
type bulkRequest struct {
	Mode        string            `json:"mode"`
	Enrollments []json.RawMessage `json:"enrollments"`
	Groups      []json.RawMessage `json:"enrollmentGroups"`
}

type bulkResult struct {
	Successful bool        `json:"isSuccessful"`
	Errors     []bulkError `json:"errors"`
}

type bulkError struct {
	RegistrationID string `json:"registrationId,omitempty"`
	GroupID        string `json:"enrollmentGroupId,omitempty"`
	Code           int    `json:"errorCode"`
	Status         string `json:"errorStatus"`
}

// bulkMode does to one entry what a bulk call asks for.
type bulkMode func(k call, e entries, o provisioning.Owner, body azure.Enrollment) error

// bulkModes by name, in lower case: clients write them in any (§8 saw it of the hub's).
var bulkModes = map[string]bulkMode{
	"create":            bulkCreate,
	"update":            bulkUpdate,
	"updateifmatchetag": bulkUpdateIfMatch,
	"delete":            bulkDelete,
}

func (h *handler) bulk(k call, e entries) error {
	var body bulkRequest
	if err := k.read(&body); err != nil {
		return err
	}
	mode, ok := bulkModes[strings.ToLower(body.Mode)]
	if !ok {
		return fault.New(fault.Malformed, "bulk-mode", "The mode is none of create, update, updateIfMatchETag and delete.")
	}
	list := body.Enrollments
	if e.kind == provisioning.Group {
		list = body.Groups
	}
	if len(list) == 0 || len(list) > maxBulk {
		return fault.New(fault.Malformed, "bulk-size", "A bulk call has 1 to %d entries.", maxBulk)
	}
	result := bulkResult{Errors: []bulkError{}}
	for _, raw := range list {
		var entry azure.Enrollment
		err := wire.DecodeJSON(raw, &entry)
		if err == nil {
			err = e.bulkOne(k, mode, entry)
		}
		if err == nil {
			continue
		}
		if fault.KindOf(err) == fault.Internal {
			h.log.Error("bulk entry failed", "traceId", wire.TraceID(k.c.Request), "error", err)
		}
		result.Errors = append(result.Errors, bulkError{
			RegistrationID: entry.RegistrationID, GroupID: entry.GroupID, Code: azure.CodeOf(err), Status: azure.MessageOf(err),
		})
	}
	result.Successful = len(result.Errors) == 0
	return k.reply(result)
}

func (e entries) bulkOne(k call, mode bulkMode, body azure.Enrollment) error {
	o, err := e.owner(e.idOf(body))
	if err != nil {
		return err
	}
	return mode(k, e, o, body)
}

func bulkCreate(k call, e entries, o provisioning.Owner, body azure.Enrollment) error {
	err := e.bulkPut(k, o, body, provisioning.Precondition{})
	if fault.Is(err, fault.PreconditionRequired) {
		return fault.New(fault.Conflict, "enrollment-exists", "Enrollment already exists")
	}
	return err
}

func bulkUpdate(k call, e entries, o provisioning.Owner, body azure.Enrollment) error {
	err := e.bulkPut(k, o, body, provisioning.Precondition{Any: true})
	if fault.Is(err, fault.PreconditionFailed) {
		return fault.New(fault.NotFound, "enrollment-not-found", "Enrollment not found")
	}
	return err
}

func bulkUpdateIfMatch(k call, e entries, o provisioning.Owner, body azure.Enrollment) error {
	pre, err := azure.ParseIfMatch(body.ETag)
	if err != nil {
		return err
	}
	if pre == (provisioning.Precondition{}) {
		return fault.New(fault.Malformed, "etag-missing", "The entry has no etag to compare.")
	}
	return e.bulkPut(k, o, body, pre)
}

func bulkDelete(k call, _ entries, o provisioning.Owner, _ azure.Enrollment) error {
	return k.engine.Delete(k.ctx(), k.actor, o, provisioning.Precondition{Any: true})
}

func (e entries) bulkPut(k call, o provisioning.Owner, body azure.Enrollment, pre provisioning.Precondition) error {
	d, err := draft(body, o, e.idOf(body))
	if err != nil {
		return err
	}
	_, _, err = k.engine.Put(k.ctx(), k.actor, d, pre)
	return err
}
