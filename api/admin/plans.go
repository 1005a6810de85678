package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// rotationPlan says who of a role is moved, when, and how many in an hour. What a write
// leaves out is not narrowed, not bounded, or as usual.
type rotationPlan struct {
	Name                string       `json:"name,omitempty" doc:"That of the path, where it is given."`
	Role                string       `json:"role,omitempty" doc:"What is rolled: devices, enrollments, groups, keys, access or issuers."`
	Paused              bool         `json:"paused,omitempty"`
	Entries             []string     `json:"entries,omitempty" nullable:"false" doc:"Only of these enrollments or groups; of role access, these policies: service/NAME or hub/NAME."`
	Profiles            []string     `json:"profiles,omitempty" nullable:"false" doc:"Of roles devices and issuers: only under these issuing profiles."`
	Windows             []planWindow `json:"windows,omitempty" nullable:"false" doc:"When anything may be moved; always unless given."`
	MaxPerHour          int          `json:"maxPerHour,omitempty" doc:"At most so many moves in an hour of the clock; 0: no bound."`
	Jitter              *float64     `json:"jitter,omitempty" nullable:"false" doc:"Spreads what comes due together over this share of the life, 0 to 0.3."`
	PrepareAt           *float64     `json:"prepareAt,omitempty" nullable:"false" doc:"The share of its life after which a successor is due, 0.1 to 0.99; two thirds unless given. Of devices it is the issuing profile's."`
	Overlap             string       `json:"overlap,omitempty" doc:"How long the old one stands beside the new, ISO 8601; PT24H unless given. Of devices it is the issuing profile's." example:"P7D"`
	Every               string       `json:"every,omitempty" doc:"Of roles keys and access: the age at which a key is rolled; never by itself unless given." example:"P180D"`
	Deadline            string       `json:"deadline,omitempty" doc:"Of groups: how long stragglers are waited for at most; until there are none unless given." example:"P90D"`
	Auto                bool         `json:"auto,omitempty" doc:"Of issuers: make, publish and promote the next one on schedule, where its issuer's key is at hand."`
	Publish             string       `json:"publish,omitempty" doc:"Of issuers: how long the next one stands in the trust bundle before it signs." example:"P14D"`
	Moved               int64        `json:"moved,omitempty" readOnly:"true" doc:"Moves under the plan in this hour of the clock."`
	Open                bool         `json:"open,omitempty" readOnly:"true" doc:"A window is open now, or there are none."`
	Opens               *time.Time   `json:"opens,omitempty" readOnly:"true" doc:"When the next window opens, while none is open."`
	Warnings            []string     `json:"warnings,omitempty" nullable:"false" readOnly:"true" doc:"In the answer of a write: what may surprise."`
	Etag                string       `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time   `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time   `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

type planWindow struct {
	Opens  string `json:"opens" doc:"Five fields as in crontab(5): minute, hour, day, month, weekday." example:"0 2 * * 6"`
	Length string `json:"length" doc:"How long it stays open, ISO 8601, 1 minute to 7 days." example:"PT4H"`
	Zone   string `json:"zone,omitempty" doc:"The time zone of its clock; UTC unless given." example:"Europe/Berlin"`
}

// planDurations are a plan's durations, where they stand in both of its forms.
func (p *rotationPlan) planDurations(of *policies.RotationPlan) []planDuration {
	return []planDuration{
		{&p.Overlap, "/overlap", &of.Overlap}, {&p.Every, "/every", &of.Every},
		{&p.Deadline, "/deadline", &of.Deadline}, {&p.Publish, "/publish", &of.Publish},
	}
}

type planDuration struct {
	text    *string
	pointer string
	length  *time.Duration
}

func (d *door) planOf(p provisioning.Plan) (rotationPlan, error) {
	now := d.Now()
	out := rotationPlan{
		Name: p.Name, Role: string(p.Role), Paused: p.Paused, Entries: p.Entries, Profiles: p.Profiles, MaxPerHour: p.MaxPerHour, Auto: p.Auto,
		Etag: etag(p.Version), CreatedDateTimeUtc: instant(p.Created), LastUpdatedDateTime: instant(p.Updated),
	}
	for _, share := range []struct {
		is   float64
		into **float64
	}{{p.Jitter, &out.Jitter}, {p.PrepareAt, &out.PrepareAt}} {
		if share.is != 0 {
			*share.into = &share.is
		}
	}
	for _, x := range out.planDurations(&p.RotationPlan) {
		if *x.length != 0 {
			*x.text = formatDuration(*x.length)
		}
	}
	for _, w := range p.Windows {
		out.Windows = append(out.Windows, planWindow{Opens: w.Opens, Length: formatDuration(w.Length), Zone: w.Zone})
	}
	if p.Hour == policies.HourOf(now) {
		out.Moved = p.Moved
	}
	open, next := p.Windows.Open(now)
	out.Open, out.Opens = open, instant(next)
	return out, nil
}

// policy is the plan as the engine takes it; what is wrong with its values is for the
// engine to say.
func (p rotationPlan) policy(name string) (policies.RotationPlan, error) {
	out := policies.RotationPlan{
		Name: name, Role: policies.RollRole(p.Role), Paused: p.Paused, Entries: p.Entries, Profiles: p.Profiles, MaxPerHour: p.MaxPerHour, Auto: p.Auto,
	}
	if p.Name != "" && p.Name != name {
		return out, otherName("/name")
	}
	if p.Jitter != nil {
		out.Jitter = *p.Jitter
	}
	if p.PrepareAt != nil {
		if out.PrepareAt = *p.PrepareAt; out.PrepareAt == 0 {
			return out, fault.New(fault.Malformed, "plan-invalid", "a successor is prepared after a share between 0.1 and 0.99 of the life").At("/prepareAt")
		}
	}
	var err error
	for _, x := range p.planDurations(&out) {
		if *x.length, err = optionalDuration(*x.text, x.pointer); err != nil {
			return out, err
		}
	}
	for i, w := range p.Windows {
		length, err := parseDuration(w.Length, fmt.Sprintf("/windows/%d/length", i))
		if err != nil {
			return out, err
		}
		out.Windows = append(out.Windows, policies.Window{Opens: w.Opens, Length: length, Zone: w.Zone})
	}
	return out, nil
}

// PlanName is the name in a path.
type PlanName struct {
	Name string `path:"name" maxLength:"64"`
}

type (
	planPut struct {
		PlanName
		Conditions
		Body rotationPlan
	}
	planPatch struct {
		PlanName
		Conditions
		Body mergePatch `contentType:"application/merge-patch+json"`
	}
	planAct struct {
		PlanName
		Conditions
	}
)

func (d *door) addPlans() {
	const tag = "plans"
	add(d, route{"list-plans", http.MethodGet, "/plans", policies.ScopeRead, tag, "List rotation plans", false}, d.listPlans)
	add(d, route{"get-plan", http.MethodGet, "/plans/{name}", policies.ScopeRead, tag, "Read a rotation plan", false}, d.getPlan)
	add(d, route{"put-plan", http.MethodPut, "/plans/{name}", policies.ScopeRotate, tag, "Create or replace a rotation plan", true}, d.putPlan)
	add(d, route{"patch-plan", http.MethodPatch, "/plans/{name}", policies.ScopeRotate, tag, "Change a rotation plan", false}, d.patchPlan)
	add(d, route{"pause-plan", http.MethodPost, "/plans/{name}/pause", policies.ScopeRotate, tag, "Pause a rotation plan: it moves nothing", false}, d.pausePlan)
	add(d, route{"resume-plan", http.MethodPost, "/plans/{name}/resume", policies.ScopeRotate, tag, "Let a paused rotation plan go on", false}, d.resumePlan)
	add(d, route{"delete-plan", http.MethodDelete, "/plans/{name}", policies.ScopeRotate, tag, "Delete a rotation plan", false}, d.deletePlan)
}

func (d *door) listPlans(ctx context.Context, in *Paging) (*listed[rotationPlan], error) {
	rows, err := d.Engine.Plans(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "plans", func(p provisioning.Plan) string { return p.Name }, d.planOf)
}

func (d *door) getPlan(ctx context.Context, in *PlanName) (*found[rotationPlan], error) {
	p, err := d.Engine.Plan(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	body, err := d.planOf(p)
	return &found[rotationPlan]{ETag: etag(p.Version), Body: body}, err
}

func (d *door) putPlan(ctx context.Context, in *planPut) (*written[rotationPlan], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return d.writePlan(ctx, in.Name, in.Body, pre)
}

func (d *door) writePlan(ctx context.Context, name string, body rotationPlan, pre provisioning.Precondition) (*written[rotationPlan], error) {
	policy, err := body.policy(name)
	if err != nil {
		return nil, err
	}
	p, warnings, err := d.Engine.PutPlan(ctx, actor(ctx), policy, pre)
	if err != nil {
		return nil, err
	}
	out := &written[rotationPlan]{Status: http.StatusOK, ETag: etag(p.Version)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+"/plans/"+p.Name
	}
	out.Body, err = d.planOf(p)
	out.Body.Warnings = warnings
	return out, err
}

func (d *door) patchPlan(ctx context.Context, in *planPatch) (*found[rotationPlan], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.Plan(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if pre, err = over(pre, p.Version); err != nil {
		return nil, err
	}
	current, err := d.planOf(p)
	if err != nil {
		return nil, err
	}
	next, err := patched(d, current, in.Body)
	if err != nil {
		return nil, err
	}
	out, err := d.writePlan(ctx, in.Name, next, pre)
	if err != nil {
		return nil, err
	}
	return &found[rotationPlan]{ETag: out.ETag, Body: out.Body}, nil
}

func (d *door) pausePlan(ctx context.Context, in *planAct) (*found[rotationPlan], error) {
	return d.setPaused(ctx, in, true)
}

func (d *door) resumePlan(ctx context.Context, in *planAct) (*found[rotationPlan], error) {
	return d.setPaused(ctx, in, false)
}

func (d *door) setPaused(ctx context.Context, in *planAct, paused bool) (*found[rotationPlan], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.PausePlan(ctx, actor(ctx), in.Name, paused, pre)
	if err != nil {
		return nil, err
	}
	body, err := d.planOf(p)
	return &found[rotationPlan]{ETag: etag(p.Version), Body: body}, err
}

func (d *door) deletePlan(ctx context.Context, in *planAct) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, d.Engine.DeletePlan(ctx, actor(ctx), in.Name, pre)
}
