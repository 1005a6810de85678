package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

// accessPolicy is a shared access policy: what Azure's service and hub clients sign in
// with. Its keys are answered by one call alone.
type accessPolicy struct {
	Plane               string     `json:"plane,omitempty" enum:"service,hub" doc:"That of the path, where it is given."`
	Name                string     `json:"name,omitempty" doc:"That of the path, where it is given."`
	Rights              []string   `json:"rights" nullable:"false" doc:"Azure's names: ServiceConfig, EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, RegistrationStatusWrite, DeviceConnect; of a hub RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect."`
	Etag                string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`

	PrimaryKeySince    *time.Time `json:"primaryKeySince,omitempty" readOnly:"true" doc:"When the key was made."`
	PrimaryKeyUsedAt   *time.Time `json:"primaryKeyUsedAt,omitempty" readOnly:"true" doc:"When it last signed somebody in, to some minutes; absent: never."`
	SecondaryKeySince  *time.Time `json:"secondaryKeySince,omitempty" readOnly:"true"`
	SecondaryKeyUsedAt *time.Time `json:"secondaryKeyUsedAt,omitempty" readOnly:"true"`
}

func accessOf(p provisioning.AccessPolicy) (accessPolicy, error) {
	return accessPolicy{
		Plane: string(p.Plane), Name: p.Name, Rights: strings.Split(p.Rights.String(), ", "),
		Etag: etag(p.Version), CreatedDateTimeUtc: instant(p.Created), LastUpdatedDateTime: instant(p.Updated),
		PrimaryKeySince: instant(p.Keys[0].Since), PrimaryKeyUsedAt: instant(p.Keys[0].Used),
		SecondaryKeySince: instant(p.Keys[1].Since), SecondaryKeyUsedAt: instant(p.Keys[1].Used),
	}, nil
}

// AccessName is the plane and name in a path.
type AccessName struct {
	Plane string `path:"plane" enum:"service,hub"`
	Name  string `path:"name" maxLength:"64"`
}

func (n AccessName) plane() provisioning.Plane { return provisioning.Plane(n.Plane) }

type (
	accessPut struct {
		AccessName
		Conditions
		Body accessPolicy
	}
	accessAct struct {
		AccessName
		Conditions
	}
	accessRotate struct {
		AccessName
		Conditions
		Body struct {
			Slot  string `json:"slot" enum:"primary,secondary" doc:"The key to be replaced; tokens signed with it are refused at once."`
			Force bool   `json:"force,omitempty" doc:"Even when the key was used within the last day."`
		}
	}
	// accessKeys are a policy's keys as connection strings have them.
	accessKeys struct {
		Plane        string `json:"plane"`
		Name         string `json:"name"`
		PrimaryKey   string `json:"primaryKey" doc:"Base64."`
		SecondaryKey string `json:"secondaryKey" doc:"Base64."`
	}
)

func (d *door) addAccess() {
	const tag, one = "access", "/access/{plane}/{name}"
	add(d, route{"list-access", http.MethodGet, "/access", policies.ScopeAdmin, tag, "List shared access policies", false}, d.listAccess)
	add(d, route{"get-access", http.MethodGet, one, policies.ScopeAdmin, tag, "Read a shared access policy", false}, d.getAccess)
	add(d, route{"put-access", http.MethodPut, one, policies.ScopeAdmin, tag, "Make a shared access policy, with two new keys, or change what one grants", true}, d.putAccess)
	add(d, route{"delete-access", http.MethodDelete, one, policies.ScopeAdmin, tag, "Delete a shared access policy; its tokens are refused at once", false}, d.deleteAccess)
	add(d, route{"get-access-keys", http.MethodPost, one + "/keys", policies.ScopeSecurity, tag, "Read a policy's keys; that is put on record", false}, d.accessKeys)
	add(d, route{"rotate-access-key", http.MethodPost, one + "/rotate", policies.ScopeSecurity, tag, "Replace one key of a policy", false}, d.rotateAccess)
}

func (d *door) listAccess(ctx context.Context, in *Paging) (*listed[accessPolicy], error) {
	rows, err := d.Engine.AccessPolicies(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "access", func(p provisioning.AccessPolicy) string { return string(p.Plane) + "/" + p.Name }, accessOf)
}

func (d *door) getAccess(ctx context.Context, in *AccessName) (*found[accessPolicy], error) {
	p, err := d.Engine.AccessPolicy(ctx, in.plane(), in.Name)
	return foundAccess(p, err)
}

func foundAccess(p provisioning.AccessPolicy, err error) (*found[accessPolicy], error) {
	if err != nil {
		return nil, err
	}
	body, err := accessOf(p)
	return &found[accessPolicy]{ETag: etag(p.Version), Body: body}, err
}

func (d *door) putAccess(ctx context.Context, in *accessPut) (*written[accessPolicy], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	if in.Body.Plane != "" && in.Body.Plane != in.Plane {
		return nil, otherName("/plane")
	}
	if in.Body.Name != "" && !strings.EqualFold(in.Body.Name, in.Name) {
		return nil, otherName("/name")
	}
	rights, err := policies.ParseRights(strings.Join(in.Body.Rights, ","))
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.PutAccess(ctx, actor(ctx), in.plane(), in.Name, rights, pre)
	if err != nil {
		return nil, err
	}
	out := &written[accessPolicy]{Status: http.StatusOK, ETag: etag(p.Version)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+"/access/"+in.Plane+"/"+p.Name
	}
	out.Body, err = accessOf(p)
	return out, err
}

func (d *door) deleteAccess(ctx context.Context, in *accessAct) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, d.Engine.DeleteAccess(ctx, actor(ctx), in.plane(), in.Name, pre)
}

func (d *door) accessKeys(ctx context.Context, in *AccessName) (*found[accessKeys], error) {
	p, err := d.Engine.AccessPolicy(ctx, in.plane(), in.Name)
	if err != nil {
		return nil, err
	}
	raw, err := d.Engine.AccessKeys(ctx, actor(ctx), p.Plane, p.Name)
	if err != nil {
		return nil, err
	}
	keys := keysOf(raw)
	return &found[accessKeys]{ETag: etag(p.Version), Body: accessKeys{
		Plane: string(p.Plane), Name: p.Name, PrimaryKey: keys.PrimaryKey, SecondaryKey: keys.SecondaryKey,
	}}, nil
}

func (d *door) rotateAccess(ctx context.Context, in *accessRotate) (*found[accessPolicy], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	slot := rotation.Primary
	if in.Body.Slot == rotation.Secondary.String() {
		slot = rotation.Secondary
	}
	p, err := d.Engine.RollAccessKey(ctx, actor(ctx), in.plane(), in.Name, slot, in.Body.Force, pre)
	return foundAccess(p, err)
}
