package service

import (
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/verify"
)

func (h *handler) addRegistrations(d *wire.Door) {
	h.handle(d, http.MethodGet, "/registrations/:id", readRecords, getRecord)
	h.handle(d, http.MethodDelete, "/registrations/:id", deleteRecords, deleteRecord)
	h.handle(d, http.MethodPost, "/registrations/:id/query", readRecords, queryRecords)
}

func getRecord(k call) error {
	id, err := verify.ParseRegistrationID(k.c.Param("id"))
	if err != nil {
		return err
	}
	device, err := k.engine.Device(k.ctx(), id)
	if err != nil {
		return err
	}
	body := azure.RecordOf(device.Registration)
	k.tag(body.ETag)
	return k.reply(body)
}

func deleteRecord(k call) error {
	id, err := verify.ParseRegistrationID(k.c.Param("id"))
	if err != nil {
		return err
	}
	pre, err := deletion(k)
	if err != nil {
		return err
	}
	if err := k.engine.DeleteRegistration(k.ctx(), k.actor, id, pre); err != nil {
		return err
	}
	return k.done()
}
