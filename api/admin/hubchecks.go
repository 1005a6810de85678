package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// HubCheck is one look at what a hub holds.
type HubCheck struct {
	ID        string           `json:"id"`
	Hub       string           `json:"hub"`
	State     string           `json:"state" enum:"open,done,failed" doc:"open: the hub is being read, or will be in a moment; failed: it could not be."`
	By        string           `json:"requestedBy"`
	Requested *time.Time       `json:"requestedDateTimeUtc"`
	Began     *time.Time       `json:"beganDateTimeUtc,omitempty"`
	Ended     *time.Time       `json:"endedDateTimeUtc,omitempty"`
	Problem   string           `json:"problem,omitempty" doc:"Why the hub could not be read."`
	Held      int64            `json:"held" doc:"Devices that the hub holds."`
	Untold    int64            `json:"untold" doc:"Of those and ours, devices that it is still to be told of: that is no drift."`
	Unnamed   int64            `json:"unnamed,omitempty" doc:"Devices that it holds under ids which none of ours can have. They are not listed, and not removed."`
	Drift     map[string]int64 `json:"drift" doc:"How many there are of each kind of drift: enabled-there (and disabled here), credentials-differ, unknown-there (not ours), missing-there, disabled-there (and enabled here), kind-differs. Those that are 0 are not there."`
	Repair    *hubRepair       `json:"repair,omitempty"`
}

type hubRepair struct {
	By            string     `json:"requestedBy"`
	Requested     *time.Time `json:"requestedDateTimeUtc"`
	RemoveUnknown bool       `json:"removeUnknown"`
	Devices       int64      `json:"devices" doc:"That the hub is told again of, so far."`
	Done          *time.Time `json:"doneDateTimeUtc,omitempty" doc:"When the last of them had been made ready to be told."`
}

// HubDrift is a device that a hub holds otherwise than it shall.
type HubDrift struct {
	Kind           string `json:"kind" enum:"enabled-there,credentials-differ,unknown-there,missing-there,disabled-there,kind-differs"`
	DeviceID       string `json:"deviceId"`
	RegistrationID string `json:"registrationId,omitempty" doc:"Not there where the device is not ours."`
}

type (
	// HubCheckID is the id in a path.
	HubCheckID struct {
		HubName
		ID string `path:"id" maxLength:"64"`
	}
	hubCheckList struct {
		Paging
		HubName
	}
	hubDriftList struct {
		Paging
		HubCheckID
	}
	hubRepairPost struct {
		HubName
		Body struct {
			Check         string `json:"check" maxLength:"64" doc:"The id of a check that is done: what it lists is repaired, and nothing else."`
			RemoveUnknown bool   `json:"removeUnknown,omitempty" doc:"Have it remove devices that are not ours, too; needs the scope security."`
		}
	}
)

func (d *door) addHubChecks() {
	const tag, checks = "hubs", "/hubs/{name}/checks"
	add(d, route{"check-hub", http.MethodPost, checks, policies.ScopeEnroll, tag, "Have it looked up what a hub holds, and compared with what it shall", true}, d.checkHub)
	add(d, route{"list-hub-checks", http.MethodGet, checks, policies.ScopeRead, tag, "List the last checks of a hub, newest first", false}, d.listHubChecks)
	add(d, route{"get-hub-check", http.MethodGet, checks + "/{id}", policies.ScopeRead, tag, "Read a check of a hub", false}, d.getHubCheck)
	add(d, route{"list-hub-drift", http.MethodGet, checks + "/{id}/drift", policies.ScopeRead, tag, "List the devices that a hub holds otherwise, the most dangerous first", false}, d.listHubDrift)
	add(d, route{"repair-hub", http.MethodPost, "/hubs/{name}/repair", policies.ScopeEnroll, tag, "Have a hub told again of what a check has listed", false}, d.repairHub)
}

func hubCheckOf(c provisioning.HubCheck) (HubCheck, error) {
	out := HubCheck{
		ID: c.ID, Hub: c.Hub, State: "open", By: c.Actor, Requested: instant(c.Requested), Began: instant(c.Began), Ended: instant(c.Ended),
		Problem: c.Problem, Held: c.Held, Untold: c.Untold, Unnamed: c.Unnamed, Drift: map[string]int64{},
	}
	switch {
	case c.Good():
		out.State = "done"
	case !c.Ended.IsZero():
		out.State = "failed"
	}
	for kind, n := range c.Drift {
		out.Drift[string(kind)] = n
	}
	if r := c.Repair; !r.At.IsZero() {
		out.Repair = &hubRepair{By: r.By, Requested: instant(r.At), RemoveUnknown: r.Removes, Devices: r.Devices, Done: instant(r.Done)}
	}
	return out, nil
}

func (d *door) checkHub(ctx context.Context, in *HubName) (*written[HubCheck], error) {
	c, err := d.Engine.BeginHubCheck(ctx, actor(ctx), in.Name)
	if err != nil {
		return nil, err
	}
	body, err := hubCheckOf(c)
	return &written[HubCheck]{Status: http.StatusCreated, Location: prefix + "/hubs/" + c.Hub + "/checks/" + c.ID, Body: body}, err
}

func (d *door) listHubChecks(ctx context.Context, in *hubCheckList) (*listed[HubCheck], error) {
	rows, err := d.Engine.HubChecks(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	// There are few: the pages of a list that is read whole go up, and this one goes down.
	return pageOf(d.Engine, rows, max(in.Limit, len(rows)), "hub checks", func(c provisioning.HubCheck) string { return c.ID }, hubCheckOf)
}

func (d *door) getHubCheck(ctx context.Context, in *HubCheckID) (*found[HubCheck], error) {
	c, err := d.Engine.HubCheck(ctx, in.Name, in.ID)
	if err != nil {
		return nil, err
	}
	body, err := hubCheckOf(c)
	return &found[HubCheck]{Body: body}, err
}

func (d *door) listHubDrift(ctx context.Context, in *hubDriftList) (*listed[HubDrift], error) {
	list := "hub drift " + in.ID
	after, err := in.after(d.Engine, list)
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.HubDrifts(ctx, in.Name, in.ID, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list, provisioning.HubDrift.Key, func(x provisioning.HubDrift) (HubDrift, error) {
		return HubDrift{Kind: string(x.Kind), DeviceID: x.Spelled, RegistrationID: x.Registration.String()}, nil
	})
}

func (d *door) repairHub(ctx context.Context, in *hubRepairPost) (*found[HubCheck], error) {
	if in.Body.RemoveUnknown {
		if err := d.needs(ctx, policies.ScopeSecurity, "POST "+prefix+"/hubs/"+in.Name+"/repair with removeUnknown"); err != nil {
			return nil, err
		}
	}
	if in.Body.Check == "" {
		return nil, fault.New(fault.Malformed, "hub-check-missing", "look at what a check found first: the repair takes its id").At("/check")
	}
	c, err := d.Engine.RepairHub(ctx, actor(ctx), in.Name, in.Body.Check, in.Body.RemoveUnknown)
	if err != nil {
		return nil, err
	}
	body, err := hubCheckOf(c)
	return &found[HubCheck]{Body: body}, err
}
