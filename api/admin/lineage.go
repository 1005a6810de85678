package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// lineage is where a certificate comes from and what came of it.
type lineage struct {
	Thumbprint    string         `json:"thumbprint" doc:"SHA-256."`
	Certificate   *issued        `json:"certificate,omitempty" doc:"Absent: somebody else issued it."`
	HeldBy        []string       `json:"heldBy,omitempty" doc:"Of somebody else's: the entries and anchors that hold it."`
	Ancestors     []ancestor     `json:"ancestors" nullable:"false" doc:"What it was requested with, what that was requested with, and so on. Empty: requested with a key or a one-time code."`
	MoreAncestors bool           `json:"moreAncestors,omitempty" doc:"There are more: read the lineage of the last."`
	Descendants   []descendant   `json:"descendants" nullable:"false" doc:"What was requested with it, and with that, in the order of issue."`
	Registrations []attestedHere `json:"registrations,omitempty" doc:"Of somebody else's: the devices it attested last, as their leaf or above it."`
	Next          string         `json:"next,omitempty" doc:"The cursor of more descendants or registrations; absent at the end."`
}

// ancestor is one step up.
type ancestor struct {
	Relation    string   `json:"relation" enum:"renewedFrom,attestedBy" doc:"renewedFrom: it was issued here. attestedBy: it was not, and the walk ends."`
	Thumbprint  string   `json:"thumbprint" doc:"SHA-256."`
	Certificate *issued  `json:"certificate,omitempty"`
	HeldBy      []string `json:"heldBy,omitempty" doc:"The entries and anchors that hold it."`
}

// descendant is a certificate further down.
type descendant struct {
	Depth int `json:"depth" doc:"1: requested with the certificate itself."`
	issued
}

// attestedHere is a device that an outside certificate vouched for.
type attestedHere struct {
	RegistrationID string          `json:"registrationId"`
	Status         string          `json:"status" enum:"unassigned,assigning,assigned,failed"`
	Certificate    *certificateRef `json:"certificate,omitempty" doc:"The last one issued to the device."`
}

type (
	lineageOfSerial struct {
		Serial
		Paging
	}
	lineageOfThumbprint struct {
		Thumbprint string `path:"thumbprint" maxLength:"192" doc:"SHA-256, hex in any spelling, of any certificate."`
		Paging
	}
)

func (d *door) addLineage() {
	const tag = "certificates"
	add(d, route{"get-certificate-lineage", http.MethodGet, "/certificates/{serial}/lineage", policies.ScopeRead, tag, "Walk from an issued certificate to what it came from and what came of it", false}, d.lineageOfSerial)
	add(d, route{"get-lineage", http.MethodGet, "/lineage/{thumbprint}", policies.ScopeRead, tag, "Walk from any certificate, issued here or not. For one that is not, all registrations may be read", false}, d.lineageOfThumbprint)
}

func (d *door) lineageOfSerial(ctx context.Context, in *lineageOfSerial) (*found[lineage], error) {
	issuer, serial, err := in.parse()
	if err != nil {
		return nil, err
	}
	c, err := d.Engine.Certificate(ctx, issuer, serial)
	if err != nil {
		return nil, err
	}
	return d.lineage(ctx, c.Thumbprint, in.Paging)
}

func (d *door) lineageOfThumbprint(ctx context.Context, in *lineageOfThumbprint) (*found[lineage], error) {
	x, err := verify.ParseThumbprint(in.Thumbprint)
	if err != nil {
		return nil, err
	}
	return d.lineage(ctx, x, in.Paging)
}

func (d *door) lineage(ctx context.Context, x verify.Thumbprint, p Paging) (*found[lineage], error) {
	list := "lineage " + x.String()
	after, err := p.after(d.Engine, list)
	if err != nil {
		return nil, err
	}
	q := provisioning.LineageQuery{Thumbprint: x, Limit: p.Limit}
	// A cursor is a position among descendants or the name of a device.
	if id, named := strings.CutPrefix(after, "device:"); named {
		q.AfterDevice, err = verify.ParseRegistrationID(id)
	} else if after != "" {
		q.After, err = strconv.ParseInt(after, 10, 64)
	}
	if err != nil {
		return nil, badCursor()
	}
	l, err := d.Engine.Lineage(ctx, q)
	if err != nil {
		return nil, err
	}
	body, err := d.lineageView(l)
	switch {
	case l.Next != 0:
		body.Next = cursor(d.Engine, list, strconv.FormatInt(l.Next, 10))
	case !l.NextDevice.IsZero():
		body.Next = cursor(d.Engine, list, "device:"+l.NextDevice.String())
	}
	return &found[lineage]{Body: body}, err
}

func (d *door) lineageView(l provisioning.Lineage) (lineage, error) {
	out := lineage{
		Thumbprint: l.Thumbprint.String(), HeldBy: heldBy(l.Holders), MoreAncestors: l.MoreAncestors,
		Ancestors: []ancestor{}, Descendants: []descendant{},
	}
	if l.Issued != nil {
		own, err := d.issuedOf(*l.Issued)
		if err != nil {
			return out, err
		}
		out.Certificate = &own
	}
	for _, a := range l.Ancestors {
		step := ancestor{Relation: "attestedBy", Thumbprint: a.Thumbprint.String(), HeldBy: heldBy(a.Holders)}
		if a.Issued != nil {
			c, err := d.issuedOf(*a.Issued)
			if err != nil {
				return out, err
			}
			step.Relation, step.Certificate = "renewedFrom", &c
		}
		out.Ancestors = append(out.Ancestors, step)
	}
	for _, x := range l.Descendants {
		c, err := d.issuedOf(x.Certificate)
		if err != nil {
			return out, err
		}
		out.Descendants = append(out.Descendants, descendant{x.Depth, c})
	}
	for _, r := range l.Registrations {
		view, err := registrationOf(r)
		if err != nil {
			return out, err
		}
		out.Registrations = append(out.Registrations, attestedHere{r.Spelled, string(r.State), view.Certificate})
	}
	return out, nil
}

// heldBy names holders as people do: "group line-3", "anchor factory".
func heldBy(holders []provisioning.Holder) []string {
	var names []string
	for _, h := range holders {
		if h.Anchor != "" {
			names = append(names, "anchor "+h.Anchor)
		} else {
			names = append(names, h.Owner.String())
		}
	}
	return names
}
