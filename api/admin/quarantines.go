package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// quarantining is what a quarantine would do.
type quarantining struct {
	Hub       string `json:"hub" doc:"Where the device will live."`
	From      string `json:"from,omitempty" doc:"The hub that removes it."`
	Shut      string `json:"shut,omitempty" doc:"The rule word of what refuses the device anyway: it is let in nowhere by this."`
	AtOnce    bool   `json:"atOnce" doc:"It comes to the hub at once; else when it registers again."`
	Elsewhere bool   `json:"elsewhere" doc:"A hub that lives elsewhere has to confirm."`
	Already   string `json:"already,omitempty" doc:"The hub on which it is in quarantine already."`
}

// Quarantine is a device in quarantine, or that was.
type Quarantine struct {
	RegistrationID string          `json:"registrationId"`
	State          string          `json:"state" enum:"pending,done,ending,ended" doc:"pending: the device is assigned to this hub from the commit on, and a hub has not confirmed; ending: that it was ended a hub has not confirmed."`
	Hub            string          `json:"hub" doc:"Where it lives."`
	From           string          `json:"from,omitempty" doc:"The hub that it was taken off."`
	Shut           string          `json:"shut,omitempty" doc:"The rule word of what refused it when it began, so that it came to no hub."`
	Why            string          `json:"why"`
	InitialTwin    json.RawMessage `json:"initialTwin,omitempty" doc:"That it got, or gets, on the built-in hub; absent: an empty one."`
	Campaign       string          `json:"campaign,omitempty"`
	By             string          `json:"quarantinedBy"`
	At             *time.Time      `json:"quarantinedDateTimeUtc"`
	EndedBy        string          `json:"endedBy,omitempty"`
	EndedAt        *time.Time      `json:"endedDateTimeUtc,omitempty"`
	Confirmed      *time.Time      `json:"confirmedDateTimeUtc,omitempty" doc:"When all hubs had confirmed that it began, or ended."`
	Hubs           []quarantineHop `json:"hubs,omitempty" doc:"The receipt, by hub; in GET of one."`
}

type quarantineHop struct {
	Hub     string `json:"hub"`
	Shall   string `json:"shall" enum:"have,remove"`
	State   string `json:"state" enum:"confirmed,pending"`
	Problem string `json:"problem,omitempty" doc:"Of the last try."`
}

// QuarantineOrder is what is asked for.
type QuarantineOrder struct {
	Hub         string          `json:"hub" maxLength:"253" doc:"A linked hub; best one of weight 0, so that no other device comes to it."`
	InitialTwin json.RawMessage `json:"initialTwin,omitempty" doc:"As that of an enrollment. That of the configuration unless given."`
	Why         string          `json:"why" maxLength:"200" doc:"It goes on record."`
}

type (
	quarantinePost struct {
		EntryID
		Body QuarantineOrder
	}
	quarantineEnd struct {
		EntryID
		Body struct {
			Why string `json:"why" maxLength:"200" doc:"It goes on record."`
		}
	}
	quarantineList struct {
		Paging
		Hub      string `query:"hub" maxLength:"253" doc:"On this hub."`
		Campaign string `query:"campaign" maxLength:"64" doc:"Begun by this campaign."`
		Pending  bool   `query:"pending" doc:"Only those that wait for a hub."`
		Ended    bool   `query:"ended" doc:"Those that have ended, instead of those that stand."`
	}
)

func (d *door) addQuarantines() {
	const tag = "quarantines"
	add(d, route{"preview-quarantine", http.MethodPost, "/registrations/{id}/quarantine/preview", policies.ScopeSecurity, tag, "Say what quarantining a device would do, and do nothing", false}, d.previewQuarantine)
	add(d, route{"quarantine-registration", http.MethodPost, "/registrations/{id}/quarantine", policies.ScopeSecurity, tag, "Move a device to a hub, with a twin of its own, and keep it there until that is ended", false}, d.quarantine)
	add(d, route{"end-quarantine", http.MethodPost, "/registrations/{id}/quarantine/end", policies.ScopeSecurity, tag, "Have a device go back to where its entry puts it, when it registers again", false}, d.endQuarantine)
	add(d, route{"list-quarantines", http.MethodGet, "/quarantines", policies.ScopeRead, tag, "List devices in quarantine", false}, d.listQuarantines)
	add(d, route{"get-quarantine", http.MethodGet, "/quarantines/{id}", policies.ScopeRead, tag, "Read the last quarantine of a device, with the receipt of its hubs", false}, d.getQuarantine)
}

