package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Ending is what taking a device out of service does, and what that leaves open.
type Ending struct {
	Enrollment   string   `json:"enrollment,omitempty" enum:"disabled,was-disabled,exception" doc:"What becomes of the device's own: exception, there was none and a disabled one is made, so that no group admits it. Absent when records are deleted."`
	Hub          string   `json:"hub,omitempty" doc:"That the device is on, and removed from."`
	Certificates int64    `json:"certificates" doc:"Of ours that are revoked, as cessationOfOperation."`
	StaysOpen    []string `json:"staysOpen" nullable:"false" enum:"outside-certificate,hub-device-kept,may-register-again,comes-when-it-registers" doc:"comes-when-it-registers: of a quarantine, the device is refused or on no hub now; outside-certificate: the device has one that is not ours to revoke; hub-device-kept: the built-in hub has a device of this name; may-register-again: an entry admits it."`
}

func endingOf(p provisioning.RetirePlan) Ending {
	return Ending{Enrollment: string(p.Entry), Hub: p.Hub, Certificates: p.Certificates, StaysOpen: append([]string{}, p.Open...)}
}

// retiring is what retiring one device would do.
type retiring struct {
	Ending
	Owner     *entryRef `json:"owner,omitempty" doc:"The entry that admitted the device."`
	Elsewhere bool      `json:"elsewhere" doc:"A hub that lives elsewhere has to confirm."`
}

// Retirement is a device that was taken out of service.
type Retirement struct {
	RegistrationID string `json:"registrationId"`
	State          string `json:"state" enum:"pending,done,returned" doc:"pending: it is refused from its commit on, and a hub has not confirmed; returned: it has registered since."`
	Ending
	Owner         *entryRef  `json:"owner,omitempty" doc:"The entry that had admitted the device."`
	RecordDeleted bool       `json:"recordDeleted" doc:"Its registration was deleted, too."`
	Campaign      string     `json:"campaign,omitempty"`
	By            string     `json:"retiredBy"`
	At            *time.Time `json:"retiredDateTimeUtc"`
	Awaited       int64      `json:"awaited" doc:"Hubs that have not confirmed."`
	Confirmed     *time.Time `json:"confirmedDateTimeUtc,omitempty" doc:"When the last of its hubs had."`
}

type (
	retirePost struct {
		EntryID
		Body *struct {
			DeleteRecord bool `json:"deleteRecord,omitempty" doc:"Delete the registration, too; it stays on record unless given."`
		}
	}
	retirementList struct {
		Paging
		Campaign string `query:"campaign" maxLength:"64" doc:"Retired by this campaign."`
		Pending  bool   `query:"pending" doc:"Only those that wait for a hub."`
	}
	planned struct {
		Items []plannedRow `json:"items" nullable:"false"`
	}
	plannedRow struct {
		Ending
		Devices int64 `json:"devices" doc:"For which the same is planned; certificates are of all of them."`
	}
)

func (d *door) addRetirements() {
	const tag = "retirements"
	add(d, route{"preview-retire", http.MethodGet, "/registrations/{id}/retiring", policies.ScopeRead, tag, "Say what retiring a device would do, and do nothing", false}, d.previewRetire)
	add(d, route{"retire-registration", http.MethodPost, "/registrations/{id}/retire", policies.ScopeSecurity, tag, "Take a device out of service: shut out, its certificates revoked, off its hub", false}, d.retireDevice)
	add(d, route{"list-retirements", http.MethodGet, "/retirements", policies.ScopeRead, tag, "List devices that were taken out of service", false}, d.listRetirements)
	add(d, route{"get-retirement", http.MethodGet, "/retirements/{id}", policies.ScopeRead, tag, "Read the receipt of a device that was taken out of service", false}, d.getRetirement)
}

func retirementOf(r provisioning.Retirement) (Retirement, error) {
	return Retirement{
		RegistrationID: r.Spelled, State: string(r.State()), Ending: endingOf(r.RetirePlan), Owner: ownerOf(r.Owner), RecordDeleted: r.Deleted,
		Campaign: r.Campaign, By: r.Actor, At: instant(r.At), Awaited: r.Awaited, Confirmed: instant(r.Confirmed),
	}, nil
}

func (d *door) previewRetire(ctx context.Context, in *EntryID) (*found[retiring], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.PreviewRetire(ctx, id)
	if err != nil {
		return nil, err
	}
	return &found[retiring]{Body: retiring{Ending: endingOf(p), Owner: ownerOf(p.Owner), Elsewhere: p.Elsewhere}}, nil
}

func (d *door) retireDevice(ctx context.Context, in *retirePost) (*found[Retirement], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	r, err := d.Engine.Retire(ctx, actor(ctx), id, in.Body != nil && in.Body.DeleteRecord)
	if err != nil {
		return nil, err
	}
	d.AfterRevoke()
	body, err := retirementOf(r)
	return &found[Retirement]{Body: body}, err
}

func (d *door) listRetirements(ctx context.Context, in *retirementList) (*listed[Retirement], error) {
	list := "retirements " + in.Campaign
	f := provisioning.RetirementFilter{Limit: in.Limit + 1, Campaign: in.Campaign, Pending: in.Pending}
	var err error
	if f.After, err = in.afterID(d.Engine, list); err != nil {
		return nil, err
	}
	rows, err := d.Engine.Retirements(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list, func(r provisioning.Retirement) string { return r.ID.String() }, retirementOf)
}

func (d *door) getRetirement(ctx context.Context, in *EntryID) (*found[Retirement], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	r, err := d.Engine.Retirement(ctx, id)
	if err != nil {
		return nil, err
	}
	body, err := retirementOf(r)
	return &found[Retirement]{Body: body}, err
}

func (d *door) campaignPlan(ctx context.Context, in *CampaignName) (*found[planned], error) {
	rows, err := d.Engine.CampaignPlan(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	out := planned{Items: []plannedRow{}}
	for _, r := range rows {
		of := endingOf(provisioning.RetirePlan{Entry: r.Entry, HubPlace: provisioning.HubPlace{Hub: r.Hub}, Certificates: r.Certificates, Open: r.Open})
		out.Items = append(out.Items, plannedRow{Ending: of, Devices: r.Devices})
	}
	return &found[planned]{Body: out}, nil
}
