package azure

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// Enrollment is an individual enrollment or an enrollment group (§4.1, §4.2), which differ in
// the name of their id. What the service sets itself is passed over in requests.
type Enrollment struct {
	RegistrationID    string             `json:"registrationId,omitempty"`
	GroupID           string             `json:"enrollmentGroupId,omitempty"`
	DeviceID          string             `json:"deviceId,omitempty"`
	RegistrationState *RegistrationState `json:"registrationState,omitempty"`
	Attestation       *Attestation       `json:"attestation,omitempty"`
	Capabilities      *Capabilities      `json:"capabilities,omitempty"`
	HubName           string             `json:"iotHubHostName,omitempty"` // of static allocation
	Hubs              []string           `json:"iotHubs,omitempty"`
	Allocation        string             `json:"allocationPolicy,omitempty"`
	Custom            *Webhook           `json:"customAllocationDefinition,omitempty"`
	Reprovision       *Reprovision       `json:"reprovisionPolicy,omitempty"`
	InitialTwin       json.RawMessage    `json:"initialTwin,omitempty"`
	OptionalInfo      json.RawMessage    `json:"optionalDeviceInformation,omitempty"`
	Status            string             `json:"provisioningStatus,omitempty"`
	Profile           string             `json:"credentialPolicyName,omitempty"`
	ETag              string             `json:"etag,omitempty"`
	Created           string             `json:"createdDateTimeUtc,omitempty"`
	LastUpdated       string             `json:"lastUpdatedDateTimeUtc,omitempty"`
}

// Webhook is who chooses a hub by custom allocation (§4.7).
type Webhook struct {
	URL        string `json:"webhookUrl"`
	APIVersion string `json:"apiVersion,omitempty"`
}

// Capabilities of an entry's devices on their hub.
type Capabilities struct {
	IoTEdge bool `json:"iotEdge"`
}

// Reprovision says what happens to a device that registers again (§6.5); absent is true.
type Reprovision struct {
	UpdateHubAssignment *bool `json:"updateHubAssignment,omitempty"`
	MigrateDeviceData   *bool `json:"migrateDeviceData,omitempty"`
}

func (r *Reprovision) policy() policies.ReprovisionPolicy {
	p := policies.DefaultReprovisionPolicy()
	if r == nil {
		return p
	}
	if r.UpdateHubAssignment != nil {
		p.UpdateHubAssignment = *r.UpdateHubAssignment
	}
	if r.MigrateDeviceData != nil {
		p.MigrateDeviceData = *r.MigrateDeviceData
	}
	return p
}

const (
	enabled  = "enabled"
	disabled = "disabled"
)

// Draft is the enrollment as the engine takes it, which checks what needs looking up. The id
// is that of the address; that the body says the same is for the door to check.
//
// Errors are Malformed with a pointer: those of [Attestation.Draft] and of
// [policies.ParseAllocationPolicy], "provisioning-status", "static-needs-one-hub".
func (e Enrollment) Draft(o provisioning.Owner, spelled string) (provisioning.Draft, error) {
	d := provisioning.Draft{
		Owner: o, Spelled: spelled, Enabled: e.Status != disabled,
		DeviceID: e.DeviceID, Hubs: e.Hubs, Reprovision: e.Reprovision.policy(),
		InitialTwin: given(e.InitialTwin), OptionalInfo: given(e.OptionalInfo), Profile: e.Profile,
		IoTEdge: e.Capabilities != nil && e.Capabilities.IoTEdge,
	}
	if e.Status != "" && e.Status != enabled && e.Status != disabled {
		return d, fault.New(fault.Malformed, "provisioning-status", "provisioningStatus is enabled or disabled").At("/provisioningStatus")
	}
	if e.Custom != nil {
		d.Custom = provisioning.CustomAllocation{URL: e.Custom.URL, APIVersion: e.Custom.APIVersion}
	}
	var err error
	if d.Allocation, err = policies.ParseAllocationPolicy(e.Allocation); err != nil {
		return d, fault.As(err).At("/allocationPolicy")
	}
	if err := e.pin(&d); err != nil {
		return d, err
	}
	if e.Attestation == nil {
		return d, fault.New(fault.Malformed, "attestation", "the attestation is missing").At("/attestation")
	}
	d.Attestation, err = e.Attestation.Draft()
	return d, err
}

// pin is iotHubHostName: static allocation to that hub, unless another policy is named, which
// then does not look at it (§6.7).
func (e Enrollment) pin(d *provisioning.Draft) error {
	if e.HubName == "" || e.Allocation != "" && d.Allocation != policies.Static {
		return nil
	}
	other := func(hub string) bool { return !strings.EqualFold(hub, e.HubName) }
	if slices.ContainsFunc(e.Hubs, other) {
		return fault.New(fault.Malformed, "static-needs-one-hub", "iotHubHostName is static allocation to that hub: iotHubs says otherwise").At("/iotHubHostName")
	}
	d.Allocation, d.Hubs = policies.Static, []string{e.HubName}
	return nil
}

// EnrollmentOf is an entry as it is answered, without secrets and without the state of its
// device.
func EnrollmentOf(en provisioning.Enrollment) (Enrollment, error) {
	a, err := AttestationOf(en)
	e := Enrollment{
		DeviceID: en.DeviceID, Attestation: &a, Capabilities: &Capabilities{IoTEdge: en.IoTEdge},
		Hubs: en.Hubs, Allocation: string(en.Allocation),
		Reprovision: &Reprovision{&en.Reprovision.UpdateHubAssignment, &en.Reprovision.MigrateDeviceData},
		InitialTwin: en.InitialTwin, OptionalInfo: en.OptionalInfo, Status: disabled, Profile: en.Profile,
		ETag: ETag(en.Version), Created: Stamp(en.Created), LastUpdated: Stamp(en.Updated),
	}
	if en.Enabled {
		e.Status = enabled
	}
	if en.Kind == provisioning.Group {
		e.GroupID = en.Spelled
	} else {
		e.RegistrationID = en.Spelled
	}
	if en.Custom.URL != "" {
		e.Custom = &Webhook{URL: en.Custom.URL, APIVersion: en.Custom.APIVersion}
	}
	if en.Allocation == policies.Static && len(en.Hubs) == 1 {
		e.HubName = en.Hubs[0]
	}
	return e, err
}
