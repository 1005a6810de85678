package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// profile says what issued certificates look like. What a write leaves out is as in
// the default profile of a new installation.
type profile struct {
	Name                    string     `json:"name,omitempty" doc:"That of the path, where it is given."`
	Lifetime                string     `json:"lifetime,omitempty" doc:"ISO 8601, 1 minute to 30 years." example:"P90D"`
	Backdate                string     `json:"backdate,omitempty" doc:"How far notBefore lies before the issue, at most 1 hour." example:"PT5M"`
	Keys                    []string   `json:"keys,omitempty" nullable:"false" doc:"EC-P256, EC-P384, EC-P521, Ed25519, RSA-2048, RSA-3072, RSA-4096."`
	ExtKeyUsage             []string   `json:"extKeyUsage,omitempty" nullable:"false" doc:"clientAuth, serverAuth, codeSigning, emailProtection, timeStamping, ipsecEndSystem, ipsecTunnel, ipsecUser."`
	Renewal                 *renewal   `json:"renewal,omitempty"`
	Template                string     `json:"template,omitempty" maxLength:"16384" doc:"An x509util template; what it makes is held to this profile."`
	Names                   *names     `json:"names,omitempty" doc:"Names that certificates may have beside the device's id; none unless given."`
	Extensions              []string   `json:"extensions,omitempty" nullable:"false" doc:"Identifiers of extensions that a request may bring into its certificate." example:"[\"1.3.6.1.4.1.311.20.2\"]"`
	MinLifetime             string     `json:"minLifetime,omitempty" doc:"The least lifetime that the template may choose, ISO 8601."`
	MaxLifetime             string     `json:"maxLifetime,omitempty" doc:"The greatest lifetime that the template may choose, ISO 8601."`
	KeyReuse                string     `json:"keyReuse,omitempty" doc:"allowed (unless given), ownOnly: a key belongs to the first device that used it, or never: each certificate needs a new key."`
	KeyAttestation          string     `json:"keyAttestation,omitempty" doc:"none (unless given), or tpm: a certificate needs a key that the device's TPM has attested."`
	KeyAttestationExtension string     `json:"keyAttestationExtension,omitempty" doc:"Identifier of an extension that certificates for attested keys have." example:"1.3.6.1.4.1.99999.1"`
	ServerKeygen            bool       `json:"serverKeygen,omitempty" doc:"The server may make a device's key for it."`
	EmbedSCT                bool       `json:"embedSct,omitempty" doc:"Embed the timestamps of logs of certificates (RFC 6962); the server needs a log, see docs/how-to/embedded-scts.md."`
	Etag                    string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc      *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime     *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

// names are a profile's rules for names.
type names struct {
	Permitted *nameRules `json:"permitted,omitempty"`
	Excluded  *nameRules `json:"excluded,omitempty" doc:"Goes before permitted, and counts for the device's id too."`
}

type nameRules struct {
	DNS        []string `json:"dns,omitempty" nullable:"false" doc:"gw.plant.example, or *.plant.example for one label more."`
	IP         []string `json:"ip,omitempty" nullable:"false" doc:"10.1.2.3, or 10.0.0.0/8."`
	Email      []string `json:"email,omitempty" nullable:"false" doc:"ops@plant.example, or @plant.example."`
	URI        []string `json:"uri,omitempty" nullable:"false" doc:"The host in it, written like a DNS name."`
	CommonName []string `json:"commonName,omitempty" nullable:"false" doc:"Registration ids."`
	Principal  []string `json:"principal,omitempty" nullable:"false" doc:"User principal names; * is any."`
}

func rulesOf(r policies.NameRules) *nameRules {
	if len(r.DNS)+len(r.IP)+len(r.Email)+len(r.URI)+len(r.CommonName)+len(r.Principal) == 0 {
		return nil
	}
	out := nameRules(r)
	return &out
}

func (n *names) policy() *policies.Names {
	if n == nil || n.Permitted == nil && n.Excluded == nil {
		return nil
	}
	out := new(policies.Names)
	if n.Permitted != nil {
		out.Permitted = policies.NameRules(*n.Permitted)
	}
	if n.Excluded != nil {
		out.Excluded = policies.NameRules(*n.Excluded)
	}
	return out
}

// keyReuseAllowed is how the API spells the rule that is none.
const keyReuseAllowed = "allowed"

// keyAttestationNone is how the API spells that nothing is asked for, or known.
const keyAttestationNone = "none"

type renewal struct {
	PrepareAt *float64 `json:"prepareAt,omitempty" doc:"The share of its life after which a certificate is renewed, 0.1 to 0.99."`
	Overlap   string   `json:"overlap,omitempty" doc:"How long the old one stands beside the new, ISO 8601." example:"PT24H"`
	Grace     string   `json:"grace,omitempty" doc:"How long past its end a certificate may still be renewed by itself over EST, ISO 8601, at most 366 days; PT0S unless given." example:"P30D"`
	Retain    bool     `json:"retain,omitempty" doc:"Keep each device's last request and sign it again when a successor is due, for devices that cannot ask."`
}

// usages spells the extended key usages a profile may have as RFC 5280 §4.2.1.12.
var usages = [...]struct {
	name  string
	usage x509.ExtKeyUsage
}{
	{"clientAuth", x509.ExtKeyUsageClientAuth},
	{"serverAuth", x509.ExtKeyUsageServerAuth},
	{"codeSigning", x509.ExtKeyUsageCodeSigning},
	{"emailProtection", x509.ExtKeyUsageEmailProtection},
	{"timeStamping", x509.ExtKeyUsageTimeStamping},
	{"ipsecEndSystem", x509.ExtKeyUsageIPSECEndSystem},
	{"ipsecTunnel", x509.ExtKeyUsageIPSECTunnel},
	{"ipsecUser", x509.ExtKeyUsageIPSECUser},
}

func profileOf(p provisioning.Profile) (profile, error) {
	out := profileSettings(p.Profile)
	out.Etag, out.CreatedDateTimeUtc, out.LastUpdatedDateTime = etag(p.Version), instant(p.Created), instant(p.Updated)
	return out, nil
}

// profileSettings is a profile without what the record adds to it.
func profileSettings(p policies.Profile) profile {
	out := profile{
		Name: p.Name, Lifetime: formatDuration(p.Lifetime), Backdate: formatDuration(p.Backdate),
		Renewal:  &renewal{PrepareAt: &p.Renewal.PrepareAt, Overlap: formatDuration(p.Renewal.Overlap), Grace: formatDuration(p.Renewal.Grace), Retain: p.Renewal.Retain},
		Template: p.Template, Extensions: p.Extensions, KeyReuse: cmp.Or(string(p.KeyReuse), keyReuseAllowed),
		KeyAttestation: cmp.Or(string(p.KeyAttestation), keyAttestationNone), KeyAttestationExtension: p.KeyAttestationExtension,
		ServerKeygen: p.ServerKeygen, EmbedSCT: p.EmbedSCT,
	}
	if p.Names != nil {
		out.Names = &names{Permitted: rulesOf(p.Names.Permitted), Excluded: rulesOf(p.Names.Excluded)}
	}
	if p.MinLifetime != 0 {
		out.MinLifetime = formatDuration(p.MinLifetime)
	}
	if p.MaxLifetime != 0 {
		out.MaxLifetime = formatDuration(p.MaxLifetime)
	}
	for _, k := range p.Keys {
		out.Keys = append(out.Keys, string(k))
	}
	for _, u := range usages {
		if slices.Contains(p.ExtKeyUsage, u.usage) {
			out.ExtKeyUsage = append(out.ExtKeyUsage, u.name)
		}
	}
	return out
}

// policy is the profile as the engine takes it; what is wrong with its values is for
// the engine to say.
func (p profile) policy(name string) (policies.Profile, error) {
	out := policies.DefaultProfile()
	out.Name, out.ServerKeygen = name, p.ServerKeygen
	if p.Name != "" && p.Name != name {
		return out, otherName("/name")
	}
	type part struct {
		text, pointer string
		into          *time.Duration
	}
	parts := []part{
		{p.Lifetime, "/lifetime", &out.Lifetime}, {p.Backdate, "/backdate", &out.Backdate},
		{p.MinLifetime, "/minLifetime", &out.MinLifetime}, {p.MaxLifetime, "/maxLifetime", &out.MaxLifetime},
	}
	out.Template, out.Names, out.Extensions, out.ServerKeygen, out.EmbedSCT = p.Template, p.Names.policy(), p.Extensions, p.ServerKeygen, p.EmbedSCT
	if p.KeyReuse != keyReuseAllowed {
		out.KeyReuse = policies.KeyReuse(p.KeyReuse)
	}
	if out.KeyAttestationExtension = p.KeyAttestationExtension; p.KeyAttestation != keyAttestationNone {
		out.KeyAttestation = policies.KeyAttestation(p.KeyAttestation)
	}
	if p.Renewal != nil {
		parts = append(parts, part{p.Renewal.Overlap, "/renewal/overlap", &out.Renewal.Overlap}, part{p.Renewal.Grace, "/renewal/grace", &out.Renewal.Grace})
		out.Renewal.Retain = p.Renewal.Retain
		if p.Renewal.PrepareAt != nil {
			out.Renewal.PrepareAt = *p.Renewal.PrepareAt
		}
	}
	for _, d := range parts {
		if d.text == "" {
			continue
		}
		length, err := parseDuration(d.text, d.pointer)
		if err != nil {
			return out, err
		}
		*d.into = length
	}
	if p.Keys != nil {
		out.Keys = nil
	}
	for _, k := range p.Keys {
		out.Keys = append(out.Keys, policies.KeyType(k))
	}
	if p.ExtKeyUsage == nil {
		return out, nil
	}
	out.ExtKeyUsage = nil
	for i, name := range p.ExtKeyUsage {
		known := false
		for _, u := range usages {
			if u.name == name {
				out.ExtKeyUsage, known = append(out.ExtKeyUsage, u.usage), true
			}
		}
		if !known {
			return out, fault.New(fault.Malformed, "extended-key-usage", "device certificates never have this extended key usage").At(fmt.Sprintf("/extKeyUsage/%d", i))
		}
	}
	return out, nil
}

// ProfileName is the name in a path.
type ProfileName struct {
	Name string `path:"name" maxLength:"64"`
}

type (
	profilePut struct {
		ProfileName
		Conditions
		Body profile
	}
	profilePatch struct {
		ProfileName
		Conditions
		Body mergePatch `contentType:"application/merge-patch+json"`
	}
	profileAct struct {
		ProfileName
		Conditions
	}
)

func (d *door) addProfiles() {
	const tag = "profiles"
	add(d, route{"list-profiles", http.MethodGet, "/profiles", policies.ScopeRead, tag, "List issuing profiles", false}, d.listProfiles)
	add(d, route{"get-profile", http.MethodGet, "/profiles/{name}", policies.ScopeRead, tag, "Read an issuing profile", false}, d.getProfile)
	add(d, route{"put-profile", http.MethodPut, "/profiles/{name}", policies.ScopeSecurity, tag, "Create or replace an issuing profile", true}, d.putProfile)
	add(d, route{"patch-profile", http.MethodPatch, "/profiles/{name}", policies.ScopeSecurity, tag, "Change an issuing profile", false}, d.patchProfile)
	d.addProfileHistory(tag)
	add(d, route{"delete-profile", http.MethodDelete, "/profiles/{name}", policies.ScopeSecurity, tag, "Delete an issuing profile that no entry names", false}, d.deleteProfile)
}

func (d *door) listProfiles(ctx context.Context, in *Paging) (*listed[profile], error) {
	rows, err := d.Engine.Profiles(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "profiles", func(p provisioning.Profile) string { return p.Name }, profileOf)
}

func (d *door) getProfile(ctx context.Context, in *ProfileName) (*found[profile], error) {
	p, err := d.Engine.Profile(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	body, err := profileOf(p)
	return &found[profile]{ETag: etag(p.Version), Body: body}, err
}

func (d *door) putProfile(ctx context.Context, in *profilePut) (*written[profile], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return d.writeProfile(ctx, in.Name, in.Body, pre)
}

func (d *door) writeProfile(ctx context.Context, name string, body profile, pre provisioning.Precondition) (*written[profile], error) {
	policy, err := body.policy(name)
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.PutProfile(ctx, actor(ctx), policy, pre)
	if err != nil {
		return nil, err
	}
	out := &written[profile]{Status: http.StatusOK, ETag: etag(p.Version)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+"/profiles/"+p.Name
	}
	out.Body, err = profileOf(p)
	return out, err
}

func (d *door) patchProfile(ctx context.Context, in *profilePatch) (*found[profile], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.Profile(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if pre, err = over(pre, p.Version); err != nil {
		return nil, err
	}
	current, err := profileOf(p)
	if err != nil {
		return nil, err
	}
	next, err := patched(d, current, in.Body)
	if err != nil {
		return nil, err
	}
	out, err := d.writeProfile(ctx, in.Name, next, pre)
	if err != nil {
		return nil, err
	}
	return &found[profile]{ETag: out.ETag, Body: out.Body}, nil
}

func (d *door) deleteProfile(ctx context.Context, in *profileAct) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, d.Engine.DeleteProfile(ctx, actor(ctx), in.Name, pre)
}
