package admin

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// hub is a linked hub.
type hub struct {
	Name                string     `json:"name,omitempty" doc:"Its host name, as devices are told. That of the path, where it is given."`
	Driver              string     `json:"driver,omitempty" doc:"registry, the built-in hub, unless given; azure for an Azure IoT Hub; webhook for one that is told by signed POSTs; mosquitto for a broker."`
	URL                 string     `json:"url,omitempty" maxLength:"2048" writeOnly:"true" doc:"Where a hub that lives elsewhere is told of its devices, symmetric keys too, over https; of an Azure IoT Hub a connection string. Needs the scope security. Kept where it is not given; answered by nothing."`
	Endpoint            string     `json:"endpoint,omitempty" readOnly:"true" doc:"Scheme and host of that address, or of the hub a connection string names: the rest may be a secret."`
	Key                 string     `json:"key,omitempty" readOnly:"true" doc:"whsec_…, which signs what the hub is told (Standard Webhooks); answered once, when it was made."`
	Location            string     `json:"location,omitempty" doc:"Where it is, for geoLatency allocation."`
	Weight              *int       `json:"weight,omitempty" nullable:"false" doc:"Its share of hashed allocation, 0 to 1000; 1 unless given."`
	Draining            bool       `json:"draining,omitempty" doc:"It keeps its devices and takes no new ones."`
	Rate                int        `json:"rate,omitempty" minimum:"0" maximum:"1000000" doc:"Calls a minute that a hub which lives elsewhere gets at most; as its driver has it unless given."`
	RatePerMinute       *int       `json:"ratePerMinute,omitempty" readOnly:"true" doc:"The one that holds; 0: as many as it answers."`
	Circuit             string     `json:"circuit,omitempty" readOnly:"true" enum:"closed,open,half-open" doc:"Of a hub that lives elsewhere. closed: it is told of its devices; open: it failed, and is left alone until the next try; half-open: it is tried with one device."`
	Ahead               *int64     `json:"ahead,omitempty" readOnly:"true" doc:"Devices that a hub which lives elsewhere is still to be told of."`
	AheadSince          *time.Time `json:"aheadSinceDateTimeUtc,omitempty" readOnly:"true" doc:"The oldest of them waits since then."`
	Answered            *time.Time `json:"answeredDateTimeUtc,omitempty" readOnly:"true"`
	Tries               int        `json:"tries,omitempty" readOnly:"true" doc:"Failures in a row."`
	NextTry             *time.Time `json:"nextTryDateTimeUtc,omitempty" readOnly:"true"`
	Problem             string     `json:"problem,omitempty" readOnly:"true"`
	Checked             *time.Time `json:"checkedDateTimeUtc,omitempty" readOnly:"true" doc:"When it was last read to its end, and compared with what it shall hold."`
	Drift               *int64     `json:"drift,omitempty" readOnly:"true" doc:"Devices that it held otherwise then."`
	Etag                string     `json:"etag,omitempty" readOnly:"true"`
	CreatedDateTimeUtc  *time.Time `json:"createdDateTimeUtc,omitempty" readOnly:"true"`
	LastUpdatedDateTime *time.Time `json:"lastUpdatedDateTimeUtc,omitempty" readOnly:"true"`
}

func hubOf(h provisioning.LinkedHub) (hub, error) {
	out := linkedHub(h, nil)
	if h.Checked.Good() {
		drift := h.Checked.Drifted()
		out.Checked, out.Drift = instant(h.Checked.Ended), &drift
	}
	if h.Driver != provisioning.BuiltIn {
		out.Ahead, out.AheadSince, out.RatePerMinute, out.Circuit = &h.Ahead, instant(h.Since), &h.PerMinute, string(h.Circuit)
	}
	return out, nil
}

// linkedHub is a hub as it was written, with its key where that was made just now.
func linkedHub(h provisioning.LinkedHub, key []byte) hub {
	out := hub{
		Name: h.Name, Driver: h.Driver, Endpoint: h.Endpoint, Location: h.Location, Weight: &h.Weight, Draining: h.Draining, Rate: h.Rate,
		Answered: instant(h.Link.Answered), Tries: h.Link.Tries, Problem: h.Link.Problem,
		Etag: etag(h.Version), CreatedDateTimeUtc: instant(h.Created), LastUpdatedDateTime: instant(h.Updated),
	}
	if h.Link.Problem != "" {
		out.NextTry = instant(h.Link.NextTry)
	}
	if key != nil {
		out.Key = "whsec_" + base64.StdEncoding.EncodeToString(key)
	}
	return out
}

func (h hub) linked(name string) (provisioning.Hub, error) {
	out := provisioning.Hub{Name: name, Driver: provisioning.BuiltIn, Location: h.Location, Weight: 1, Draining: h.Draining, Rate: h.Rate}
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
	hubDelete struct {
		HubName
		Conditions
		Abandon bool `query:"abandon" doc:"Give up what the hub was still to remove: it will not answer any more."`
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
	add(d, route{"roll-hub-key", http.MethodPost, "/hubs/{name}/key", policies.ScopeSecurity, tag, "Give a hub that lives elsewhere a new key, which signs from now on", false}, d.rollHubKey)
	add(d, route{"test-hub", http.MethodPost, "/hubs/{name}/test", policies.ScopeEnroll, tag, "Say whether a linked hub can be worked with", false}, d.testHub)
}

func (d *door) listHubs(ctx context.Context, in *Paging) (*listed[hub], error) {
	rows, err := d.Engine.LinkedHubs(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, rows, *in, "hubs", func(h provisioning.LinkedHub) string { return h.Name }, hubOf)
}

func (d *door) getHub(ctx context.Context, in *HubName) (*found[hub], error) {
	h, err := d.Engine.LinkedHub(ctx, in.Name)
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
	if body.URL != "" {
		// A hub that lives elsewhere is told the symmetric keys of its devices.
		if err := d.needs(ctx, policies.ScopeSecurity, "PUT "+prefix+"/hubs/"+name+" with an address"); err != nil {
			return nil, err
		}
	}
	is, key, err := d.Engine.LinkHub(ctx, actor(ctx), h, body.URL, pre)
	if err != nil {
		return nil, err
	}
	out := &written[hub]{Status: http.StatusOK, ETag: etag(is.Version), Body: linkedHub(is, key)}
	if creates(pre) {
		out.Status, out.Location = http.StatusCreated, prefix+"/hubs/"+is.Name
	}
	return out, nil
}

func (d *door) patchHub(ctx context.Context, in *hubPatch) (*found[hub], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	h, err := d.Engine.LinkedHub(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if pre, err = over(pre, h.Version); err != nil {
		return nil, err
	}
	current := hub{Name: h.Name, Driver: h.Driver, Location: h.Location, Weight: &h.Weight, Draining: h.Draining, Rate: h.Rate}
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

func (d *door) deleteHub(ctx context.Context, in *hubDelete) (*done, error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	unlink := d.Engine.DeleteHub
	if in.Abandon {
		unlink = d.Engine.AbandonHub
	}
	return &done{}, unlink(ctx, actor(ctx), in.Name, pre)
}

func (d *door) rollHubKey(ctx context.Context, in *hubAct) (*found[hub], error) {
	pre, err := in.precondition()
	if err != nil {
		return nil, err
	}
	h, key, err := d.Engine.RollHubKey(ctx, actor(ctx), in.Name, pre)
	if err != nil {
		return nil, err
	}
	return &found[hub]{ETag: etag(h.Version), Body: linkedHub(h, key)}, nil
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
