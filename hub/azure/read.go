package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// queryPage is how many devices a page has.
const queryPage = 100

// A hub that is asked too often says when to go on, or is left alone for queryPause. One that wants
// longer than maxQueryPause is read another time.
const (
	queryPause    = 5 * time.Second
	maxQueryPause = time.Minute
)

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
// It has time: throttled, it goes on when the hub says, for as long as ctx allows.
//
// Errors: those of each; Unavailable "hub-unreachable" and "hub-unavailable".
func (d *Driver) Devices(ctx context.Context, to provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	h, err := d.open(to)
	if err != nil {
		return err
	}
	answered, err := h.query(ctx, h.askInTime, "SELECT * FROM devices", func(page []twin) error {
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

type asker func(ctx context.Context, method, path string, in any, header ...string) (answer, error)

// askInTime is ask that goes on when a hub that has too much to do says so.
func (h hub) askInTime(ctx context.Context, method, path string, in any, header ...string) (answer, error) {
	for {
		got, err := h.ask(ctx, method, path, in, header...)
		pause := cmp.Or(got.after, queryPause)
		if err != nil || got.status != http.StatusTooManyRequests || pause > maxQueryPause {
			return got, err
		}
		select {
		case <-ctx.Done():
			return got, nil
		case <-time.After(pause):
		}
	}
}

// query gives each page of what a query finds to a function (contract §4.5); answered is false
// where the hub has something against the query.
func (h hub) query(ctx context.Context, ask asker, text string, each func([]twin) error) (answered bool, err error) {
	next := ""
	for {
		header := []string{"x-ms-max-item-count", strconv.Itoa(queryPage)}
		if next != "" {
			header = append(header, "x-ms-continuation", next)
		}
		got, err := ask(ctx, http.MethodPost, "/devices/query", map[string]string{"query": text}, header...)
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
