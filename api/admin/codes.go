package admin

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// code is a one-time enrollment code. Its text is answered once, by the POST that made
// it.
type code struct {
	Name           string     `json:"name" doc:"The start of its SHA-256: what it is called here."`
	RegistrationID string     `json:"registrationId"`
	Owner          *entryRef  `json:"owner" doc:"The entry that it admits by."`
	Status         string     `json:"status" enum:"open,spent,expired"`
	Code           string     `json:"code,omitempty" doc:"The code itself, shown this once."`
	Created        *time.Time `json:"createdDateTimeUtc"`
	CreatedBy      string     `json:"createdBy"`
	Expires        *time.Time `json:"expires"`
	UsedAt         *time.Time `json:"usedAt,omitempty"`
}

// The states of a code.
const (
	codeOpen    = "open"
	codeSpent   = "spent"
	codeExpired = "expired"
)

func (d *door) codeOf(c provisioning.EnrollmentCode) (code, error) {
	out := code{
		Name: c.Hash.Name(), RegistrationID: c.ID.String(), Owner: ownerOf(c.Owner()), Status: codeOpen,
		Created: instant(c.Created), CreatedBy: c.CreatedBy, Expires: instant(c.Expires), UsedAt: instant(c.UsedAt),
	}
	switch {
	case !c.UsedAt.IsZero():
		out.Status = codeSpent
	case !d.Now().Before(c.Expires):
		out.Status = codeExpired
	}
	return out, nil
}

type codePost struct {
	Body struct {
		RegistrationID string `json:"registrationId" maxLength:"128" doc:"The one device it is for."`
		Group          string `json:"group,omitempty" maxLength:"128" doc:"The group it makes the device a member of; absent: the device's own enrollment."`
		Lifetime       string `json:"lifetime,omitempty" doc:"ISO 8601, 1 minute to 90 days; PT24H unless given." example:"PT24H"`
	}
}

type codeList struct {
	Paging
	RegistrationID string `query:"registrationId" maxLength:"128"`
}

// CodeName is the name in a path.
type CodeName struct {
	Name string `path:"name" maxLength:"64"`
}

func (d *door) addCodes() {
	const tag = "codes"
	add(d, route{"list-codes", http.MethodGet, "/codes", policies.ScopeRead, tag, "List one-time enrollment codes", false}, d.listCodes)
	add(d, route{"create-code", http.MethodPost, "/codes", policies.ScopeEnroll, tag, "Make a one-time code by which a device enrolls over EST. It replaces the device's open one", true}, d.createCode)
	add(d, route{"revoke-code", http.MethodDelete, "/codes/{name}", policies.ScopeEnroll, tag, "Revoke a one-time code that was not used", false}, d.revokeCode)
}

func (d *door) listCodes(ctx context.Context, in *codeList) (*listed[code], error) {
	f := provisioning.CodeFilter{Limit: in.Limit + 1}
	after, err := in.after(d.Engine, "codes")
	if err != nil {
		return nil, err
	}
	if b, err := hex.DecodeString(after); err != nil || copy(f.After[:], b) != len(b) {
		return nil, badCursor()
	}
	if in.RegistrationID != "" {
		if f.ID, err = verify.ParseRegistrationID(in.RegistrationID); err != nil {
			return nil, err
		}
	}
	rows, err := d.Engine.Codes(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "codes", func(c provisioning.EnrollmentCode) string { return hex.EncodeToString(c.Hash[:]) }, d.codeOf)
}

func (d *door) createCode(ctx context.Context, in *codePost) (*written[code], error) {
	var r provisioning.CodeRequest
	var err error
	if r.ID, err = verify.ParseRegistrationID(in.Body.RegistrationID); err != nil {
		return nil, at(err, "/registrationId")
	}
	if in.Body.Group != "" {
		if r.Group, err = verify.ParseRegistrationID(in.Body.Group); err != nil {
			return nil, at(err, "/group")
		}
	}
	if in.Body.Lifetime != "" {
		if r.Lifetime, err = parseDuration(in.Body.Lifetime, "/lifetime"); err != nil {
			return nil, err
		}
		if r.Lifetime == 0 {
			return nil, fault.New(fault.Malformed, "code-lifetime", "a one-time code lives longer than no time").At("/lifetime")
		}
	}
	text, c, err := d.Engine.CreateCode(ctx, actor(ctx), r)
	if err != nil {
		return nil, err
	}
	body, err := d.codeOf(c)
	body.Code = text
	return &written[code]{Status: http.StatusCreated, Location: prefix + "/codes/" + c.Hash.Name(), Body: body}, err
}

func (d *door) revokeCode(ctx context.Context, in *CodeName) (*done, error) {
	return &done{}, d.Engine.RevokeCode(ctx, actor(ctx), in.Name)
}
