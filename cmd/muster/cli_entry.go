package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// entryKind is what the commands for enrollments and for groups differ in; each noun
// provides its own.
type entryKind struct {
	resource string // "enrollments"
	command  string // "muster enroll"
	noun     string // "enrollment"
	table    table
}

func (k entryKind) get(ctx context.Context, api *client, id string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{k.resource, id}, next: k.command + " list"})
}

// tell prints what a write answered, and on the side what may surprise.
func (k entryKind) tell(s streams, o output, a answer) error {
	var notes struct{ Warnings []string }
	if err := json.Unmarshal(a.body, &notes); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	for _, w := range notes.Warnings {
		fmt.Fprintf(s.Err, "warning: %s\n", printable(w))
	}
	return o.one(s.Out, k.table, a.body)
}

type entryListCmd struct {
	listing
	Q         string `help:"Ids that begin like this."`
	Status    string `enum:",enabled,disabled" default:"" help:"enabled or disabled."`
	Mechanism string `placeholder:"KIND" help:"x509, symmetricKey or tpm; for groups signingCertificates, caReferences, symmetricKey, tpmList or tpmManufacturers."`
}

// Run lists entries.
func (c *entryListCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	return c.print(ctx, api, s, k.table, k.resource, filters("q", c.Q, "status", c.Status, "mechanism", c.Mechanism))
}

type entryShowCmd struct {
	output
	ID   string `arg:"" help:"Its id."`
	Keys bool   `help:"Show the attestation with its symmetric keys instead; that is put on record."`
}

var attestationTable = table{{"TYPE", "type", false}, {"PRIMARY", "symmetricKey.primaryKey", false}, {"SECONDARY", "symmetricKey.secondaryKey", false}}

// Run shows one entry.
func (c *entryShowCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	if c.Keys {
		got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "attestationmechanism"}, next: k.command + " list"})
		if err != nil {
			return err
		}
		return c.one(s.Out, attestationTable, got.body)
	}
	got, err := k.get(ctx, api, c.ID)
	if err != nil {
		return err
	}
	return c.one(s.Out, k.table, got.body)
}

type entryEnableCmd struct {
	output
	ID string `arg:"" help:"Its id."`
}

// Run admits devices again.
func (c *entryEnableCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "enable"}, next: k.command + " list"})
	if err != nil {
		return err
	}
	return k.tell(s, c.output, got)
}

// goesOn is what neither disabling nor deleting an entry does (scenario J1).
const goesOn = "certificates already issued go on working: muster ca certs, muster ca revoke SERIAL"

type entryDisableCmd struct {
	output
	harm
	ID string `arg:"" help:"Its id."`
}

// Run refuses devices from now on.
func (c *entryDisableCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := k.get(ctx, api, c.ID)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.ID, fmt.Sprintf("%s %s will admit no device", k.noun, c.ID)); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "disable"}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintln(s.Err, goesOn)
	return k.tell(s, c.output, got)
}

type entryDeleteCmd struct {
	harm
	ID string `arg:"" help:"Its id."`
}

// Run deletes an entry. Its registrations stay, without an owner.
func (c *entryDeleteCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := k.get(ctx, api, c.ID)
	if err != nil {
		return err
	}
	leaves, err := k.leaves(ctx, api, c.ID)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.ID, fmt.Sprintf("%s %s will be deleted; %s", k.noun, c.ID, leaves)); err != nil {
		return err
	}
	if _, err = api.do(ctx, call{method: http.MethodDelete, at: []string{k.resource, c.ID}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "%s %s deleted; %s; %s\n", k.noun, c.ID, leaves, goesOn)
	return nil
}

// leaves says what a deletion leaves open.
func (k entryKind) leaves(ctx context.Context, api *client, id string) (string, error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{k.resource, id, "leaving"}})
	if err != nil {
		return "", err
	}
	var l struct {
		Registrations int64
		WouldEnter    []struct{ ID string }
	}
	if err := json.Unmarshal(got.body, &l); err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	text := "no group above admits its devices then"
	if len(l.WouldEnter) > 0 {
		text = "its devices come in by a group above then:"
		for _, g := range l.WouldEnter {
			text += " " + g.ID
		}
	}
	if l.Registrations > 0 {
		text = fmt.Sprintf("%d registrations stay without an owner; %s", l.Registrations, text)
	}
	return text, nil
}

