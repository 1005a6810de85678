package admin

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

type (
	// expiryRole counts the credentials of a role. Each is in one of endless, ended, later
	// and a week's ending.
	expiryRole struct {
		Role    string     `json:"role" doc:"device, enrollment, group, key, access, anchor, issuer, ocsp or server."`
		Total   int64      `json:"total"`
		Endless int64      `json:"endless,omitempty" doc:"Have no end: keys."`
		Ended   int64      `json:"ended,omitempty" doc:"Their end is over."`
		Later   int64      `json:"later,omitempty" doc:"End after the weeks asked for."`
		Soonest *time.Time `json:"soonest,omitempty" doc:"The first end to come of those without a successor."`
	}
	// expiryWeek counts a week of a role.
	expiryWeek struct {
		Week      string `json:"week" doc:"ISO 8601." example:"2026-W48"`
		Begins    string `json:"begins" doc:"Its Monday, UTC." example:"2026-11-23"`
		Role      string `json:"role"`
		Ending    int64  `json:"ending" doc:"End in this week."`
		Succeeded int64  `json:"succeeded" doc:"Of those, have a successor already."`
		Renewals  int64  `json:"renewals" doc:"Want their successor in this week, two thirds into their lives unless a profile or plan says otherwise; what is late, in the first week."`
	}
	expiryQuery struct {
		Weeks int    `query:"weeks" minimum:"1" maximum:"156" default:"12" doc:"So many weeks, this one included."`
		Role  string `query:"role" enum:"device,enrollment,group,key,access,anchor,issuer,ocsp,server"`
	}
	expiry struct {
		Body struct {
			Surveyed *time.Time   `json:"surveyed" doc:"When all this was counted: once an hour."`
			Took     float64      `json:"tookSeconds" doc:"What counting took."`
			Roles    []expiryRole `json:"roles" nullable:"false"`
			Weeks    []expiryWeek `json:"weeks" nullable:"false" doc:"Weeks in which something happens, in order."`
		}
	}
)

// serverRole is the role of Muster's own TLS certificate, which is this process's and in no
// table.
const serverRole = "server"

func (d *door) addExpiry() {
	const tag = "rotation"
	add(d, route{"get-expiry", http.MethodGet, "/expiry", policies.ScopeRead, tag, "What ends in which week, by role, and how many renewals to expect", false}, d.getExpiry)
}

func (d *door) getExpiry(ctx context.Context, in *expiryQuery) (*expiry, error) {
	s, err := d.Engine.Survey(ctx)
	if err != nil {
		return nil, err
	}
	if cert := d.ServerCertificate(); cert != nil {
		s.Roles = append(s.Roles, provisioning.SurveyOf(serverRole, cert, d.Now()))
	}
	out := new(expiry)
	out.Body.Surveyed, out.Body.Took = instant(s.At), s.Took.Seconds()
	out.Body.Roles, out.Body.Weeks = []expiryRole{}, []expiryWeek{}
	last := provisioning.WeekOf(d.Now()).AddDate(0, 0, 7*in.Weeks)
	for _, r := range s.Roles {
		if in.Role != "" && string(r.Role) != in.Role {
			continue
		}
		role := expiryRole{Role: string(r.Role), Total: r.Total, Endless: r.Endless, Ended: r.Ended, Later: r.Later, Soonest: instant(r.Soonest)}
		for _, w := range r.Weeks {
			if !w.Begins.Before(last) {
				role.Later += w.Ending
				continue
			}
			out.Body.Weeks = append(out.Body.Weeks, expiryWeek{
				Week: isoWeek(w.Begins), Begins: w.Begins.Format(time.DateOnly), Role: role.Role, Ending: w.Ending, Succeeded: w.Succeeded, Renewals: w.Renewals,
			})
		}
		out.Body.Roles = append(out.Body.Roles, role)
	}
	return out, nil
}

func isoWeek(t time.Time) string {
	year, week := t.ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, week)
}

// noCertificate is the server certificate of a door that has no listener of its own.
func noCertificate() *x509.Certificate { return nil }
