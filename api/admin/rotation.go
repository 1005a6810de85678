package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

type (
	// due is something that the planner, or a person, has to look at.
	due struct {
		Role   string     `json:"role" enum:"device,enrollment,group,key,issuer,anchor"`
		Name   string     `json:"name" doc:"A registration's, entry's or issuer's id, or an anchor's name."`
		At     *time.Time `json:"at"`
		Move   string     `json:"move" doc:"What is needed then, as far as can be told now; review: it is looked at."`
		Reason string     `json:"reason"`
		Ends   *time.Time `json:"ends,omitempty" doc:"When that which is in use ends."`
		Plan   string     `json:"plan,omitempty" doc:"The rotation plan that decides about it."`
		Paused bool       `json:"paused,omitempty" doc:"That plan is paused."`
		Opens  *time.Time `json:"opens,omitempty" doc:"When that plan's next window opens, if none is open at the time."`
	}
	dueQuery struct {
		Before time.Time `query:"before" doc:"RFC 3339; in 30 days unless given."`
		Role   string    `query:"role" enum:"device,enrollment,group,key,issuer,anchor"`
		Limit  int       `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"At most so many items."`
	}
	dueList struct {
		Body struct {
			Items []due `json:"items" nullable:"false"`
			More  bool  `json:"more" doc:"There are, or may be, more before that time."`
		}
	}
	reasonCount struct {
		Reason string `json:"reason"`
		Count  int64  `json:"count"`
	}
	rotationStatus struct {
		Body struct {
			Overdue              int64         `json:"overdue" doc:"Registrations and entries that have been due for more than an hour; counted up to 10000 each."`
			Stuck                []reasonCount `json:"stuck" nullable:"false" doc:"Devices whose roll does not go on, by reason."`
			ClockAlarm           bool          `json:"clockAlarm" doc:"The clock jumped: nothing rolls until it has gone evenly for a while."`
			SubscriptionsFailing []string      `json:"subscriptionsFailing" nullable:"false" doc:"Subscriptions whose notices have not been taken for more than an hour."`
			HubsWaiting          []string      `json:"hubsWaiting" nullable:"false" doc:"Hubs elsewhere that have not been told of a device for more than an hour."`
		}
	}
	stuckQuery struct {
		Paging
		Reason string `query:"reason" required:"true" maxLength:"64" doc:"One of those of GET /rotation."`
	}
	stuckDevice struct {
		RegistrationID string     `json:"registrationId"`
		Thumbprint     string     `json:"thumbprint" doc:"SHA-256 of the certificate that wants a successor."`
		Reason         string     `json:"reason"`
		Since          *time.Time `json:"since"`
		ToldAt         *time.Time `json:"toldAt,omitempty" doc:"When the device was told; absent if it was not."`
	}
	rollNow struct {
		Body struct {
			Registration string `json:"registration,omitempty" doc:"Tell this device to renew now."`
			Enrollment   string `json:"enrollment,omitempty" doc:"Have the planner look at this enrollment's slots at once."`
			Group        string `json:"group,omitempty" doc:"Have the planner look at this group's slots at once."`
		}
	}
)

// dueAhead is how far ahead is looked unless asked otherwise.
const dueAhead = 30 * 24 * time.Hour

func (d *door) addRotation() {
	const tag = "rotation"
	add(d, route{"get-rotation", http.MethodGet, "/rotation", policies.ScopeRead, tag, "How rolling goes: what is overdue, and what does not go on", false}, d.getRotation)
	add(d, route{"list-due", http.MethodGet, "/rotation/due", policies.ScopeRead, tag, "List the next moves, soonest first, with their reasons", false}, d.listDue)
	add(d, route{"list-stuck", http.MethodGet, "/rotation/stuck", policies.ScopeRead, tag, "List devices whose roll does not go on, for one reason", false}, d.listStuck)
	add(d, route{"roll-now", http.MethodPost, "/rotation/now", policies.ScopeRotate, tag, "Roll one thing now, whatever its plan says of windows and rates", false}, d.rollNow)
}

func dueOf(x provisioning.Due) due {
	return due{
		Role: string(x.Role), Name: x.Name, At: instant(x.At), Move: x.Move, Reason: x.Reason,
		Ends: instant(x.Ends), Plan: x.Plan, Paused: x.Paused, Opens: instant(x.Opens),
	}
}

func (d *door) getRotation(ctx context.Context, _ *struct{}) (*rotationStatus, error) {
	r, err := d.Engine.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	out := new(rotationStatus)
	out.Body.Overdue, out.Body.Stuck = r.Overdue, []reasonCount{}
	out.Body.ClockAlarm = r.ClockAlarm
	out.Body.SubscriptionsFailing, out.Body.HubsWaiting = append([]string{}, r.Failing...), append([]string{}, r.Waiting...)
	for _, s := range r.Stuck {
		out.Body.Stuck = append(out.Body.Stuck, reasonCount(s))
	}
	return out, nil
}

func (d *door) listDue(ctx context.Context, in *dueQuery) (*dueList, error) {
	if in.Before.IsZero() {
		in.Before = d.Now().Add(dueAhead)
	}
	rows, err := d.Engine.Due(ctx, provisioning.DueQuery{By: in.Before, Role: provisioning.ExpiryRole(in.Role), Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := new(dueList)
	out.Body.Items, out.Body.More = []due{}, len(rows) == in.Limit
	for _, x := range rows {
		out.Body.Items = append(out.Body.Items, dueOf(x))
	}
	return out, nil
}

func (d *door) listStuck(ctx context.Context, in *stuckQuery) (*listed[stuckDevice], error) {
	after, err := in.afterID(d.Engine, "stuck")
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.Stuck(ctx, in.Reason, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "stuck", func(s provisioning.StuckDevice) string { return s.ID.String() }, func(s provisioning.StuckDevice) (stuckDevice, error) {
		return stuckDevice{
			RegistrationID: s.ID.String(), Thumbprint: verify.Thumbprint(s.Ref).String(), Reason: s.Reason, Since: instant(s.Since), ToldAt: instant(s.ToldAt),
		}, nil
	})
}

func (d *door) rollNow(ctx context.Context, in *rollNow) (*struct{ Body due }, error) {
	named, pointer := 0, ""
	for at, name := range map[string]string{"/registration": in.Body.Registration, "/enrollment": in.Body.Enrollment, "/group": in.Body.Group} {
		if name != "" {
			named, pointer = named+1, at
		}
	}
	if named != 1 {
		return nil, fault.New(fault.Malformed, "roll-what", "name one registration, one enrollment or one group")
	}
	id, err := verify.ParseRegistrationID(in.Body.Registration + in.Body.Enrollment + in.Body.Group)
	if err != nil {
		return nil, fault.As(err).At(pointer)
	}
	var x provisioning.Due
	switch pointer {
	case "/registration":
		x, err = d.Engine.RollNow(ctx, actor(ctx), id)
	case "/enrollment":
		x, err = d.Engine.RollEntryNow(ctx, actor(ctx), provisioning.Owner{Kind: provisioning.Individual, ID: id})
	default:
		x, err = d.Engine.RollEntryNow(ctx, actor(ctx), provisioning.Owner{Kind: provisioning.Group, ID: id})
	}
	return &struct{ Body due }{dueOf(x)}, err
}
