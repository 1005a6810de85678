package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// azureObject is one object that the Azure CLI printed, read as loosely as it prints:
// absent and null are the same, and what is not known is passed over.
type azureObject struct {
	kind string
	name string
	azureFields
}

// Kinds of objects, in the order they are made.
const (
	kindHub        = "hub"
	kindAnchor     = "anchor"
	kindGroup      = "group"
	kindEnrollment = "enrollment"
)

func (o azureObject) order() int {
	return strings.Index("hub anchor group enrollment", o.kind)
}

// azureFields are the fields of all kinds: which are there tells the kind.
type azureFields struct {
	RegistrationID    string
	EnrollmentGroupID string
	Attestation       *struct {
		Type         string
		TPM          *struct{ EndorsementKey, StorageRootKey string }
		SymmetricKey *struct{ PrimaryKey, SecondaryKey string }
		X509         *struct {
			ClientCertificates  *azurePair
			SigningCertificates *azurePair
			CAReferences        *struct{ Primary, Secondary string }
		}
	}
	DeviceID           string
	IotHubHostName     string
	IotHubs            []string
	AllocationPolicy   string
	Custom             *struct{ WebhookURL, APIVersion string } `json:"customAllocationDefinition"`
	ReprovisionPolicy  *struct{ UpdateHubAssignment, MigrateDeviceData *bool }
	InitialTwin        *struct{ Tags, Properties json.RawMessage }
	ProvisioningStatus string
	Capabilities       *struct{ IotEdge bool }
	OptionalInfo       json.RawMessage `json:"optionalDeviceInformation"`

	Name                  string
	Location              string
	AllocationWeight      *int
	ApplyAllocationPolicy *bool
	ConnectionString      string
	Properties            *struct {
		Certificate string
		Thumbprint  string
		IsVerified  bool
	}
}

type azurePair struct{ Primary, Secondary *azureSlot }

type azureSlot struct {
	Certificate string
	Info        *struct{ SHA1Thumbprint, SHA256Thumbprint string }
}

// maxAzureFile is far above what a full provisioning service prints.
const maxAzureFile = 2 << 30

