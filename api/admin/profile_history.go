package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// profileVersion is a profile as it was written once.
type profileVersion struct {
	Version  int64      `json:"version"`
	At       *time.Time `json:"at"`
	Actor    string     `json:"actor" doc:"Who wrote it."`
	Settings profile    `json:"settings"`
}

func profileVersionOf(v provisioning.ProfileVersion) (profileVersion, error) {
	return profileVersion{Version: v.Version, At: instant(v.At), Actor: v.Actor, Settings: profileSettings(v.Profile)}, nil
}

// profileDiff is what changed from one version of a profile to another.
type profileDiff struct {
	Name    string        `json:"name"`
	From    int64         `json:"from"`
	To      int64         `json:"to"`
	Changes []fieldChange `json:"changes" nullable:"false"`
}

// fieldChange is one field before and after; what is not set is left out.
type fieldChange struct {
	Field string `json:"field" doc:"Dotted, as in the JSON of the resource." example:"renewal.overlap"`
	Old   any    `json:"old,omitempty"`
	New   any    `json:"new,omitempty"`
}

// diffSettings compares two profiles field by field. Lists are compared whole.
func diffSettings(from, to policies.Profile) ([]fieldChange, error) {
	old, err := fieldsOf(from)
	if err != nil {
		return nil, err
	}
	next, err := fieldsOf(to)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(old))
	for name := range next {
		if _, both := old[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	changes := []fieldChange{}
	for _, name := range names {
		a, b := old[name], next[name]
		if string(a) == string(b) {
			continue
		}
		c := fieldChange{Field: name}
		for _, side := range []struct {
			raw  json.RawMessage
			into *any
		}{{a, &c.Old}, {b, &c.New}} {
			if side.raw == nil {
				continue
			}
			if err := json.Unmarshal(side.raw, side.into); err != nil {
				return nil, err
			}
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// fieldsOf are the settings of a profile as JSON, by their dotted names.
func fieldsOf(p policies.Profile) (map[string]json.RawMessage, error) {
	raw, err := json.Marshal(profileSettings(p))
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	return out, flatten(out, "", raw)
}

func flatten(out map[string]json.RawMessage, prefix string, raw json.RawMessage) error {
	var members map[string]json.RawMessage
	if raw[0] != '{' {
		out[prefix] = raw
		return nil
	}
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	for name, value := range members {
		if prefix != "" {
			name = prefix + "." + name
		}
		if err := flatten(out, name, value); err != nil {
			return err
		}
	}
	return nil
}

// profileTest is what a change would have done to the last certificate requests.
type profileTest struct {
	Name      string               `json:"name"`
	Requests  int                  `json:"requests" doc:"Tried."`
	Oldest    *time.Time           `json:"oldest,omitempty" doc:"When the oldest of them came."`
	Same      int                  `json:"same" doc:"The same certificate, or refused both ways."`
	Changed   int                  `json:"changed" doc:"Another certificate."`
	Refused   int                  `json:"refused" doc:"Would be refused now."`
	Admitted  int                  `json:"admitted" doc:"Would no longer be refused."`
	LeftOut   int                  `json:"leftOut" doc:"Requests under other profiles."`
	RefusedBy map[string]int       `json:"refusedBy" nullable:"false" doc:"How many would be refused now, by rule."`
	Examples  []profileTestExample `json:"examples" nullable:"false" doc:"The newest that the change makes a difference to."`
}

type profileTestExample struct {
	RegistrationID string        `json:"registrationId"`
	At             *time.Time    `json:"at"`
	Profile        string        `json:"profile" doc:"Under which it came."`
	Before         *profileTried `json:"before,omitempty" doc:"Absent: it gets a certificate."`
	After          *profileTried `json:"after,omitempty" doc:"Absent: it gets a certificate."`
	Changes        []fieldChange `json:"changes" nullable:"false" doc:"Of the certificate."`
}

// profileTried is a refusal.
type profileTried struct {
	Rule   string `json:"rule"`
	Detail string `json:"detail"`
}

func triedOf(f *fault.Error) *profileTried {
	if f == nil {
		return nil
	}
	return &profileTried{Rule: f.Rule, Detail: sentence(f.Detail)}
}

func profileTestOf(name string, t provisioning.ProfileTest) profileTest {
	out := profileTest{
		Name: name, Requests: t.Requests, Oldest: instant(t.OldestAt), Same: t.Same, Changed: t.Changed, Refused: t.Refused, Admitted: t.Admitted,
		LeftOut: t.Untouched, RefusedBy: t.Rules, Examples: []profileTestExample{},
	}
	for _, x := range t.Examples {
		e := profileTestExample{
			RegistrationID: x.ID.String(), At: instant(x.At), Profile: x.Profile, Before: triedOf(x.Before), After: triedOf(x.After), Changes: []fieldChange{},
		}
		for _, c := range x.Changes {
			e.Changes = append(e.Changes, fieldChange{Field: c.Field, Old: c.Old, New: c.New})
		}
		out.Examples = append(out.Examples, e)
	}
	return out
}

type (
	profileVersionList struct {
		ProfileName
		Paging
	}
	profileVersionGet struct {
		ProfileName
		Version int64 `path:"version" minimum:"1"`
	}
	profileDiffGet struct {
		ProfileName
		From int64 `query:"from" minimum:"1" doc:"The older version; the one before to unless given."`
		To   int64 `query:"to" minimum:"1" doc:"The newer version; the newest unless given."`
	}
	profileRollback struct {
		ProfileName
		Conditions
		Body struct {
			Version int64 `json:"version" minimum:"1" doc:"Its settings are written as a new version."`
		}
	}
	profileTestPost struct {
		ProfileName
		Body struct {
			Profile  profile `json:"profile" doc:"The profile as it would be written."`
			Last     int     `json:"last,omitempty" minimum:"0" maximum:"1000" doc:"At most so many of the last requests; all that are kept unless given."`
			All      bool    `json:"all,omitempty" doc:"Also requests that came under other profiles."`
			Examples int     `json:"examples,omitempty" minimum:"0" maximum:"1000" doc:"At most so many examples; 20 unless given."`
		}
	}
)

func (d *door) addProfileHistory(tag string) {
	add(d, route{"list-profile-versions", http.MethodGet, "/profiles/{name}/versions", policies.ScopeRead, tag, "List the versions of a profile, newest first; deleted ones keep theirs", false}, d.listProfileVersions)
	add(d, route{"get-profile-version", http.MethodGet, "/profiles/{name}/versions/{version}", policies.ScopeRead, tag, "Read a version of a profile", false}, d.getProfileVersion)
	add(d, route{"diff-profile", http.MethodGet, "/profiles/{name}/diff", policies.ScopeRead, tag, "Say what changed from one version to another", false}, d.diffProfile)
	add(d, route{"rollback-profile", http.MethodPost, "/profiles/{name}/rollback", policies.ScopeSecurity, tag, "Write the settings of an old version as a new one", false}, d.rollbackProfile)
	add(d, route{"test-profile", http.MethodPost, "/profiles/{name}/test", policies.ScopeSecurity, tag, "Try a change on the last certificate requests; nothing is signed or written", false}, d.testProfile)
}

func (d *door) listProfileVersions(ctx context.Context, in *profileVersionList) (*listed[profileVersion], error) {
	list := "profile-versions " + in.Name
	before, err := in.before(d.Engine, list)
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.ProfileVersions(ctx, in.Name, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list, func(v provisioning.ProfileVersion) string { return strconv.FormatInt(v.Version, 10) }, profileVersionOf)
}

func (d *door) getProfileVersion(ctx context.Context, in *profileVersionGet) (*found[profileVersion], error) {
	v, err := d.Engine.ProfileVersion(ctx, in.Name, in.Version)
	if err != nil {
		return nil, err
	}
	body, err := profileVersionOf(v)
	return &found[profileVersion]{ETag: etag(v.Version), Body: body}, err
}

type profileDiffed struct{ Body profileDiff }

func (d *door) diffProfile(ctx context.Context, in *profileDiffGet) (*profileDiffed, error) {
	to, err := d.versionBefore(ctx, in.Name, in.To, 0)
	if err != nil {
		return nil, err
	}
	from, err := d.versionBefore(ctx, in.Name, in.From, to.Version)
	if fault.Is(err, fault.NotFound) && in.From == 0 {
		from, err = to, nil // the first version
	}
	if err != nil {
		return nil, err
	}
	changes, err := diffSettings(from.Profile, to.Profile)
	return &profileDiffed{Body: profileDiff{Name: in.Name, From: from.Version, To: to.Version, Changes: changes}}, err
}

// versionBefore is a version by its number, or with none the newest before another.
func (d *door) versionBefore(ctx context.Context, name string, number, before int64) (provisioning.ProfileVersion, error) {
	if number != 0 {
		return d.Engine.ProfileVersion(ctx, name, number)
	}
	list, err := d.Engine.ProfileVersions(ctx, name, before, 1)
	if err != nil {
		return provisioning.ProfileVersion{}, err
	}
	if len(list) == 0 {
		return d.Engine.ProfileVersion(ctx, name, number)
	}
	return list[0], nil
}

func (d *door) rollbackProfile(ctx context.Context, in *profileRollback) (*found[profile], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.RollbackProfile(ctx, actor(ctx), in.Name, in.Body.Version, pre)
	if err != nil {
		return nil, err
	}
	body, err := profileOf(p)
	return &found[profile]{ETag: etag(p.Version), Body: body}, err
}

type profileTestAnswer struct{ Body profileTest }

func (d *door) testProfile(ctx context.Context, in *profileTestPost) (*profileTestAnswer, error) {
	policy, err := in.Body.Profile.policy(in.Name)
	if err != nil {
		return nil, err
	}
	t, err := d.Engine.TestProfile(ctx, policy, provisioning.ProfileTestScope{Last: in.Body.Last, All: in.Body.All, Examples: cmp.Or(in.Body.Examples, 20)})
	if err != nil {
		return nil, err
	}
	return &profileTestAnswer{Body: profileTestOf(in.Name, t)}, nil
}
