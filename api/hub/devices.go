package hub

import (
	"context"
	"net/http"
	"strconv"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	maxList = 1000 // devices of a list, which has no continuation (§8)
	atOnce  = 100  // that are read for it
)

func getDevice(k call) error {
	id, err := k.id()
	if err != nil {
		return err
	}
	d, err := k.engine.HubDevice(k.ctx(), k.hub, id, k.revealTo)
	if err != nil {
		return err
	}
	return k.replyTagged(d.Version, deviceOf(d))
}

// putDevice creates without If-Match, and changes with it.
func putDevice(k call) error {
	pre, err := k.ifMatch()
	if err != nil {
		return err
	}
	var body deviceBody
	if err := k.read(maxBody, &body); err != nil {
		return err
	}
	draft, err := body.draft(k.hub, k.c.Param("id"))
	if err != nil {
		return err
	}
	d, err := k.engine.PutHubDevice(k.ctx(), k.actor, draft, pre)
	if err != nil {
		return err
	}
	return k.replyTagged(d.Version, deviceOf(d))
}

func deleteDevice(k call) error {
	id, err := k.id()
	if err != nil {
		return err
	}
	pre, err := k.ifMatch()
	if err != nil {
		return err
	}
	if err := k.engine.DeleteHubDevice(k.ctx(), k.actor, k.hub, id, pre); err != nil {
		return err
	}
	k.c.Writer.WriteHeader(http.StatusNoContent)
	k.c.Writer.WriteHeaderNow()
	return nil
}

func listDevices(k call) error {
	limit := maxList
	if top := k.c.Query("top"); top != "" {
		n, err := strconv.Atoi(top)
		if err != nil || n < 1 || n > maxList {
			return fault.New(fault.Malformed, "page-size", "top is a number from 1 to %d.", maxList)
		}
		limit = n
	}
	// Some at a time: a registration may hold as much as its device could send (INV-R6).
	page := provisioning.HubPage{Hub: k.hub, RevealTo: k.revealTo}
	out := []device{}
	for {
		page.Limit = min(limit-len(out), atOnce)
		list, err := k.engine.HubDevices(k.ctx(), page)
		if err != nil {
			return err
		}
		for _, d := range list {
			out = append(out, deviceOf(d))
			page.After = d.ID
		}
		if len(list) < page.Limit || len(out) == limit {
			return k.reply(http.StatusOK, out)
		}
	}
}

type statisticsBody struct {
	Total    int64 `json:"totalDeviceCount"`
	Enabled  int64 `json:"enabledDeviceCount"`
	Disabled int64 `json:"disabledDeviceCount"`
}

func statistics(k call) error {
	total, off, err := k.engine.HubCount(k.ctx(), k.hub)
	if err != nil {
		return err
	}
	return k.reply(http.StatusOK, statisticsBody{Total: total, Enabled: total - off, Disabled: off})
}

// devicesAfter reads a page of devices without their keys.
func (k call) devicesAfter(ctx context.Context, after verify.RegistrationID, limit int) ([]provisioning.HubDevice, error) {
	return k.engine.HubDevices(ctx, provisioning.HubPage{Hub: k.hub, After: after, Limit: limit})
}
