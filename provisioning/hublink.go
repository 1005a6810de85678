package provisioning

import (
	"context"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// LinkedHub is a hub, and of one that lives elsewhere how it does.
type LinkedHub struct {
	Hub
	Link      HubLink // zero: the built-in one
	Endpoint  string  // scheme and host of its address, whose rest may be a secret
	Circuit   HubCircuit
	PerMinute int       // calls that it gets at most; 0: as many as it answers
	Ahead     int64     // devices that it is still to be told of
	Since     time.Time // the oldest of them waits for so long
	Checked   HubCheck  // the last that was done; the zero one when none was
}

// LinkHub links a hub, or changes a linked one. A hub that lives elsewhere has an address,
// which "" keeps; when it is linked, or gets another driver, the key that signs what it is sent is
// answered, once.
//
// Errors: Malformed with the field; Conflict "hub-in-use" when another driver is to have
// devices that there are.
func (e *Engine) LinkHub(ctx context.Context, actor string, h Hub, address string, pre Precondition) (is LinkedHub, key []byte, err error) {
	now := e.now()
	h.Name = strings.ToLower(h.Name)
	if err := e.checkHub(h); err != nil {
		return is, nil, err
	}
	if err := e.checkHubAddress(h, address); err != nil {
		return is, nil, err
	}
	made := newReceiverKey()
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		is, key = LinkedHub{Hub: h}, nil
		was, err := tx.Hub(h.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if err := keepsDriver(tx, was, h); err != nil {
			return err
		}
		is.Created, is.Updated, is.Version = now, now, firstVersion(now)
		action := audit.HubLinked
		if was.Version == 0 {
			err = tx.InsertHub(is.Hub)
		} else {
			is.Created, is.Version = was.Created, was.Version+1
			action, err = audit.HubUpdated, tx.UpdateHub(is.Hub, was.Version)
		}
		if err != nil {
			return err
		}
		if h.Driver == BuiltIn {
			err = tx.DeleteHubLink(h.Name)
		} else {
			key, err = e.link(tx, &is, was, address, made, now)
		}
		if err != nil {
			return err
		}
		facts := map[string]any{"driver": h.Driver, "weight": h.Weight, "draining": h.Draining, "location": h.Location}
		if h.Rate > 0 {
			facts["rate"] = h.Rate
		}
		if is.Endpoint != "" {
			facts["endpoint"] = is.Endpoint
		}
		return tx.Append(audit.Event{At: now, Actor: actor, Action: action, Subject: "hub:" + h.Name, Body: audit.Body(facts)})
	})
	return is, key, err
}

func (e *Engine) checkHubAddress(h Hub, address string) error {
	if address == "" {
		return nil
	}
	if h.Driver == BuiltIn {
		return fault.New(fault.Malformed, "hub-address", "the built-in hub has no address").At("/url")
	}
	if len(address) > maxWebhookURL {
		return fault.New(fault.Malformed, "hub-address", "a hub's address has at most %d characters", maxWebhookURL).At("/url")
	}
	_, err := e.hubDrivers[h.Driver].Endpoint(address)
	return err
}

// keepsDriver refuses another driver to a hub that devices live on: nobody would tell it, or
// forget, those that are there.
func keepsDriver(tx Tx, was, is Hub) error {
	if was.Version == 0 || was.Driver == is.Driver {
		return nil
	}
	_, devices, err := tx.HubUse(is.Name)
	if err == nil && devices > 0 {
		err = fault.New(fault.Conflict, "hub-in-use", "%d devices live on the hub: it keeps its driver", devices).About("hub " + is.Name)
	}
	return err
}

// link writes how a hub that lives elsewhere is reached. The key of a new one, and of one that has
// another driver now, is answered.
func (e *Engine) link(tx Tx, h *LinkedHub, was Hub, address string, made []byte, now time.Time) (key []byte, err error) {
	h.Link, err = tx.HubLink(h.Name)
	absent := fault.Is(err, fault.NotFound)
	switch {
	case err != nil && !absent:
		return nil, err
	case absent && address == "":
		return nil, fault.New(fault.Malformed, "webhook-missing", "a hub that lives elsewhere needs an address").At("/url")
	case address != "":
		h.Link.SealedURL = e.box.Seal(hubLinkPurpose(h.Name, "url"), []byte(address))
	}
	by, other := e.hubDrivers[h.Driver], was.Driver != h.Driver
	if other {
		h.Link.SealedKey = e.box.Seal(hubLinkPurpose(h.Name, "key"), made)
		if by.Traits().Signed {
			key = made
		}
	}
	switch {
	case absent:
		h.Link.Hub = h.Name
		err = tx.InsertHubLink(h.Link)
	case other && address == "": // it keeps its address, if that is one of this driver
		to, bad := e.hubAccess(h.Link)
		if bad == nil {
			_, bad = by.Endpoint(to.URL)
		}
		err = first(bad, tx.UpdateHubLink(h.Link))
	case other || address != "":
		err = tx.UpdateHubLink(h.Link)
	}
	return key, first(err, e.show(h, now))
}

