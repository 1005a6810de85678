package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// tripwire is one that a device tripped.
type tripwire struct {
	ID             string     `json:"id"`
	RegistrationID string     `json:"registrationId"`
	Kind           string     `json:"kind" enum:"old-certificate,shared-key,two-chains"`
	Object         string     `json:"object" doc:"What it was tripped with: certificate SERIAL, certificate SHA-256, or the registration that has the same key."`
	Detail         string     `json:"detail"`
	Count          int64      `json:"count" doc:"How often it was seen in its period."`
	First          *time.Time `json:"firstDateTimeUtc"`
	Last           *time.Time `json:"lastDateTimeUtc"`
	Door           string     `json:"door,omitempty" doc:"Where it was seen last."`
	Address        string     `json:"address,omitempty" doc:"From where it was seen last; anybody may give any."`
	Held           bool       `json:"held" doc:"The registration was held for it."`
}

func tripwireOf(x provisioning.Tripwire) (tripwire, error) {
	return tripwire{
		ID: x.ID, RegistrationID: x.Registration.String(), Kind: string(x.Kind), Object: x.Object, Detail: sentence(x.Detail), Count: x.Count,
		First: instant(x.First), Last: instant(x.Last), Door: x.Door, Address: x.Address, Held: x.Held,
	}, nil
}

type tripwireList struct {
	Paging
	Kind         string `query:"kind" enum:"old-certificate,shared-key,two-chains"`
	Registration string `query:"registration" maxLength:"128" doc:"Of this device."`
}

func (d *door) addTripwires() {
	add(d, route{"list-tripwires", http.MethodGet, "/tripwires", policies.ScopeRead, "tripwires", "List the devices that looked like two, newest first", false}, d.listTripwires)
}

func (d *door) listTripwires(ctx context.Context, in *tripwireList) (*listed[tripwire], error) {
	f := provisioning.TripwireFilter{Limit: in.Limit + 1, Kind: provisioning.TripwireKind(in.Kind)}
	var err error
	if in.Registration != "" {
		if f.Registration, err = verify.ParseRegistrationID(in.Registration); err != nil {
			return nil, err
		}
	}
	if f.Before, err = in.after(d.Engine, "tripwires"); err != nil {
		return nil, err
	}
	rows, err := d.Engine.Tripwires(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "tripwires", func(x provisioning.Tripwire) string { return x.ID }, tripwireOf)
}
