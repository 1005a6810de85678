package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// hub is a linked hub.
type hub struct {
	Name                string     `json:"name,omitempty" doc:"Its host name, as devices are told. That of the path, where it is given."`
	Driver              string     `json:"driver,omitempty" doc:"registry, the built-in hub, unless given."`
	Location            string     `json:"location,omitempty" doc:"Where it is, for geoLatency allocation."`
	Weight              *int       `json:"weight,omitempty" nullable:"false" doc:"Its share of hashed allocation, 0 to 1000; 1 unless given."`
	Draining            bool       `json:"draining,omitempty" doc:"It keeps its devices and takes no new ones."`
	Etag                string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

func hubOf(h provisioning.Hub) (hub, error) {
	return hub{
		Name: h.Name, Driver: h.Driver, Location: h.Location, Weight: &h.Weight, Draining: h.Draining,
		Etag: etag(h.Version), CreatedDateTimeUtc: instant(h.Created), LastUpdatedDateTime: instant(h.Updated),
	}, nil
}

func (h hub) linked(name string) (provisioning.Hub, error) {
	out := provisioning.Hub{Name: name, Driver: provisioning.BuiltIn, Location: h.Location, Weight: 1, Draining: h.Draining}
	if h.Name != "" && !strings.EqualFold(h.Name, name) {
		return out, otherName("/name")
	}
	if h.Driver != "" {
		out.Driver = h.Driver
	}
	if h.Weight != nil {
		out.Weight = *h.Weight
	}
	return out, nil
}

// HubName is the name in a path.
type HubName struct {
	Name string `path:"name" maxLength:"253"`
}

type (
	hubPut struct {
		HubName
		Conditions
		Body hub
	}
	hubPatch struct {
		HubName
		Conditions
		Body mergePatch `contentType:"application/merge-patch+json"`
	}
	hubAct struct {
		HubName
		Conditions
	}
	// hubTest is how a linked hub was found to be.
	hubTest struct {
		Name        string `json:"name"`
		Driver      string `json:"driver"`
		OK          bool   `json:"ok"`
		Detail      string `json:"detail"`
		Enrollments int64  `json:"enrollments" doc:"Entries that name it."`
		Devices     int64  `json:"devices" doc:"Registrations on it."`
	}
)

func (d *door) addHubs() {
	const tag = "hubs"
	add(d, route{"list-hubs", http.MethodGet, "/hubs", policies.ScopeRead, tag, "List linked hubs", false}, d.listHubs)
	add(d, route{"get-hub", http.MethodGet, "/hubs/{name}", policies.ScopeRead, tag, "Read a linked hub", false}, d.getHub)
	add(d, route{"put-hub", http.MethodPut, "/hubs/{name}", policies.ScopeEnroll, tag, "Link a hub, or replace its settings", true}, d.putHub)
	add(d, route{"patch-hub", http.MethodPatch, "/hubs/{name}", policies.ScopeEnroll, tag, "Change a hub's settings", false}, d.patchHub)
	add(d, route{"delete-hub", http.MethodDelete, "/hubs/{name}", policies.ScopeEnroll, tag, "Unlink a hub that is not in use", false}, d.deleteHub)
	add(d, route{"test-hub", http.MethodPost, "/hubs/{name}/test", policies.ScopeEnroll, tag, "Say whether a linked hub can be worked with", false}, d.testHub)
}

func (d *door) listHubs(ctx context.Context, in *Paging) (*listed[hub], error) {
	rows, err := d.Engine.Hubs(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "hubs", func(h provisioning.Hub) string { return h.Name }, hubOf)
}

func (d *door) getHub(ctx context.Context, in *HubName) (*found[hub], error) {
	h, err := d.Engine.Hub(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	body, err := hubOf(h)
	return &found[hub]{ETag: etag(h.Version), Body: body}, err
}

func (d *door) putHub(ctx context.Context, in *hubPut) (*written[hub], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return d.writeHub(ctx, in.Name, in.Body, pre)
}

func (d *door) writeHub(ctx context.Context, name string, body hub, pre provisioning.Precondition) (*written[hub], error) {
	h, err := body.linked(name)
	if err != nil {
		return nil, err
	}
	if h, err = d.Engine.PutHub(ctx, actor(ctx), h, pre); err != nil {
		return nil, err
	}
	out := &written[hub]{Status: http.StatusOK, ETag: etag(h.Version)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+"/hubs/"+h.Name
	}
	out.Body, err = hubOf(h)
	return out, err
}

func (d *door) patchHub(ctx context.Context, in *hubPatch) (*found[hub], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	h, err := d.Engine.Hub(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if pre, err = over(pre, h.Version); err != nil {
		return nil, err
	}
	current, err := hubOf(h)
	if err != nil {
		return nil, err
	}
	next, err := patched(d, current, in.Body)
	if err != nil {
		return nil, err
	}
	out, err := d.writeHub(ctx, in.Name, next, pre)
	if err != nil {
		return nil, err
	}
	return &found[hub]{ETag: out.ETag, Body: out.Body}, nil
}

func (d *door) deleteHub(ctx context.Context, in *hubAct) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	return &done{}, d.Engine.DeleteHub(ctx, actor(ctx), in.Name, pre)
}

func (d *door) testHub(ctx context.Context, in *HubName) (*found[hubTest], error) {
	t, err := d.Engine.TestHub(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &found[hubTest]{ETag: etag(t.Version), Body: hubTest{
		Name: t.Name, Driver: t.Driver, OK: true, Detail: sentence(t.Detail), Enrollments: t.Entries, Devices: t.Devices,
	}}, nil
}