// RollHubKey gives a hub that lives elsewhere a new key, which signs from now on.
func (e *Engine) RollHubKey(ctx context.Context, actor, name string, pre Precondition) (h LinkedHub, key []byte, err error) {
	now, name := e.now(), strings.ToLower(name)
	key = newReceiverKey()
	err = e.store.Update(ctx, func(tx Tx) error {
		if h.Hub, err = tx.Hub(name); err != nil {
			return err
		}
		if err := pre.check(h.Version); err != nil {
			return err
		}
		if by := e.hubDrivers[h.Driver]; by == nil || !by.Traits().Signed {
			return fault.New(fault.Conflict, "hub-address", "nothing that the hub is sent is signed, so there is no key").About("hub " + name)
		}
		if h.Link, err = tx.HubLink(name); err != nil {
			return err
		}
		h.Link.SealedKey = e.box.Seal(hubLinkPurpose(name, "key"), key)
		return first(e.show(&h, now), tx.UpdateHubLink(h.Link),
			tx.Append(audit.Event{At: now, Actor: actor, Action: audit.HubKeyRolled, Subject: "hub:" + name, Body: audit.Body(map[string]any{"endpoint": h.Endpoint})}))
	})
	if err != nil {
		return LinkedHub{}, nil, err
	}
	return h, key, nil
}

// LinkedHub reads one hub and how it does.
func (e *Engine) LinkedHub(ctx context.Context, name string) (h LinkedHub, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		if h.Hub, err = tx.Hub(strings.ToLower(name)); err != nil {
			return err
		}
		return e.fill(tx, &h, now)
	})
	return h, err
}

// LinkedHubs lists the linked hubs by name, and how they do.
func (e *Engine) LinkedHubs(ctx context.Context) (list []LinkedHub, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		hubs, err := tx.Hubs()
		list = make([]LinkedHub, len(hubs))
		for i, h := range hubs {
			list[i].Hub = h
			if err := e.fill(tx, &list[i], now); err != nil {
				return err
			}
		}
		return err
	})
	return list, err
}

func (e *Engine) fill(tx Tx, h *LinkedHub, now time.Time) (err error) {
	checks, err := tx.HubChecks(h.Name)
	if err != nil {
		return err
	}
	h.Checked = lastGood(checks)
	if h.Driver == BuiltIn {
		return nil
	}
	if h.Link, err = tx.HubLink(h.Name); err != nil {
		return err
	}
	if h.Ahead, h.Since, err = tx.CountHubAhead(h.Name); err != nil {
		return err
	}
	return e.show(h, now)
}

// show fills in what may be shown of the address, and how the hub does. Of an address that the
// driver does not take any more nothing is.
func (e *Engine) show(h *LinkedHub, now time.Time) (err error) {
	h.Circuit, h.PerMinute = h.Link.Circuit(now), e.rateOf(h.Hub).calls
	by := e.hubDrivers[h.Driver]
	if by == nil {
		return nil // linked by a server with other drivers
	}
	address, err := e.box.Open(hubLinkPurpose(h.Name, "url"), h.Link.SealedURL)
	if err != nil {
		return err
	}
	h.Endpoint, _ = by.Endpoint(string(address))
	return nil
}

// hubAccess opens how a hub is reached.
func (e *Engine) hubAccess(l HubLink) (HubAccess, error) {
	address, err := e.box.Open(hubLinkPurpose(l.Hub, "url"), l.SealedURL)
	if err != nil {
		return HubAccess{}, err
	}
	key, err := e.box.Open(hubLinkPurpose(l.Hub, "key"), l.SealedKey)
	if err != nil {
		return HubAccess{}, err
	}
	return HubAccess{IDScope: e.idScope, Hub: l.Hub, URL: string(address), Key: verify.NewSecret(key)}, nil
}

// askHub asks a hub that lives elsewhere whether it is there. What there is to say of it begins
// with a semicolon.
func (e *Engine) askHub(ctx context.Context, l HubLink, driver string) (remark string, err error) {
	to, err := e.hubAccess(l)
	if err != nil {
		return "", err
	}
	by := e.hubDrivers[driver]
	if by == nil {
		return "", noDriver(l.Hub, driver)
	}
	ctx, cancel := context.WithTimeout(ctx, hubLimit)
	defer cancel()
	if remarker, has := by.(HubRemarker); has {
		remark = "; " + remarker.Remark(to)
	}
	return remark, by.Test(ctx, to)
}

// noDriver is for a hub that was linked by a server with other drivers.
func noDriver(hub, driver string) error {
	return fault.New(fault.Unavailable, "hub-driver-missing", "this server does not have the driver %s", driver).About("hub " + hub)
}

// hubLinkPurpose binds what is sealed to its row and column (INV-K2).
func hubLinkPurpose(hub, column string) string { return "hub_links|" + hub + "|" + column }
