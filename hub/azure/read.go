package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// queryPage is how many devices a page has.
const queryPage = 100

// twin is what a query shows of a device: its twin, with most of its identity in it.
type twin struct {
	DeviceID           string                   `json:"deviceId"`
	DeviceETag         string                   `json:"deviceEtag"`
	Status             string                   `json:"status"`
	StatusReason       string                   `json:"statusReason"`
	AuthenticationType provisioning.HubAuthType `json:"authenticationType"`
	Thumbprints        thumbprints              `json:"x509Thumbprint"`
	Capabilities       capabilities             `json:"capabilities"`
	DeviceScope        json.RawMessage          `json:"deviceScope"`
	ParentScopes       json.RawMessage          `json:"parentScopes"`
}

func (t twin) generation() int64 { return device{StatusReason: t.StatusReason}.generation() }

// Devices reads all devices by the hub's query, which may be minutes behind. Symmetric keys are not shown by it.
//
// Errors: those of each; Unavailable "hub-unreachable" and "hub-unavailable".
func (d *Driver) Devices(ctx context.Context, to provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	h, err := d.open(to)
	if err != nil {
		return err
	}
	answered, err := h.query(ctx, "SELECT * FROM devices", func(page []twin) error {
		list := make([]provisioning.HubFound, len(page))
		for i, t := range page {
			list[i] = t.found()
		}
		return each(list)
	})
	if err == nil && !answered {
		err = fault.New(fault.Unavailable, "hub-unavailable", "the hub answers no queries, or not to this policy: it wants the right ServiceConnect")
	}
	return err
}

func (t twin) found() provisioning.HubFound {
	a := provisioning.HubAuth{Type: t.AuthenticationType}
	for i, text := range []*string{t.Thumbprints.Primary, t.Thumbprints.Secondary} {
		a.Thumbprints[i] = strings.ToUpper(orEmpty(text))
	}
	return provisioning.HubFound{DeviceID: t.DeviceID, Enabled: t.Status == enabled, Auth: a, IoTEdge: t.Capabilities.IoTEdge}
}

// query gives each page of what a query finds to a function (contract §4.5); answered is false
// where the hub has something against the query.
func (h hub) query(ctx context.Context, text string, each func([]twin) error) (answered bool, err error) {
	next := ""
	for {
		header := []string{"x-ms-max-item-count", strconv.Itoa(queryPage)}
		if next != "" {
			header = append(header, "x-ms-continuation", next)
		}
		got, err := h.ask(ctx, http.MethodPost, "/devices/query", map[string]string{"query": text}, header...)
		if err != nil {
			return false, err
		}
		if got.status != http.StatusOK {
			return false, got.unlessRefused()
		}
		var page []twin
		if err := got.read(&page); err != nil {
			return false, err
		}
		if err := each(page); err != nil {
			return false, err
		}
		before := next
		switch next = got.header.Get("x-ms-continuation"); next {
		case "":
			return true, nil
		case before:
			return false, strange() // it would go on for ever
		}
	}
}