// readAzure reads a file of the Azure CLI: a list, a page of one, or one object.
func readAzure(file string) ([]azureObject, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxAzureFile {
		return nil, fault.New(fault.TooLarge, "import-format", "%s is too large", file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	objects, err := parseAzure(raw)
	if f := fault.As(err); f != nil {
		return nil, f.About(file)
	}
	return objects, err
}

func parseAzure(raw []byte) ([]azureObject, error) {
	raw = bytes.TrimPrefix(bytes.TrimSpace(raw), []byte("\ufeff")) // PowerShell begins with one
	var list []json.RawMessage
	var page struct{ Value []json.RawMessage }
	switch {
	case json.Unmarshal(raw, &list) == nil:
	case json.Unmarshal(raw, &page) == nil && page.Value != nil:
		list = page.Value
	case json.Valid(raw):
		list = []json.RawMessage{raw}
	default:
		return nil, fault.New(fault.Malformed, "import-format", "this is not JSON: let az print with --output json")
	}
	objects := make([]azureObject, 0, len(list))
	for i, text := range list {
		var o azureObject
		if err := json.Unmarshal(text, &o.azureFields); err != nil {
			return nil, fault.New(fault.Malformed, "import-format", "object %d is none that az iot dps prints: %v", i+1, err)
		}
		switch {
		case o.EnrollmentGroupID != "" && o.Attestation != nil:
			o.kind, o.name = kindGroup, o.EnrollmentGroupID
		case o.RegistrationID != "" && o.Attestation != nil:
			o.kind, o.name = kindEnrollment, o.RegistrationID
		case o.named() != "":
			o.kind, o.name = o.named(), o.Name
		default:
			return nil, fault.New(fault.Malformed, "import-format", "object %d is neither an enrollment, a group, a certificate nor a linked hub", i+1)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// named is the kind of an object that has only a name.
func (f azureFields) named() string {
	switch {
	case f.Name == "":
	case f.Properties != nil && (f.Properties.Thumbprint != "" || f.Properties.Certificate != ""):
		return kindAnchor
	case f.AllocationWeight != nil || f.ApplyAllocationPolicy != nil || f.ConnectionString != "":
		return kindHub
	}
	return ""
}

// translated is an object as the admin API takes it; note is what did not come along.
type translated struct {
	at   []string
	body map[string]any
	note string
}

func (o azureObject) translate(shelf shelf, profile string) (translated, error) {
	switch o.kind {
	case kindHub:
		return o.hub(), nil
	case kindAnchor:
		return o.anchor(shelf)
	case kindGroup:
		return o.entry("groups", shelf, profile)
	}
	return o.entry("enrollments", shelf, profile)
}

// hub is the linked hub by its name. Its devices will live in Muster's own registry.
func (o azureObject) hub() translated {
	body := map[string]any{}
	if o.Location != "" {
		body["location"] = o.Location
	}
	if o.AllocationWeight != nil {
		body["weight"] = *o.AllocationWeight
	}
	if o.ApplyAllocationPolicy != nil && !*o.ApplyAllocationPolicy {
		body["weight"] = 0 // only static and custom allocation lead there
	}
	return translated{[]string{"hubs", o.name}, body, "a built-in hub of that name: the hub in Azure is not told of devices"}
}

func (o azureObject) anchor(shelf shelf) (translated, error) {
	text := o.Properties.Certificate
	if text == "" {
		text = shelf[strings.ToUpper(o.Properties.Thumbprint)]
	}
	if text == "" {
		return translated{}, fault.New(fault.Malformed, "certificate-missing", "Azure did not show the certificate: put its file into the folder of --certificates")
	}
	note := "prove it: muster verify prove " + o.name + " --print-openssl"
	return translated{[]string{"anchors", o.name}, map[string]any{"name": o.name, "certificate": text}, note}, nil
}

// entry is an enrollment or group with everything that Azure showed of it.
func (o azureObject) entry(resource string, shelf shelf, profile string) (translated, error) {
	attestation, note, err := o.attestation(shelf)
	if err != nil {
		return translated{}, err
	}
	body := map[string]any{"attestation": attestation}
	set := func(name string, v any, given bool) {
		if given {
			body[name] = v
		}
	}
	static := o.AllocationPolicy == "" || o.AllocationPolicy == "static"
	set("allocationPolicy", o.AllocationPolicy, o.AllocationPolicy != "")
	set("iotHubs", o.IotHubs, len(o.IotHubs) > 0)
	set("iotHubHostName", o.IotHubHostName, o.IotHubHostName != "" && len(o.IotHubs) == 0 && static)
	set("deviceId", o.DeviceID, o.DeviceID != "" && resource == "enrollments")
	set("provisioningStatus", o.ProvisioningStatus, o.ProvisioningStatus != "")
	set("credentialPolicyName", profile, profile != "")
	set("optionalDeviceInformation", o.OptionalInfo, some(o.OptionalInfo) && resource == "enrollments")
	if c := o.Capabilities; c != nil {
		body["capabilities"] = map[string]any{"iotEdge": c.IotEdge}
	}
	if c := o.Custom; c != nil && c.WebhookURL != "" {
		webhook := map[string]any{"webhookUrl": c.WebhookURL}
		if c.APIVersion != "" {
			webhook["apiVersion"] = c.APIVersion
		}
		body["customAllocationDefinition"] = webhook
	}
	if r := o.ReprovisionPolicy; r != nil {
		policy := map[string]any{}
		for name, v := range map[string]*bool{"updateHubAssignment": r.UpdateHubAssignment, "migrateDeviceData": r.MigrateDeviceData} {
			if v != nil {
				policy[name] = *v
			}
		}
		body["reprovisionPolicy"] = policy
	}
	if twin := o.twin(); len(twin) > 0 {
		body["initialTwin"] = twin
	}
	return translated{[]string{resource, o.name}, body, note}, nil
}

// attestation is how the entry's devices prove themselves, with a note on a slot that
// could not be filled; an error when none could.
func (o azureObject) attestation(shelf shelf) (attestation map[string]any, note string, err error) {
	a := o.Attestation
	switch {
	case a.TPM != nil && a.TPM.EndorsementKey != "":
		keys := map[string]any{"endorsementKey": a.TPM.EndorsementKey}
		if a.TPM.StorageRootKey != "" {
			keys["storageRootKey"] = a.TPM.StorageRootKey
		}
		return map[string]any{"type": "tpm", "tpm": keys}, "", nil
	case a.Type == "tpm":
		return nil, "", errors.New("its endorsement key is not shown")
	case a.X509 == nil && (a.SymmetricKey == nil || a.SymmetricKey.PrimaryKey == ""):
		noun := "enrollment"
		if o.kind == kindGroup {
			noun = "enrollment-group"
		}
		return nil, "", errors.New("Azure did not show its keys: let az iot dps " + noun + " show --show-keys print them, and import that")
	case a.X509 == nil:
		keys := map[string]any{"primaryKey": a.SymmetricKey.PrimaryKey}
		if a.SymmetricKey.SecondaryKey != "" {
			keys["secondaryKey"] = a.SymmetricKey.SecondaryKey
		}
		return map[string]any{"type": "symmetricKey", "symmetricKey": keys}, "", nil
	case a.X509.ClientCertificates != nil:
		return a.X509.ClientCertificates.attestation("clientCertificates", shelf)
	case a.X509.SigningCertificates != nil:
		return a.X509.SigningCertificates.attestation("signingCertificates", shelf)
	case a.X509.CAReferences != nil:
		refs := map[string]any{}
		for slot, name := range map[string]string{"primary": a.X509.CAReferences.Primary, "secondary": a.X509.CAReferences.Secondary} {
			if name != "" {
				refs[slot] = name
			}
		}
		return x509Attestation("caReferences", refs), "", nil
	}
	return nil, "", errors.New("it says not what its devices attest with")
}

func (p azurePair) attestation(member string, shelf shelf) (attestation map[string]any, note string, err error) {
	pair := map[string]any{}
	missing := ""
	for _, slot := range []struct {
		name string
		*azureSlot
	}{{"primary", p.Primary}, {"secondary", p.Secondary}} {
		if slot.azureSlot == nil || slot.Certificate == "" && slot.Info == nil {
			continue
		}
		text := slot.Certificate
		if text == "" {
			text = shelf[strings.ToUpper(slot.Info.SHA256Thumbprint)]
		}
		if text == "" {
			missing = slot.name + " certificate " + strings.ToLower(slot.Info.SHA256Thumbprint)
			continue
		}
		pair[slot.name] = map[string]any{"certificate": text}
	}
	switch {
	case len(pair) == 0 && missing == "":
		return nil, "", errors.New("it has no certificate")
	case len(pair) == 0:
		return nil, "", errors.New("Azure shows certificates only by thumbprint: put the file of the " + missing + " into the folder of --certificates")
	case missing != "":
		note = "without the " + missing + ", which Azure did not show"
	}
	return x509Attestation(member, pair), note, nil
}

// twin is the initial twin without what Azure's clients add to its parts.
func (o azureObject) twin() map[string]any {
	out := map[string]any{}
	if o.InitialTwin == nil {
		return out
	}
	if tags := plainPart(o.InitialTwin.Tags); tags != nil {
		out["tags"] = tags
	}
	var properties struct{ Desired json.RawMessage }
	_ = json.Unmarshal(o.InitialTwin.Properties, &properties) // of another kind: there are none
	if desired := plainPart(properties.Desired); desired != nil {
		out["properties"] = map[string]any{"desired": desired}
	}
	return out
}

// plainPart is the tags or desired properties themselves; nil when there are none. Some
// versions of az print them inside "additionalProperties", beside members of their own.
func plainPart(raw json.RawMessage) map[string]any {
	part, err := decode(raw)
	if err != nil || part == nil {
		return nil
	}
	if inner, ok := part["additionalProperties"].(map[string]any); ok {
		part = inner
	}
	for name, v := range part {
		own := name == "count" || name == "metadata" || name == "version"
		if strings.HasPrefix(name, "$") || own && v == nil {
			delete(part, name)
		}
	}
	if len(part) == 0 {
		return nil
	}
	return part
}

// some says that JSON is there and not null.
func some(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
