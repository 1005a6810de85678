package provisioning

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// BuiltIn is the driver of hubs whose devices live in Muster's own tables.
const BuiltIn = "registry"

// maxHubRate bounds the calls a minute that a hub is said to take.
const maxHubRate = 1_000_000

// PutHub links the built-in hub under a name, or changes a linked hub's settings.
func (e *Engine) PutHub(ctx context.Context, actor string, h Hub, pre Precondition) (Hub, error) {
	linked, _, err := e.LinkHub(ctx, actor, h, "", pre)
	return linked.Hub, err
}

func (e *Engine) checkHub(h Hub) error {
	host := h.Name != "" && len(h.Name) <= 253 && h.Name[0] != '.' && h.Name[0] != '-'
	for _, r := range h.Name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			host = false
		}
	}
	_, known := e.hubDrivers[h.Driver]
	switch {
	case !host:
		return fault.New(fault.Malformed, "hub-name", "a hub's name is a bare host name: letters, digits, dots and dashes").At("/name")
	case h.Driver != BuiltIn && !known:
		return fault.New(fault.Malformed, "hub-driver", "a hub driver is one of %s", strings.Join(e.driverNames(), ", ")).At("/driver")
	case h.Rate < 0 || h.Rate > maxHubRate:
		return fault.New(fault.Malformed, "hub-rate", "a rate lies between 1 and %d calls a minute", maxHubRate).At("/rate")
	case h.Rate > 0 && h.Driver == BuiltIn:
		return fault.New(fault.Malformed, "hub-rate", "nobody calls the built-in hub: it has no rate").At("/rate")
	case h.Weight < 0 || h.Weight > 1000:
		return fault.New(fault.Malformed, "hub-weight", "a weight lies between 0 and 1000").At("/weight")
	}
	return nil
}

// driverNames are the drivers that hubs can be linked by, the built-in hub first.
func (e *Engine) driverNames() []string {
	return append([]string{BuiltIn + " (the built-in hub)"}, slices.Sorted(maps.Keys(e.hubDrivers))...)
}

// DeleteHub unlinks a hub. While entries name it or devices live on it, that is a
// Conflict which says how many (scenarios F2).
func (e *Engine) DeleteHub(ctx context.Context, actor, name string, pre Precondition) error {
	return e.unlinkHub(ctx, actor, name, pre, false)
}

// AbandonHub unlinks a hub that will not answer any more. What it was still to remove is given
// up, and may be there for good; how many devices that are goes on record.
func (e *Engine) AbandonHub(ctx context.Context, actor, name string, pre Precondition) error {
	return e.unlinkHub(ctx, actor, name, pre, true)
}

func (e *Engine) unlinkHub(ctx context.Context, actor, name string, pre Precondition, abandon bool) error {
	now, name := e.now(), strings.ToLower(name)
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Hub(name)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		facts := map[string]any{"driver": was.Driver}
		if abandon {
			if facts["abandoned"], err = tx.AbandonHubIdentities(name); err != nil {
				return err
			}
		}
		entries, devices, err := tx.HubUse(name)
		if err != nil {
			return err
		}
		if entries > 0 || devices > 0 {
			return fault.New(fault.Conflict, "hub-in-use", "%d entries name the hub and %d devices live on it", entries, devices).About("hub " + name)
		}
		if n, err := tx.QuarantinesOn(name); err != nil || n > 0 {
			return first(err, fault.New(fault.Conflict, "hub-in-use", "%d devices are in quarantine on the hub: end that first", n).About("hub "+name))
		}
		return first(tx.DeleteHub(name, was.Version), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.HubUnlinked, Subject: "hub:" + name, Body: audit.Body(facts)}))
	})
}

// Hub reads one linked hub.
func (e *Engine) Hub(ctx context.Context, name string) (h Hub, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		h, err = tx.Hub(strings.ToLower(name))
		return err
	})
	return h, err
}

// Hubs lists the linked hubs by name.
func (e *Engine) Hubs(ctx context.Context) (list []Hub, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Hubs()
		return err
	})
	return list, err
}

// HubTest is a linked hub that was found fit to be worked with, and what rests on it.
type HubTest struct {
	Hub
	Entries int64 // that name it
	Devices int64 // that live on it
	Detail  string
}

// TestHub says whether a linked hub can be worked with. The built-in one always can: its
// devices live in Muster's own tables, which have just been read. Any other is asked.
//
// Errors: NotFound; Unavailable as the hub's driver has it.
func (e *Engine) TestHub(ctx context.Context, name string) (t HubTest, err error) {
	var link HubLink
	err = e.store.View(ctx, func(tx Tx) error {
		if t.Hub, err = tx.Hub(strings.ToLower(name)); err != nil {
			return err
		}
		if t.Driver != BuiltIn {
			if link, err = tx.HubLink(t.Name); err != nil {
				return err
			}
		}
		t.Entries, t.Devices, err = tx.HubUse(t.Name)
		return err
	})
	is, remark := "the built-in hub is there", ""
	if err == nil && t.Driver != BuiltIn {
		is = "the hub answers"
		remark, err = e.askHub(ctx, link, t.Driver)
	}
	if err != nil {
		return t, err
	}
	switch {
	case t.Draining:
		t.Detail = is + ", and is draining: it takes no new devices"
	case t.Weight == 0:
		t.Detail = is + "; with weight 0 it takes devices only by static or custom allocation"
	default:
		t.Detail = is + " and takes new devices"
	}
	t.Detail += remark
	return t, nil
}
