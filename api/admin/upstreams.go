package admin

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
)

// upstream is a CA elsewhere that the configuration names.
type upstream struct {
	Name    string   `json:"name" doc:"As the configuration calls it."`
	Issuers []string `json:"issuers" nullable:"false" doc:"The ids of the issuers that it signs for."`
}

// intent is a request to an upstream.
type intent struct {
	ID             string     `json:"id"`
	Issuer         string     `json:"issuer" doc:"The issuer's id."`
	RegistrationID string     `json:"registrationId"`
	State          string     `json:"state" enum:"open,issued,refused,orphaned,revoked" doc:"orphaned: there is or may be a certificate that nobody was given."`
	Created        *time.Time `json:"createdDateTimeUtc"`
	Settled        *time.Time `json:"settledDateTimeUtc,omitempty" doc:"When it left open."`
	Serial         string     `json:"serial,omitempty" doc:"Of the certificate that came back; absent while it is not known."`
	Detail         string     `json:"detail,omitempty" doc:"Why it is refused or orphaned."`
	CSR            string     `json:"csr,omitempty" doc:"PEM. Absent: it has a challenge password, and is not kept."`
}

func intentOf(i ca.Intent) (intent, error) {
	out := intent{
		ID: i.ID, Issuer: string(i.Issuer), RegistrationID: i.RegistrationID.String(), State: string(i.State), Created: instant(i.Created),
		Settled: instant(i.Settled), Serial: string(i.Serial), Detail: i.Detail,
	}
	if len(i.CSR) > 0 {
		out.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: i.CSR}))
	}
	return out, nil
}

type adoption struct {
	Name string `path:"name" maxLength:"64" doc:"As the configuration calls it."`
	Body *struct {
		Profile string `json:"profile,omitempty" maxLength:"64" doc:"The profile it signs for; all that have no issuer of their own unless given."`
		Name    string `json:"name,omitempty" doc:"Of the issuer; the common name of its certificate unless given."`
	}
}

type intentList struct {
	Paging
	Issuer string `query:"issuer" maxLength:"64" doc:"The issuer's id."`
	State  string `query:"state" enum:"open,issued,refused,orphaned,revoked" doc:"Open and orphaned ones unless given."`
}

type resolution struct {
	ID   string `path:"id" maxLength:"64"`
	Body struct {
		Serial string `json:"serial,omitempty" maxLength:"63" doc:"Of the certificate that was found at the upstream: it is revoked there. Absent: there is none."`
		Note   string `json:"note" maxLength:"200" doc:"How that was found out."`
	}
}

func (d *door) addUpstreams() {
	const tag = "issuers"
	add(d, route{"list-upstreams", http.MethodGet, "/upstreams", policies.ScopeRead, tag, "List the CAs elsewhere that the configuration names", false}, d.listUpstreams)
	add(d, route{"adopt-upstream", http.MethodPost, "/upstreams/{name}/adopt", policies.ScopeSecurity, tag, "Make an issuer that an upstream signs for", true}, d.adoptUpstream)
	add(d, route{"list-intents", http.MethodGet, "/intents", policies.ScopeRead, tag, "List requests to upstreams, oldest first", false}, d.listIntents)
	add(d, route{"resolve-intent", http.MethodPost, "/intents/{id}/resolve", policies.ScopeSecurity, tag, "Say what became of an orphaned request to an upstream", false}, d.resolveIntent)
}

func (d *door) listUpstreams(ctx context.Context, in *Paging) (*listed[upstream], error) {
	issuers, err := d.Authority.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, d.Authority.Upstreams(), *in, "upstreams", func(name string) string { return name }, func(name string) (upstream, error) {
		u := upstream{Name: name, Issuers: []string{}}
		for _, i := range issuers {
			if i.Upstream == name {
				u.Issuers = append(u.Issuers, string(i.ID))
			}
		}
		return u, nil
	})
}

func (d *door) adoptUpstream(ctx context.Context, in *adoption) (*written[issuer], error) {
	request := ca.AdoptRequest{Upstream: in.Name}
	if in.Body != nil {
		request.Profile, request.Name = in.Body.Profile, in.Body.Name
	}
	if err := d.Engine.CheckProfile(ctx, request.Profile); err != nil {
		return nil, err
	}
	made, err := d.Authority.Adopt(ctx, actor(ctx), request)
	if err != nil {
		return nil, err
	}
	body, err := d.issuerOf(made, nil)
	return &written[issuer]{Status: http.StatusCreated, Location: prefix + "/issuers/" + url.PathEscape(string(made.ID)), Body: body}, err
}

// intentKey is where an intent stands in the list.
func intentKey(i ca.Intent) string { return strconv.FormatInt(i.Created.UnixMicro(), 10) + " " + i.ID }

func (d *door) listIntents(ctx context.Context, in *intentList) (*listed[intent], error) {
	f := ca.IntentFilter{Issuer: ca.IssuerID(in.Issuer), State: ca.IntentState(in.State), Unended: in.State == "", Limit: in.Limit + 1}
	after, err := in.after(d.Engine, "intents")
	if err != nil {
		return nil, err
	}
	if after != "" {
		micros, id, _ := strings.Cut(after, " ")
		at, err := strconv.ParseInt(micros, 10, 64)
		if err != nil {
			return nil, badCursor()
		}
		f.After = ca.Intent{ID: id, Created: time.UnixMicro(at)}
	}
	rows, err := d.Authority.Intents(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "intents", intentKey, intentOf)
}

func (d *door) resolveIntent(ctx context.Context, in *resolution) (*found[intent], error) {
	r := ca.Resolution{Note: in.Body.Note}
	if in.Body.Serial != "" {
		var err error
		if r.Serial, err = ca.ParseSerial(in.Body.Serial); err != nil {
			return nil, err
		}
	}
	i, err := d.Authority.ResolveIntent(ctx, actor(ctx), in.ID, r)
	if err != nil {
		return nil, err
	}
	body, err := intentOf(i)
	return &found[intent]{Body: body}, err
}
