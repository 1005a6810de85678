package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// RegistrationState is the record of contract §4.4.
type RegistrationState struct {
	RegistrationID      string          `json:"registrationId,omitempty"`
	Status              string          `json:"status,omitempty" enum:"unassigned,assigning,assigned,failed"`
	Substatus           string          `json:"substatus,omitempty"`
	AssignedHub         string          `json:"assignedHub,omitempty"`
	DeviceID            string          `json:"deviceId,omitempty"`
	ErrorCode           int             `json:"errorCode,omitempty"`
	ErrorMessage        string          `json:"errorMessage,omitempty"`
	Payload             json.RawMessage `json:"payload,omitempty" doc:"What the device sent last."`
	Etag                string          `json:"etag,omitempty"`
	CreatedDateTimeUtc  *time.Time      `json:"createdDateTimeUtc,omitempty"`
	LastUpdatedDateTime *time.Time      `json:"lastUpdatedDateTimeUtc,omitempty"`
}

func stateOf(r provisioning.Registration) RegistrationState {
	return RegistrationState{
		RegistrationID: r.Spelled, Status: string(r.State), Substatus: r.Substatus, AssignedHub: r.Hub, DeviceID: r.DeviceID,
		ErrorCode: r.ErrorCode, ErrorMessage: r.ErrorMessage, Payload: r.Payload,
		Etag: etag(r.Version), CreatedDateTimeUtc: instant(r.Created), LastUpdatedDateTime: instant(r.Updated),
	}
}

// registration is all that is on record of one device.
type registration struct {
	RegistrationState
	Owner       *entryRef       `json:"owner,omitempty" doc:"The entry that admitted the device; absent once that was deleted."`
	Mechanism   string          `json:"mechanism,omitempty" enum:"x509,symmetricKey,code"`
	AttestedBy  string          `json:"attestedBy,omitempty" doc:"SHA-256 of the outside leaf that attested the device last."`
	Operation   *operationRef   `json:"operation,omitempty" doc:"The last one."`
	Certificate *certificateRef `json:"certificate,omitempty" doc:"The last one issued to the device."`
	Pair        []cell          `json:"pair" nullable:"false" doc:"The slots in use of the device's issued certificates."`
	HeldAt      *time.Time      `json:"heldAt,omitempty" doc:"Since when the device is refused everywhere, until it is released; absent: it is not held."`
	Quarantined *time.Time      `json:"quarantinedAt,omitempty" doc:"Since when the device lives where an operator has it, until that is ended; absent: it is not in quarantine."`
	DueAt       *time.Time      `json:"dueAt,omitempty" doc:"When the planner looks at the pair next; absent: never."`
	Roll        *rollState      `json:"roll,omitempty" doc:"What the planner did about the certificate in use; in GET of one."`
	Renewal     *renewalWindow  `json:"renewal,omitempty" doc:"When the device is advised to ask for its next certificate; in GET of one."`
	Twin        *twin           `json:"twin,omitempty" doc:"On the built-in hub; in GET of one."`
}

type entryRef struct {
	Kind string `json:"kind" enum:"individual,group"`
	ID   string `json:"id"`
}

type operationRef struct {
	ID string     `json:"id"`
	At *time.Time `json:"at"`
}

type certificateRef struct {
	Issuer string `json:"issuer"`
	Serial string `json:"serial"`
}

type cell struct {
	Slot       string     `json:"slot" enum:"primary,secondary"`
	State      string     `json:"state" enum:"staged,active,retiring"`
	Thumbprint string     `json:"thumbprint" doc:"SHA-256."`
	NotBefore  *time.Time `json:"notBefore"`
	NotAfter   *time.Time `json:"notAfter"`
	SeenAt     *time.Time `json:"seenAt,omitempty" doc:"First used to attest."`
	RetireAt   *time.Time `json:"retireAt,omitempty" doc:"Until when a retiring one stands."`
}

// rollState is where the roll of a certificate stands.
type rollState struct {
	Thumbprint string     `json:"thumbprint" doc:"SHA-256 of the certificate."`
	ToldAt     *time.Time `json:"toldAt,omitempty" doc:"When the device was told that a successor is due."`
	Stuck      string     `json:"stuck,omitempty" doc:"The rule word of why the roll does not go on."`
	Since      *time.Time `json:"since,omitempty" doc:"Stuck for this reason."`
}

func rollOf(r *provisioning.Roll) *rollState {
	if r == nil {
		return nil
	}
	return &rollState{Thumbprint: verify.Thumbprint(r.Ref).String(), ToldAt: instant(r.ToldAt), Stuck: r.Stuck, Since: instant(r.Since)}
}

type twin struct {
	Tags       json.RawMessage `json:"tags"`
	Properties twinProperties  `json:"properties"`
	Updated    *time.Time      `json:"lastUpdatedDateTimeUtc"`
}

