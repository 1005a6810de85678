package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// groupCmd is `muster group`: entries for all devices that one CA or key vouches for.
type groupCmd struct {
	connection
	List      entryListCmd    `cmd:"" help:"List enrollment groups."`
	Show      entryShowCmd    `cmd:"" help:"Show one."`
	Create    groupCreateCmd  `cmd:"" help:"Make one."`
	Update    groupUpdateCmd  `cmd:"" help:"Change one."`
	Enable    entryEnableCmd  `cmd:"" help:"Admit its devices again."`
	Disable   entryDisableCmd `cmd:"" help:"Refuse its devices from now on."`
	Delete    entryDeleteCmd  `cmd:"" help:"Delete one; a group above may admit its devices then."`
	Members   groupMembersCmd `cmd:"" help:"List the devices a group has admitted."`
	DeriveKey groupDeriveCmd  `cmd:"" help:"Print the keys of one device of a symmetric-key group; that is put on record."`
	Except    groupExceptCmd  `cmd:"" help:"Shut one device out of its group, by a disabled enrollment of its own."`

	EndorsementKeys groupEKCmd `cmd:"" help:"The list of TPMs that a group admits."`

	slotCmds
	Stragglers groupStragglersCmd `cmd:"" help:"List the devices that hang on a slot."`
	Keys       entryKeysCmd       `cmd:"" help:"Show where the symmetric keys stand in their roll, and how many devices hang on each."`
	Regenerate entryRegenerateCmd `cmd:"" help:"Put a new symmetric key into a slot; the former one is refused at once."`
	Switch     entrySwitchCmd     `cmd:"" help:"Take the staged symmetric key for the one in use."`
}