// entrySettings are the flags of create and update that enrollments and groups share;
// what is not given is not sent.
type entrySettings struct {
	Hub         []string `placeholder:"NAME" help:"Linked hubs that narrow the choice. Repeatable."`
	Profile     *string  `help:"Profile by which certificates are issued; an empty one issues none (create: default)."`
	Twin        string   `type:"existingfile" placeholder:"FILE" help:"Initial twin, JSON."`
	Allocation  string   `enum:",hashed,static,geoLatency,custom" default:"" help:"hashed, static, geoLatency or custom."`
	Webhook     string   `placeholder:"URL" help:"Who is asked for a hub by custom allocation, over https."`
	Reprovision string   `enum:",migrate,reset,never" default:"" help:"migrate, reset or never: what happens to a device that registers again."`
}

func (e entrySettings) body() (map[string]any, error) {
	body := map[string]any{}
	if len(e.Hub) > 0 {
		body["iotHubs"] = e.Hub
	}
	if e.Profile != nil {
		body["credentialPolicyName"] = orNull(*e.Profile)
	}
	if e.Allocation != "" {
		body["allocationPolicy"] = e.Allocation
	}
	if e.Webhook != "" {
		body["customAllocationDefinition"] = map[string]any{"webhookUrl": e.Webhook}
		if e.Allocation == "" {
			body["allocationPolicy"] = "custom"
		}
	}
	if e.Reprovision != "" {
		body["reprovisionPolicy"] = map[string]any{"updateHubAssignment": e.Reprovision != "never", "migrateDeviceData": e.Reprovision == "migrate"}
	}
	if e.Twin != "" {
		twin, err := readTwin(e.Twin)
		if err != nil {
			return nil, err
		}
		body["initialTwin"] = twin
	}
	return body, nil
}

// orNull is JSON's null for nothing: a merge patch removes by it (RFC 7396).
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// symmetricKeyFlags choose symmetric-key attestation.
type symmetricKeyFlags struct {
	SymmetricKey bool   `help:"Devices prove a symmetric key; the server makes two unless --key-file gives them."`
	KeyFile      string `type:"existingfile" placeholder:"FILE" help:"File with the primary key in base64 and, on a second line, the secondary."`
}

func (k symmetricKeyFlags) given() bool { return k.SymmetricKey || k.KeyFile != "" }

func (k symmetricKeyFlags) attestation() (map[string]any, error) {
	out := map[string]any{"type": "symmetricKey"}
	if k.KeyFile == "" {
		return out, nil
	}
	raw, err := os.ReadFile(k.KeyFile)
	if err != nil {
		return nil, err
	}
	keys := strings.Fields(string(raw))
	if len(keys) == 0 || len(keys) > 2 {
		return nil, fault.New(fault.Malformed, "symmetric-key", "%s holds one or two keys in base64, a line each", k.KeyFile)
	}
	pair := map[string]any{}
	for i, key := range keys {
		if _, err := base64.StdEncoding.DecodeString(key); err != nil {
			return nil, fault.New(fault.Malformed, "symmetric-key", "line %d of %s is not base64", i+1, k.KeyFile)
		}
		pair[[]string{"primaryKey", "secondaryKey"}[i]] = key
	}
	out["symmetricKey"] = pair
	return out, nil
}

// slots are the files of a pair of certificates.
type slots struct{ primary, secondary string }

func (p slots) given() bool { return p.primary != "" || p.secondary != "" }

// certificates is the pair as the API takes it.
func (p slots) certificates() (map[string]any, error) {
	out := map[string]any{}
	for slot, file := range map[string]string{"primary": p.primary, "secondary": p.secondary} {
		if file == "" {
			continue
		}
		text, err := certificateText(file)
		if err != nil {
			return nil, err
		}
		out[slot] = map[string]any{"certificate": text}
	}
	return out, nil
}

// certificateText is a certificate file as PEM, read as the server would read it: a file
// with a private key does not leave this host.
func certificateText(file string) (string, error) {
	certs, err := readCertificates(file)
	if err != nil {
		return "", err
	}
	return pemText(certs...), nil
}

func pemText(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Builder does not fail
	}
	return b.String()
}

