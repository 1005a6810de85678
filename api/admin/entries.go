package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// EntrySettings is what enrollments and groups have in common (contract §4.1, §4.2).
type EntrySettings struct {
	Attestation          attestation     `json:"attestation"`
	ProvisioningStatus   string          `json:"provisioningStatus,omitempty" enum:"enabled,disabled" doc:"enabled unless given."`
	AllocationPolicy     string          `json:"allocationPolicy,omitempty" doc:"hashed (unless given), static, geoLatency or custom." example:"hashed"`
	IotHubHostName       string          `json:"iotHubHostName,omitempty" writeOnly:"true" doc:"Short for static allocation to this hub."`
	IotHubs              []string        `json:"iotHubs,omitempty" nullable:"false" doc:"Linked hubs that narrow the choice."`
	CustomAllocation     *webhook        `json:"customAllocationDefinition,omitempty" doc:"Who is asked for a hub by custom allocation."`
	ReprovisionPolicy    *reprovision    `json:"reprovisionPolicy,omitempty"`
	InitialTwin          json.RawMessage `json:"initialTwin,omitempty" doc:"{tags, properties: {desired}}; at most 8 KB of desired properties."`
	CredentialPolicyName string          `json:"credentialPolicyName,omitempty" doc:"The profile by which certificates are issued; none are without."`
	Capabilities         *capabilities   `json:"capabilities,omitempty"`
	Slots                []SlotRoll      `json:"slots,omitempty" nullable:"false" readOnly:"true" doc:"Where the credentials stand in their roll."`
	Etag                 string          `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc   *time.Time      `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime  *time.Time      `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
	Warnings             []string        `json:"warnings,omitempty" nullable:"false" readOnly:"true" doc:"In the answer of a write: what may surprise."`
}

type reprovision struct {
	UpdateHubAssignment *bool `json:"updateHubAssignment,omitempty" doc:"true unless given."`
	MigrateDeviceData   *bool `json:"migrateDeviceData,omitempty" doc:"true unless given."`
}

type webhook struct {
	WebhookURL string `json:"webhookUrl" doc:"An https address. Whoever may read the entry sees all of it." example:"https://alloc.example.net/pick"`
	APIVersion string `json:"apiVersion,omitempty" doc:"The version of Azure's API that the webhook was written for." example:"2021-10-01"`
}

type capabilities struct {
	IotEdge bool `json:"iotEdge"`
}

// draft is the settings as the engine takes them.
func (s EntrySettings) draft(o provisioning.Owner, spelled string) (provisioning.Draft, error) {
	if s.IotHubHostName != "" && s.AllocationPolicy != "" && s.AllocationPolicy != string(policies.Static) {
		return provisioning.Draft{}, fault.New(fault.Malformed, "static-needs-one-hub", "iotHubHostName is static allocation to that hub: allocationPolicy says otherwise").At("/iotHubHostName")
	}
	return s.enrollment().Draft(o, spelled)
}

// enrollment is the settings in Azure's words, which say the same (contract §4.1).
func (s EntrySettings) enrollment() azure.Enrollment {
	a := s.Attestation.shared()
	e := azure.Enrollment{
		Attestation: &a, Status: s.ProvisioningStatus, Allocation: s.AllocationPolicy, HubName: s.IotHubHostName, Hubs: s.IotHubs,
		InitialTwin: s.InitialTwin, Profile: s.CredentialPolicyName,
	}
	if w := s.CustomAllocation; w != nil {
		e.Custom = &azure.Webhook{URL: w.WebhookURL, APIVersion: w.APIVersion}
	}
	if r := s.ReprovisionPolicy; r != nil {
		e.Reprovision = &azure.Reprovision{UpdateHubAssignment: r.UpdateHubAssignment, MigrateDeviceData: r.MigrateDeviceData}
	}
	if c := s.Capabilities; c != nil {
		e.Capabilities = &azure.Capabilities{IoTEdge: c.IotEdge}
	}
	return e
}

func settingsOf(e provisioning.Enrollment, warnings []string) (EntrySettings, error) {
	status := "disabled"
	if e.Enabled {
		status = "enabled"
	}
	a, err := attestationOf(e)
	var custom *webhook
	if e.Custom.URL != "" {
		custom = &webhook{WebhookURL: e.Custom.URL, APIVersion: e.Custom.APIVersion}
	}
	return EntrySettings{
		Attestation: a, ProvisioningStatus: status, AllocationPolicy: string(e.Allocation), IotHubs: e.Hubs, CustomAllocation: custom,
		ReprovisionPolicy:    &reprovision{&e.Reprovision.UpdateHubAssignment, &e.Reprovision.MigrateDeviceData},
		InitialTwin:          e.InitialTwin,
		CredentialPolicyName: e.Profile,
		Capabilities:         &capabilities{IotEdge: e.IoTEdge},
		Slots:                rollsOf(e),
		Etag:                 etag(e.Version), CreatedDateTimeUtc: instant(e.Created), LastUpdatedDateTime: instant(e.Updated),
		Warnings: warnings,
	}, err
}

// EntryID is the id in a path.
type EntryID struct {
	ID string `path:"id" maxLength:"128" doc:"Letters, digits and - . _ : in any case."`
}

type (
	entryAct struct {
		EntryID
		Conditions
	}
	entryPut[T any] struct {
		EntryID
		Conditions
		Body T
	}
	entryPatch struct {
		EntryID
		Conditions
		Body mergePatch `contentType:"application/merge-patch+json"`
	}
)

// entries is the routes of enrollments or of groups: T is the resource as JSON.
type entries[T any] struct {
	*door
	kind  provisioning.Kind
	path  string // "/enrollments"
	noun  string // "enrollment"
	draft func(body T, o provisioning.Owner, spelled string) (provisioning.Draft, error)
	view  func(e provisioning.Enrollment, warnings []string) (T, error)
	// more completes what one GET answers with; it may be nil.
	more func(ctx context.Context, o provisioning.Owner, body *T) error
}

func addEntries[T any](r entries[T]) {
	one, tag := r.path+"/{id}", r.path[1:]
	add(r.door, route{"get-" + r.noun, http.MethodGet, one, policies.ScopeRead, tag, "Read one", false}, r.get)
	add(r.door, route{"put-" + r.noun, http.MethodPut, one, policies.ScopeEnroll, tag, "Create or replace one; keys and certificates that are described and not sent stay", true}, r.put)
	add(r.door, route{"patch-" + r.noun, http.MethodPatch, one, policies.ScopeEnroll, tag, "Change one", false}, r.patch)
	add(r.door, route{"delete-" + r.noun, http.MethodDelete, one, policies.ScopeEnroll, tag, "Delete one; its registrations stay, without an owner", false}, r.delete)
	add(r.door, route{"preview-delete-" + r.noun, http.MethodGet, one + "/leaving", policies.ScopeRead, tag, "Say what deleting one would leave open: a deletion refuses nobody by itself", false}, r.leaving)
	add(r.door, route{"enable-" + r.noun, http.MethodPost, one + "/enable", policies.ScopeEnroll, tag, "Admit devices again", false}, r.enable)
	add(r.door, route{"disable-" + r.noun, http.MethodPost, one + "/disable", policies.ScopeEnroll, tag, "Refuse devices from now on", false}, r.disable)
	add(r.door, route{"get-" + r.noun + "-attestation", http.MethodPost, one + "/attestationmechanism", policies.ScopeSecurity, tag, "Read the attestation with its keys; that is put on record", false}, r.mechanism)
	addSlots(r)
	addKeys(r)
}

func (r entries[T]) owner(id string) (provisioning.Owner, error) {
	parsed, err := verify.ParseRegistrationID(id)
	return provisioning.Owner{Kind: r.kind, ID: parsed}, err
}

func (r entries[T]) get(ctx context.Context, in *EntryID) (*found[T], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	out, _, err := r.read(ctx, o)
	if err == nil && r.more != nil {
		err = r.more(ctx, o, &out.Body)
	}
	return out, err
}

func (r entries[T]) read(ctx context.Context, o provisioning.Owner) (*found[T], provisioning.Enrollment, error) {
	e, err := r.Engine.Enrollment(ctx, o)
	if err != nil {
		return nil, e, err
	}
	body, err := r.view(e, nil)
	return &found[T]{ETag: etag(e.Version), Body: body}, e, err
}

func (r entries[T]) put(ctx context.Context, in *entryPut[T]) (*written[T], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return r.write(ctx, o, in.ID, in.Body, pre)
}

func (r entries[T]) write(ctx context.Context, o provisioning.Owner, spelled string, body T, pre provisioning.Precondition) (*written[T], error) {
	draft, err := r.draft(body, o, spelled)
	if err != nil {
		return nil, pointed(err)
	}
	e, warnings, err := r.Engine.Put(ctx, actor(ctx), draft, pre)
	if err != nil {
		return nil, pointed(err)
	}
	out := &written[T]{Status: http.StatusOK, ETag: etag(e.Version)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+r.path+"/"+e.Spelled
	}
	out.Body, err = r.view(e, warnings)
	return out, err
}

func (r entries[T]) patch(ctx context.Context, in *entryPatch) (*found[T], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	current, e, err := r.read(ctx, o)
	if err != nil {
		return nil, err
	}
	if pre, err = over(pre, e.Version); err != nil {
		return nil, err
	}
	next, err := patched(r.door, current.Body, in.Body)
	if err != nil {
		return nil, err
	}
	out, err := r.write(ctx, o, e.Spelled, next, pre)
	if err != nil {
		return nil, err
	}
	return &found[T]{ETag: out.ETag, Body: out.Body}, nil
}

func (r entries[T]) delete(ctx context.Context, in *entryAct) (*done, error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, r.Engine.Delete(ctx, actor(ctx), o, pre)
}

// Leaving is what the deletion of an entry leaves open.
type Leaving struct {
	Registrations int64        `json:"registrations" doc:"Records that lose their owner. Their devices stay on their hubs."`
	Hubs          []HubDevices `json:"hubs" nullable:"false" doc:"Those by hub."`
	WouldEnter    []entryRef   `json:"wouldEnter" nullable:"false" doc:"Enabled groups by which its devices would come in then."`
}

func (r entries[T]) leaving(ctx context.Context, in *EntryID) (*found[Leaving], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	l, err := r.Engine.Leaving(ctx, o)
	if err != nil {
		return nil, err
	}
	out := Leaving{Registrations: l.Registrations(), Hubs: []HubDevices{}, WouldEnter: []entryRef{}}
	for _, h := range l.Hubs {
		out.Hubs = append(out.Hubs, HubDevices{h.Hub, h.Devices})
	}
	for _, g := range l.WouldEnter {
		out.WouldEnter = append(out.WouldEnter, *ownerOf(g))
	}
	return &found[Leaving]{Body: out}, nil
}

func (r entries[T]) enable(ctx context.Context, in *entryAct) (*found[T], error) {
	return r.setEnabled(ctx, in, true)
}

func (r entries[T]) disable(ctx context.Context, in *entryAct) (*found[T], error) {
	return r.setEnabled(ctx, in, false)
}

func (r entries[T]) setEnabled(ctx context.Context, in *entryAct, enabled bool) (*found[T], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	e, err := r.Engine.SetEnabled(ctx, actor(ctx), o, enabled, pre)
	if err != nil {
		return nil, err
	}
	body, err := r.view(e, nil)
	return &found[T]{ETag: etag(e.Version), Body: body}, err
}

// mechanism answers with secrets where there are any, and only then is it on record.
func (r entries[T]) mechanism(ctx context.Context, in *EntryID) (*found[attestation], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	e, err := r.Engine.Enrollment(ctx, o)
	if err != nil {
		return nil, err
	}
	a, err := attestationOf(e)
	if err != nil {
		return nil, err
	}
	if e.Role() == provisioning.RoleKey {
		keys, err := r.Engine.Keys(ctx, actor(ctx), o)
		if err != nil {
			return nil, err
		}
		a.SymmetricKey = keysOf(keys)
	}
	return &found[attestation]{ETag: etag(e.Version), Body: a}, nil
}

// EntryList are the filters that both lists have.
type EntryList struct {
	Paging
	Q      string `query:"q" pattern:"^[A-Za-z0-9._:-]{1,128}$" patternDescription:"the beginning of an id" doc:"Ids that begin like this."`
	Status string `query:"status" enum:"enabled,disabled"`
}

func (r entries[T]) list(ctx context.Context, in EntryList, role provisioning.Role) (*listed[T], error) {
	f := provisioning.EnrollmentFilter{Kind: r.kind, Limit: in.Limit + 1, Prefix: strings.ToLower(in.Q), Role: role}
	var err error
	if f.After, err = in.afterID(r.Engine, r.path); err != nil {
		return nil, err
	}
	if in.Status != "" {
		enabled := in.Status == "enabled"
		f.Enabled = &enabled
	}
	rows, err := r.Engine.Enrollments(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(r.Engine, rows, in.Limit, r.path,
		func(e provisioning.Enrollment) string { return e.ID.String() },
		func(e provisioning.Enrollment) (T, error) { return r.view(e, nil) })
}