// ProvideKind tells the shared commands that they are about groups.
func (groupCmd) ProvideKind() entryKind {
	return entryKind{resource: "groups", command: "muster group", noun: "group", table: table{
		{"ID", "enrollmentGroupId", false}, {"STATUS", "provisioningStatus", false}, {"ATTESTATION", "attestation.type", false},
		{"CA", "attestation.x509.caReferences.primary", false},
		{"EXPIRES", "attestation.x509.signingCertificates.primary.info.notAfterUtc", false},
		{"PROFILE", "credentialPolicyName", false}, {"HUBS", "iotHubs", false},
		{"SUBJECT", "attestation.x509.signingCertificates.primary.info.subjectName", true},
		{"THUMBPRINT", "attestation.x509.signingCertificates.primary.info.sha256Thumbprint", true},
		{"SECONDARY", "attestation.x509.signingCertificates.secondary.info.sha256Thumbprint", true},
		{"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	}}
}

// groupFlags are what a group is made of.
type groupFlags struct {
	entrySettings
	symmetricKeyFlags
	tpmGroupFlags
	SigningCertificate string   `type:"existingfile" placeholder:"FILE" help:"The CA certificate above the devices (primary)."`
	Secondary          string   `type:"existingfile" placeholder:"FILE" xor:"secondary" help:"The one that will follow it."`
	CAReference        []string `name:"ca-reference" placeholder:"NAME" help:"Verified trust anchor above the devices; a second one is the secondary."`
}

// attestation is nil when no flag names one.
func (f groupFlags) attestation() (map[string]any, error) {
	pair := slots{f.SigningCertificate, f.Secondary}
	kinds := 0
	for _, given := range []bool{f.symmetricKeyFlags.given(), pair.given(), len(f.CAReference) > 0, f.tpmGroupFlags.EndorsementKeys != "", f.tpmGroupFlags.certified()} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return nil, errors.New("give one of --signing-certificate, --ca-reference, --symmetric-key, --endorsement-keys and --tpm-ca")
	case len(f.CAReference) > 2:
		return nil, errors.New("a group has two slots: at most two --ca-reference")
	case f.symmetricKeyFlags.given():
		return f.symmetricKeyFlags.attestation()
	case f.tpmGroupFlags.given():
		return f.tpmGroupFlags.attestation()
	case pair.given():
		certs, err := pair.certificates()
		return x509Attestation("signingCertificates", certs), err
	case len(f.CAReference) > 0:
		refs := map[string]any{}
		for i, name := range f.CAReference {
			refs[[]string{"primary", "secondary"}[i]] = name
		}
		return x509Attestation("caReferences", refs), nil
	}
	return nil, nil
}

type groupCreateCmd struct {
	output
	groupFlags
	ID       string `arg:"" help:"Group id."`
	Disabled bool   `help:"Refuse devices until the group is enabled."`
}

// Run makes a group.
func (c *groupCreateCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	keys, err := c.listed()
	if err != nil {
		return err
	}
	err = k.create(ctx, s, api, c.output, c.ID, c.groupFlags, c.Disabled, "say what vouches for its devices: --signing-certificate FILE, --ca-reference NAME, --symmetric-key, --endorsement-keys FILE or --tpm-ca NAME")
	if err != nil || keys == nil {
		return err
	}
	return changeKeys(ctx, s, api, k, c.ID, "add", keys)
}

type groupUpdateCmd struct {
	output
	groupFlags
	ID              string `arg:"" help:"Group id."`
	RemoveSecondary bool   `xor:"secondary" help:"Empty the secondary slot."`
}

// Run changes a group.
func (c *groupUpdateCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	keys, err := c.listed()
	if err != nil {
		return err
	}
	if err := k.update(ctx, s, api, c.output, c.ID, c.groupFlags, c.RemoveSecondary); err != nil || keys == nil {
		return err
	}
	return changeKeys(ctx, s, api, k, c.ID, "add", keys)
}

type groupMembersCmd struct {
	listing
	ID string `arg:"" help:"Group id."`
}

// Run lists the registrations a group owns. That the group exists is asked first: an
// empty list of no group would be a lie.
func (c *groupMembersCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	if _, err := k.get(ctx, api, c.ID); err != nil {
		return err
	}
	return c.print(ctx, api, s, registrationTable, "registrations", filters("group", c.ID))
}

type groupDeriveCmd struct {
	output
	ID           string `arg:"" help:"Group id."`
	Registration string `arg:"" help:"Registration id, as the device spells it."`
}

var derivedTable = table{{"REGISTRATION", "registrationId", false}, {"PRIMARY", "primaryKey", false}, {"SECONDARY", "secondaryKey", false}}

// Run prints what one device proves itself with.
func (c *groupDeriveCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "deriveKey"}, body: map[string]any{"registrationId": c.Registration}, next: k.command + " list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, derivedTable, got.body)
}

type groupExceptCmd struct {
	output
	harm
	ID          string `arg:"" help:"Registration id of the device."`
	Certificate string `type:"existingfile" placeholder:"FILE" help:"The device's certificate; without it the enrollment has keys that nobody knows."`
}

// Run makes a disabled enrollment, which shadows every group for this device (scenarios
// I2, I3). It has to stay: deleting it admits the device again.
func (c *groupExceptCmd) Run(ctx context.Context, s streams, api *client) error {
	if err := c.confirmed(s, c.ID, fmt.Sprintf("device %s will be refused, whatever group it belongs to", c.ID)); err != nil {
		return err
	}
	attestation := map[string]any{"type": "symmetricKey"}
	if c.Certificate != "" {
		certs, err := slots{primary: c.Certificate}.certificates()
		if err != nil {
			return err
		}
		attestation = x509Attestation("clientCertificates", certs)
	}
	enroll := enrollCmd{}.ProvideKind()
	body := map[string]any{"attestation": attestation, "provisioningStatus": "disabled", "credentialPolicyName": nil}
	err := enroll.putNew(ctx, s, api, c.output, c.ID, body)
	if there := new(apiError); errors.As(err, &there) && there.fault.Rule == "exists" {
		there.next = "muster enroll disable " + c.ID // it shadows every group as it is
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "keep the enrollment: deleting it admits the device again; its hub keeps it, and certificates go on working: muster retire %s\n", c.ID)
	return nil
}