// entryFlags are what the flags of create and update say of an entry.
type entryFlags interface {
	attestation() (map[string]any, error) // nil when no flag names one
	body() (map[string]any, error)
}

// create puts an entry where none is, from flags; wanted says which attest, should none
// be given.
func (k entryKind) create(ctx context.Context, s streams, api *client, o output, id string, f entryFlags, disabled bool, wanted string) error {
	attestation, err := f.attestation()
	if err == nil && attestation == nil {
		err = errors.New(wanted)
	}
	if err != nil {
		return usage(err)
	}
	body, err := f.body()
	if err != nil {
		return err
	}
	body["attestation"] = attestation
	if disabled {
		body["provisioningStatus"] = "disabled"
	}
	return k.putNew(ctx, s, api, o, id, body)
}

// putNew puts an entry where none is.
func (k entryKind) putNew(ctx context.Context, s streams, api *client, o output, id string, body map[string]any) error {
	switch profile, given := body["credentialPolicyName"]; {
	case !given:
		body["credentialPolicyName"] = policies.DefaultProfile().Name
	case profile == nil:
		delete(body, "credentialPolicyName")
	}
	got, err := api.do(ctx, call{method: http.MethodPut, at: []string{k.resource, id}, match: mustBeNew, body: body})
	if alreadyThere(err) {
		return &apiError{fault: fault.New(fault.Conflict, "exists", "%s %s exists already", k.noun, id), next: k.command + " update " + id}
	}
	if err != nil {
		return err
	}
	return k.tell(s, o, got)
}

// alreadyThere says that a write which must be new (If-None-Match) was not.
func alreadyThere(err error) bool {
	return fault.Is(err, fault.PreconditionFailed) || fault.Is(err, fault.Conflict)
}

// update patches an entry, as it is now, from flags; the server refuses when it changes
// in between.
func (k entryKind) update(ctx context.Context, s streams, api *client, o output, id string, f entryFlags, emptySecondary bool) error {
	attestation, err := f.attestation()
	if err != nil {
		return usage(err)
	}
	patch, err := f.body()
	if err != nil {
		return err
	}
	if attestation != nil {
		patch["attestation"] = instead(attestation)
	}
	if len(patch) == 0 && !emptySecondary {
		return fault.New(fault.Malformed, "nothing-to-change", "say what to change: %s update --help", k.command)
	}
	got, err := k.get(ctx, api, id)
	if err != nil {
		return err
	}
	if emptySecondary {
		if err := withoutSecondary(patch, got.body); err != nil {
			return err
		}
	}
	if got, err = api.do(ctx, call{method: http.MethodPatch, at: []string{k.resource, id}, match: got.etag, body: patch}); err != nil {
		return err
	}
	return k.tell(s, o, got)
}

// instead is an attestation for a merge patch: it also removes the other kinds.
func instead(attestation map[string]any) map[string]any {
	patch := map[string]any{"x509": nil, "symmetricKey": nil, "tpm": nil}
	maps.Copy(patch, attestation)
	if members, ok := patch["x509"].(map[string]any); ok {
		all := map[string]any{"clientCertificates": nil, "signingCertificates": nil, "caReferences": nil}
		maps.Copy(all, members)
		patch["x509"] = all
	}
	return patch
}

// withoutSecondary adds to a patch that the secondary slot is emptied: of the
// certificates or CA references that it brings, or else of those there are.
func withoutSecondary(patch map[string]any, current json.RawMessage) error {
	if attestation, ok := patch["attestation"].(map[string]any); ok {
		members, _ := attestation["x509"].(map[string]any)
		for _, pair := range members {
			if pair, ok := pair.(map[string]any); ok {
				pair["secondary"] = nil
				return nil
			}
		}
	} else {
		var is struct {
			Attestation struct{ X509 map[string]any }
		}
		if err := json.Unmarshal(current, &is); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		for member := range is.Attestation.X509 {
			patch["attestation"] = map[string]any{"x509": map[string]any{member: map[string]any{"secondary": nil}}}
			return nil
		}
	}
	return fault.New(fault.Malformed, "no-secondary", "this attestation has no certificates to empty a slot of")
}

func x509Attestation(member string, pair any) map[string]any {
	return map[string]any{"type": "x509", "x509": map[string]any{member: pair}}
}
