package admin

import (
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
	Name                string     `json:"name,omitempty" doc:"That of the path, where it is given."`
	Lifetime            string     `json:"lifetime,omitempty" doc:"ISO 8601, 1 minute to 30 years." example:"P90D"`
	Backdate            string     `json:"backdate,omitempty" doc:"How far notBefore lies before the issue, at most 1 hour." example:"PT5M"`
	Keys                []string   `json:"keys,omitempty" nullable:"false" doc:"EC-P256, EC-P384, EC-P521, Ed25519, RSA-2048, RSA-3072, RSA-4096."`
	ExtKeyUsage         []string   `json:"extKeyUsage,omitempty" nullable:"false" doc:"clientAuth, serverAuth, codeSigning, emailProtection, timeStamping, ipsecEndSystem, ipsecTunnel, ipsecUser."`
	Renewal             *renewal   `json:"renewal,omitempty"`
	EmbedSCT            bool       `json:"embedSCT,omitempty" doc:"Embed the timestamps of logs of certificates (RFC 6962); the server needs a log, see docs/how-to/embedded-scts.md."`
	Etag                string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

type renewal struct {
	PrepareAt *float64 `json:"prepareAt,omitempty" doc:"The share of its life after which a certificate is renewed, 0.1 to 0.99."`
	Overlap   string   `json:"overlap,omitempty" doc:"How long the old one stands beside the new, ISO 8601." example:"PT24H"`
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
	out := profile{
		Name: p.Name, Lifetime: formatDuration(p.Lifetime), Backdate: formatDuration(p.Backdate),
		Renewal:  &renewal{PrepareAt: &p.Renewal.PrepareAt, Overlap: formatDuration(p.Renewal.Overlap)},
		EmbedSCT: p.EmbedSCT,
		Etag:     etag(p.Version), CreatedDateTimeUtc: instant(p.Created), LastUpdatedDateTime: instant(p.Updated),
	}
	for _, k := range p.Keys {
		out.Keys = append(out.Keys, string(k))
	}
	for _, u := range usages {
		if slices.Contains(p.ExtKeyUsage, u.usage) {
			out.ExtKeyUsage = append(out.ExtKeyUsage, u.name)
		}
	}
	return out, nil
}

// policy is the profile as the engine takes it; what is wrong with its values is for
// the engine to say.
func (p profile) policy(name string) (policies.Profile, error) {
	out := policies.DefaultProfile()
	out.Name, out.EmbedSCT = name, p.EmbedSCT
	if p.Name != "" && p.Name != name {
		return out, otherName("/name")
	}
	type part struct {
		text, pointer string
		into          *time.Duration
	}
	parts := []part{{p.Lifetime, "/lifetime", &out.Lifetime}, {p.Backdate, "/backdate", &out.Backdate}}
	if p.Renewal != nil {
		parts = append(parts, part{p.Renewal.Overlap, "/renewal/overlap", &out.Renewal.Overlap})
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
