package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/passmuster/muster/provisioning"
)

// act is one device of a bulk.
type act struct {
	ID           string          `json:"id"`
	ImportMode   string          `json:"importMode"`
	ETag         string          `json:"eTag,omitempty"`
	DeviceScope  json.RawMessage `json:"deviceScope,omitempty"`
	ParentScopes json.RawMessage `json:"parentScopes,omitempty"`
	*device
}

// bulk tells the hub of many devices in one call, and notes those it is done with. Its error is
// that the hub cannot be worked with now.
//
// What they are now comes of a query, which may be behind: the ETags say if it was.
func (h hub) bulk(ctx context.Context, list []provisioning.HubIdentity, done []bool) error {
	known, err := h.look(ctx, list)
	if known == nil || err != nil {
		return err
	}
	var acts []act
	var of []int
	for i, want := range list {
		twin, there := known[want.DeviceID]
		if there && twin.generation() > want.Generation {
			done[i] = true // want is out of date
		} else if a, ok := actOf(want, twin, there); ok {
			acts, of = append(acts, a), append(of, i)
		}
	}
	if len(acts) < 2 {
		return nil
	}
	got, err := h.ask(ctx, http.MethodPost, "/devices", acts)
	if err != nil {
		return err
	}
	if got.status != http.StatusOK {
		return got.unlessRefused()
	}
	var result struct {
		Successful *bool             `json:"isSuccessful"`
		Errors     []json.RawMessage `json:"errors"`
	}
	if err := got.read(&result); err != nil {
		return err
	}
	if result.Successful == nil {
		return strange()
	}
	for _, i := range of {
		done[i] = *result.Successful && len(result.Errors) == 0
	}
	return nil
}

// unlessRefused is nil of what the hub has something against: devices one by one tell what. For
// bulks and queries a policy may want the right, too.
func (a answer) unlessRefused() error {
	if a.status/100 == 4 && a.status != http.StatusTooManyRequests && a.status != http.StatusRequestTimeout {
		return nil
	}
	return a.unavailable()
}

// actOf is a device's part in a bulk; false: it is better told alone. So is one whose keys only
// the hub knows, as a query does not show them, and one to be removed that a query did not find.
func actOf(want provisioning.HubIdentity, twin twin, there bool) (act, bool) {
	a := act{ID: want.DeviceID, ImportMode: "create"}
	if there {
		a.ImportMode, a.ETag, a.DeviceScope, a.ParentScopes = "updateIfMatchETag", twin.DeviceETag, twin.DeviceScope, twin.ParentScopes
		if a.ETag == "" {
			return a, false
		}
	}
	if !want.Present {
		a.ImportMode = "deleteIfMatchETag"
		return a, there
	}
	keys := want.Auth.Keys
	if want.Auth.Type == provisioning.HubSAS && (keys[0].IsZero() || keys[1].IsZero()) {
		return a, false
	}
	if want.Auth.Type == provisioning.HubSelfSigned && want.Auth.Thumbprints == [2]string{} {
		return a, false
	}
	next, err := deviceOf(want, nil)
	a.device = &next
	return a, err == nil
}

// maxQuery is the length of a query that any hub takes.
const maxQuery = 4000

// look queries devices by their ids; nil: the hub answers no queries, or not to this policy.
func (h hub) look(ctx context.Context, list []provisioning.HubIdentity) (map[string]twin, error) {
	known := map[string]twin{}
	for len(list) > 0 {
		var ids []string
		for length := 0; len(list) > 0 && length+len(list[0].DeviceID) < maxQuery-100; list = list[1:] {
			ids = append(ids, "'"+list[0].DeviceID+"'")
			length += len(list[0].DeviceID) + len("'',")
		}
		answered, err := h.query(ctx, h.ask, "SELECT * FROM devices WHERE deviceId IN ["+strings.Join(ids, ",")+"]", func(page []twin) error {
			for _, t := range page {
				known[t.DeviceID] = t
			}
			return nil
		})
		if err != nil || !answered {
			return nil, err
		}
	}
	return known, nil
}
