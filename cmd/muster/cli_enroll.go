package main

import (
	"context"
	"errors"

	"github.com/passmuster/muster/internal/fault"
)

// enrollCmd is `muster enroll`: entries for single devices.
type enrollCmd struct {
	connection
	List    entryListCmd    `cmd:"" help:"List individual enrollments."`
	Show    entryShowCmd    `cmd:"" help:"Show one."`
	Create  enrollCreateCmd `cmd:"" help:"Make one."`
	Update  enrollUpdateCmd `cmd:"" help:"Change one."`
	Enable  entryEnableCmd  `cmd:"" help:"Admit the device again."`
	Disable entryDisableCmd `cmd:"" help:"Refuse the device from now on."`
	Delete  entryDeleteCmd  `cmd:"" help:"Delete one."`
	Import  importCmd       `cmd:"" help:"Make one for each line of a file; those that exist stay as they are."`
	Export  exportCmd       `cmd:"" help:"Print all as NDJSON, without keys and certificates."`

	slotCmds
	Keys       entryKeysCmd       `cmd:"" help:"Show where the symmetric keys stand in their roll, and how many devices hang on each."`
	Regenerate entryRegenerateCmd `cmd:"" help:"Put a new symmetric key into a slot; the former one is refused at once."`
	Switch     entrySwitchCmd     `cmd:"" help:"Take the staged symmetric key for the one in use."`

	Code       enrollCodeCmd       `cmd:"" help:"Make a one-time code by which a device enrolls over EST; it replaces the device's open one."`
	Codes      enrollCodesCmd      `cmd:"" help:"List one-time codes."`
	RevokeCode enrollRevokeCodeCmd `cmd:"" help:"Revoke a one-time code that was not used."`
}

// ProvideKind tells the shared commands that they are about enrollments.
func (enrollCmd) ProvideKind() entryKind {
	return entryKind{resource: "enrollments", command: "muster enroll", noun: "enrollment", table: table{
		{"ID", "registrationId", false}, {"STATUS", "provisioningStatus", false}, {"ATTESTATION", "attestation.type", false},
		{"EXPIRES", "attestation.x509.clientCertificates.primary.info.notAfterUtc", false},
		{"PROFILE", "credentialPolicyName", false}, {"HUBS", "iotHubs", false}, {"DEVICE", "deviceId", false},
		{"THUMBPRINT", "attestation.x509.clientCertificates.primary.info.sha256Thumbprint", true},
		{"SECONDARY", "attestation.x509.clientCertificates.secondary.info.sha256Thumbprint", true},
		{"ENDORSEMENT", "attestation.tpm.endorsementKey", true}, {"REGISTRATION", "registrationState.status", true}, {"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	}}
}

// enrollFlags are what an individual enrollment is made of.
type enrollFlags struct {
	entrySettings
	symmetricKeyFlags
	tpmFlags
	Certificate string `type:"existingfile" placeholder:"FILE" help:"The very certificate the device shows (primary)."`
	Secondary   string `type:"existingfile" placeholder:"FILE" xor:"secondary" help:"The one it will show next."`
	DeviceID    string `help:"Id on the hub (default: the registration id)."`
}

// attestation is nil when no flag names one.
func (f enrollFlags) attestation() (map[string]any, error) {
	pair := slots{f.Certificate, f.Secondary}
	ways := 0
	for _, given := range []bool{pair.given(), f.symmetricKeyFlags.given(), f.tpmFlags.given()} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return nil, errors.New("give one of certificates, --symmetric-key and --endorsement-key")
	case f.tpmFlags.given():
		return f.tpmFlags.attestation()
	case f.symmetricKeyFlags.given():
		return f.symmetricKeyFlags.attestation()
	case !pair.given():
		return nil, nil
	}
	certs, err := pair.certificates()
	return x509Attestation("clientCertificates", certs), err
}

func (f enrollFlags) body() (map[string]any, error) {
	body, err := f.entrySettings.body()
	if f.DeviceID != "" && err == nil {
		body["deviceId"] = f.DeviceID
	}
	return body, err
}

type enrollCreateCmd struct {
	output
	enrollFlags
	ID       string `arg:"" help:"Registration id."`
	Disabled bool   `help:"Refuse the device until it is enabled."`
}

// Run makes an enrollment.
func (c *enrollCreateCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	return k.create(ctx, s, api, c.output, c.ID, c.enrollFlags, c.Disabled, "say how the device proves itself: --certificate FILE, --symmetric-key or --endorsement-key FILE")
}

type enrollUpdateCmd struct {
	output
	enrollFlags
	ID              string `arg:"" help:"Registration id."`
	RemoveSecondary bool   `xor:"secondary" help:"Empty the secondary slot."`
}

// Run changes an enrollment.
func (c *enrollUpdateCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	return k.update(ctx, s, api, c.output, c.ID, c.enrollFlags, c.RemoveSecondary)
}

// usage makes a usage error of one about flags; faults keep their own kind.
func usage(err error) error {
	if fault.As(err) != nil {
		return err
	}
	return fault.New(fault.Malformed, "usage", "%v", err)
}
