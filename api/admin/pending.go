package admin

import (
	"bytes"
	"context"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	mediaTypeJSON   = "application/json"
	mediaTypePEM    = "application/pem-certificate-chain" // RFC 8555 §9.1
	mediaTypeNDJSON = "application/x-ndjson"
)

type renewalWindow struct {
	From *time.Time `json:"from" doc:"When a successor is due."`
	By   *time.Time `json:"by" doc:"When the device is reminded."`
}

func renewalWindowOf(w provisioning.RenewalWindow) *renewalWindow {
	if w.IsZero() {
		return nil
	}
	return &renewalWindow{From: instant(w.From), By: instant(w.By)}
}

type pendingGet struct {
	EntryID
	Accept string `header:"Accept" doc:"application/pem-certificate-chain for PEM without the root; else JSON."`
}

type pendingList struct {
	After string `query:"after" maxLength:"128" doc:"Devices behind this registration id: that of the last line read."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"500" doc:"At most so many lines."`
}

// octets is an answer in bytes of a media type.
type octets struct {
	ContentType string `header:"Content-Type"`
	ETag        string `header:"ETag"`
	Body        []byte
}

type resign struct {
	EntryID
	Body *struct {
		Reason string `json:"reason,omitempty" doc:"Why, as RFC 5280 spells it: superseded unless given. keyCompromise is refused, because the key would be the same."`
	}
}

func (d *door) addPending() {
	const tag = "registrations"
	one := route{"get-pending-certificate", http.MethodGet, "/registrations/{id}/certificates/pending", policies.ScopeRead, tag, "The certificate that waits for a device: made without its asking, and not yet seen in use", false}
	list := route{"list-pending-certificates", http.MethodGet, "/certificates/pending", policies.ScopeRead, tag, "The certificates that wait for devices, a JSON object on each line, by registration id. An empty answer is the end", false}
	add(d, one, d.getPending)
	add(d, list, d.listPending)
	add(d, route{"resign", http.MethodPost, "/registrations/{id}/resign", policies.ScopeRotate, tag, "Sign a device's request on record again, due or not", false}, d.resign)

	paths := d.api.OpenAPI().Paths
	schema := d.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[issued](), true, "")
	paths[one.path].Get.Responses["200"].Content = map[string]*huma.MediaType{
		mediaTypeJSON: {Schema: schema}, mediaTypePEM: {Schema: &huma.Schema{Type: huma.TypeString}},
	}
	paths[list.path].Get.Responses["200"].Content = map[string]*huma.MediaType{
		mediaTypeNDJSON: {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "Each line is as the answer for one device."}},
	}
}

func (d *door) pendingOf(p provisioning.PendingCertificate) (issued, error) {
	out, err := d.issuedOf(p.Certificate)
	out.Pem, out.Chain = pemOf(p.DER), pemOf(p.Above...)
	return out, err
}

func (d *door) getPending(ctx context.Context, in *pendingGet) (*octets, error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	p, err := d.Engine.Pending(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &octets{ETag: `"` + p.Thumbprint.String() + `"`}
	if strings.Contains(in.Accept, mediaTypePEM) {
		out.ContentType, out.Body = mediaTypePEM, []byte(pemOf(append([][]byte{p.DER}, p.Above[:max(0, len(p.Above)-1)]...)...))
		return out, nil
	}
	body, err := d.pendingOf(p)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = encode(&b, body)
	out.ContentType, out.Body = mediaTypeJSON, b.Bytes()
	return out, err
}

// listPending goes on until it has a line: a page of devices may have none that is to be had.
func (d *door) listPending(ctx context.Context, in *pendingList) (*octets, error) {
	var after verify.RegistrationID
	var err error
	if in.After != "" {
		if after, err = verify.ParseRegistrationID(in.After); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	for b.Len() == 0 {
		page, next, err := d.Engine.PendingCertificates(ctx, after, in.Limit)
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			line, err := d.pendingOf(p)
			if err != nil {
				return nil, err
			}
			if err := encode(&b, line); err != nil {
				return nil, err
			}
		}
		if after = next; next.IsZero() {
			break
		}
	}
	return &octets{ContentType: mediaTypeNDJSON, Body: b.Bytes()}, nil
}

func (d *door) resign(ctx context.Context, in *resign) (*found[issued], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	reason := ca.Superseded
	if in.Body != nil && in.Body.Reason != "" {
		if reason, err = ca.ParseReason(in.Body.Reason); err != nil {
			return nil, at(err, "/reason")
		}
	}
	c, err := d.Engine.Resign(ctx, actor(ctx), id, reason)
	if err != nil {
		return nil, err
	}
	body, err := d.issuedOf(c)
	return &found[issued]{Body: body}, err
}