type twinProperties struct {
	Desired json.RawMessage `json:"desired"`
}

func registrationOf(r provisioning.Registration) (registration, error) {
	out := registration{
		RegistrationState: stateOf(r),
		Owner:             ownerOf(r.Owner), Mechanism: string(r.Mechanism), Pair: cellsOf(r.Pair), DueAt: instant(r.DueAt), HeldAt: instant(r.HeldAt), Quarantined: instant(r.QuarantinedAt),
	}
	if !r.Leaf.IsZero() {
		out.AttestedBy = r.Leaf.String()
	}
	if r.Operation.ID != "" {
		out.Operation = &operationRef{ID: r.Operation.ID, At: instant(r.Operation.At)}
	}
	if r.Certificate != (provisioning.CertificateRef{}) {
		out.Certificate = &certificateRef{Issuer: string(r.Certificate.Issuer), Serial: string(r.Certificate.Serial)}
	}
	return out, nil
}

func ownerOf(o provisioning.Owner) *entryRef {
	if o.IsZero() {
		return nil
	}
	return &entryRef{Kind: o.Kind.String(), ID: o.ID.String()}
}

func cellsOf(p rotation.Pair) []cell {
	cells := []cell{}
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		c := p.Cell(slot)
		if c.State == rotation.Empty {
			continue
		}
		cells = append(cells, cell{
			Slot: slot.String(), State: c.State.String(), Thumbprint: verify.Thumbprint(c.Ref).String(),
			NotBefore: instant(c.NotBefore), NotAfter: instant(c.NotAfter), SeenAt: instant(c.SeenAt), RetireAt: instant(c.RetireAt),
		})
	}
	return cells
}

type registrationList struct {
	Paging
	Q        string `query:"q" pattern:"^[A-Za-z0-9._:-]{1,128}$" patternDescription:"the beginning of an id" doc:"Ids that begin like this."`
	Status   string `query:"status" enum:"unassigned,assigning,assigned,failed"`
	Hub      string `query:"hub" maxLength:"253" doc:"Devices on this hub."`
	Group    string `query:"group" maxLength:"128" doc:"Devices that this group admitted."`
	Orphaned bool   `query:"orphaned" doc:"Without an owner: the entry that admitted the device was deleted."`
	Held     bool   `query:"held" doc:"Refused everywhere until they are released."`
}

type registrationDelete struct {
	EntryID
	Conditions
	FromHub bool `query:"fromHub" doc:"Remove the device from the built-in hub, too. A hub that lives elsewhere is told to remove it anyway."`
}

func (d *door) addRegistrations() {
	const tag = "registrations"
	add(d, route{"list-registrations", http.MethodGet, "/registrations", policies.ScopeRead, tag, "List registrations", false}, d.listRegistrations)
	add(d, route{"get-registration", http.MethodGet, "/registrations/{id}", policies.ScopeRead, tag, "Read a registration, with its twin", false}, d.getRegistration)
	add(d, route{"delete-registration", http.MethodDelete, "/registrations/{id}", policies.ScopeEnroll, tag, "Delete a registration's record; a hub that lives elsewhere is told to remove the device", false}, d.deleteRegistration)
}

func (d *door) listRegistrations(ctx context.Context, in *registrationList) (*listed[registration], error) {
	f := provisioning.RegistrationFilter{Limit: in.Limit + 1, Prefix: strings.ToLower(in.Q), State: provisioning.State(in.Status), Hub: strings.ToLower(in.Hub), Orphaned: in.Orphaned, Held: in.Held}
	var err error
	if f.After, err = in.afterID(d.Engine, "registrations"); err != nil {
		return nil, err
	}
	if in.Group != "" {
		f.Owner.Kind = provisioning.Group
		if f.Owner.ID, err = verify.ParseRegistrationID(in.Group); err != nil {
			return nil, err
		}
	}
	rows, err := d.Engine.Registrations(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "registrations", func(r provisioning.Registration) string { return r.ID.String() }, registrationOf)
}

func (d *door) getRegistration(ctx context.Context, in *EntryID) (*found[registration], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	device, err := d.Engine.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	body, err := registrationOf(device.Registration)
	body.Roll = rollOf(device.Roll)
	body.Renewal = renewalWindowOf(device.Renewal)
	if t := device.Twin; t != nil {
		body.Twin = &twin{Tags: t.Tags, Properties: twinProperties{Desired: t.Desired}, Updated: instant(t.Updated)}
	}
	return &found[registration]{ETag: etag(device.Version), Body: body}, err
}

func (d *door) deleteRegistration(ctx context.Context, in *registrationDelete) (*done, error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	remove := d.Engine.DeleteRegistration
	if in.FromHub {
		remove = d.Engine.Deregister
	}
	return &done{}, remove(ctx, actor(ctx), id, pre)
}