func quarantineOf(q provisioning.Quarantine) (Quarantine, error) {
	return Quarantine{
		RegistrationID: q.Spelled, State: string(q.State()), Hub: q.Hub, From: q.From.Hub, Shut: q.Shut, Why: q.Why, InitialTwin: q.Twin, Campaign: q.Campaign,
		By: q.Actor, At: instant(q.At), EndedBy: q.EndedBy, EndedAt: instant(q.EndedAt), Confirmed: instant(q.Confirmed),
	}, nil
}

func (o QuarantineOrder) request(id string) (r provisioning.QuarantineRequest, err error) {
	r = provisioning.QuarantineRequest{Hub: o.Hub, Twin: o.InitialTwin, Why: o.Why}
	r.ID, err = verify.ParseRegistrationID(id)
	return r, err
}

func (d *door) previewQuarantine(ctx context.Context, in *quarantinePost) (*found[quarantining], error) {
	r, err := in.Body.request(in.ID)
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.PreviewQuarantine(ctx, r)
	if err != nil {
		return nil, err
	}
	return &found[quarantining]{Body: quarantining{Hub: p.Hub, From: p.From.Hub, Shut: p.Shut, AtOnce: p.AtOnce, Elsewhere: p.Elsewhere, Already: p.Was}}, nil
}

func (d *door) quarantine(ctx context.Context, in *quarantinePost) (*found[Quarantine], error) {
	r, err := in.Body.request(in.ID)
	if err != nil {
		return nil, err
	}
	q, err := d.Engine.Quarantine(ctx, actor(ctx), r)
	if err != nil {
		return nil, err
	}
	d.AfterRevoke() // brokers are to drop it
	body, err := quarantineOf(q)
	return &found[Quarantine]{Body: body}, err
}

func (d *door) endQuarantine(ctx context.Context, in *quarantineEnd) (*found[Quarantine], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	q, err := d.Engine.EndQuarantine(ctx, actor(ctx), id, in.Body.Why)
	if err != nil {
		return nil, err
	}
	d.AfterRevoke()
	body, err := quarantineOf(q)
	return &found[Quarantine]{Body: body}, err
}

func (d *door) listQuarantines(ctx context.Context, in *quarantineList) (*listed[Quarantine], error) {
	list := "quarantines " + in.Hub + " " + in.Campaign + " " + strconv.FormatBool(in.Ended)
	f := provisioning.QuarantineFilter{Limit: in.Limit + 1, Campaign: in.Campaign, Hub: strings.ToLower(in.Hub), Pending: in.Pending, Ended: in.Ended}
	var err error
	if f.After, err = in.afterID(d.Engine, list); err != nil {
		return nil, err
	}
	rows, err := d.Engine.Quarantines(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list, func(q provisioning.Quarantine) string { return q.ID.String() }, quarantineOf)
}

func (d *door) getQuarantine(ctx context.Context, in *EntryID) (*found[Quarantine], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	r, err := d.Engine.QuarantineOf(ctx, id)
	if err != nil {
		return nil, err
	}
	body, err := quarantineOf(r.Quarantine)
	for _, h := range r.Hops {
		hop := quarantineHop{Hub: h.Hub, Shall: "have", State: "confirmed", Problem: h.Problem}
		if h.Removes {
			hop.Shall = "remove"
		}
		if h.Pending {
			hop.State = "pending"
		}
		body.Hubs = append(body.Hubs, hop)
	}
	return &found[Quarantine]{Body: body}, err
}
