package hubtest

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/passmuster/muster/provisioning"
)

// bulkAct is one device of a bulk; what it shall be is beside it.
type bulkAct struct {
	ID         string `json:"id"`
	ImportMode string `json:"importMode"`
	deviceBody
}

type bulkError struct {
	DeviceID string `json:"deviceId"`
	Code     string `json:"errorCode"`
	Status   string `json:"errorStatus"`
}

// bulk does each act for itself: what one refuses does not undo the others.
func (h *IoTHub) bulk(w http.ResponseWriter, body []byte) *problem {
	var acts []bulkAct
	if err := json.Unmarshal(body, &acts); err != nil || len(acts) == 0 || len(acts) > 100 {
		return badArgument("bulk")
	}
	seen := map[string]bool{}
	for _, a := range acts {
		if a.ID == "" || seen[a.ID] {
			return badArgument("bulk")
		}
		seen[a.ID] = true
	}
	failed := []bulkError{}
	for _, a := range acts {
		if h.timid && len(failed) > 0 {
			break
		}
		if p := h.act(a); p != nil {
			failed = append(failed, bulkError{a.ID, p.word, p.code})
		}
	}
	status := http.StatusOK
	if len(failed) > 0 {
		status = http.StatusBadRequest
	}
	reply(w, status, map[string]any{"isSuccessful": len(failed) == 0, "errors": failed, "warnings": []bulkError{}})
	return nil
}

func (h *IoTHub) act(a bulkAct) *problem {
	switch strings.ToLower(a.ImportMode) {
	case "create":
		return h.write(a.ID, "", a.deviceBody)
	case "update":
		return h.write(a.ID, "*", a.deviceBody)
	case "updateifmatchetag":
		return h.write(a.ID, strconv.Quote(a.ETag), a.deviceBody)
	case "delete":
		return h.remove(a.ID, "*")
	case "deleteifmatchetag":
		return h.remove(a.ID, strconv.Quote(a.ETag))
	}
	return badArgument("importMode")
}

// twinBody is what a query shows of a device.
type twinBody struct {
	DeviceID           string                   `json:"deviceId"`
	ETag               string                   `json:"etag"`
	DeviceETag         string                   `json:"deviceEtag"`
	Status             string                   `json:"status"`
	StatusReason       string                   `json:"statusReason,omitempty"`
	AuthenticationType provisioning.HubAuthType `json:"authenticationType"`
	Thumbprints        thumbprintBody           `json:"x509Thumbprint"`
	DeviceScope        string                   `json:"deviceScope,omitempty"`
	Capabilities       struct {
		IoTEdge bool `json:"iotEdge"`
	} `json:"capabilities"`
}

// readable is what it takes for a query.
var readable = regexp.MustCompile(`^SELECT \* FROM devices(?: WHERE deviceId IN \[('[^']*'(?:,'[^']*')*)\])?$`)

func (h *IoTHub) query(w http.ResponseWriter, r *http.Request, body []byte) *problem {
	var said struct{ Query string }
	if err := json.Unmarshal(body, &said); err != nil {
		return badArgument("body")
	}
	parts := readable.FindStringSubmatch(said.Query)
	size, err := strconv.Atoi(r.Header.Get("x-ms-max-item-count"))
	after, bad := base64.StdEncoding.DecodeString(r.Header.Get("x-ms-continuation"))
	if parts == nil || err != nil || size < 1 || bad != nil {
		return badArgument("query")
	}
	seen := h.devices
	if h.index != nil {
		seen = h.index
	}
	page := []twinBody{}
	w.Header().Set("x-ms-item-type", "Twin")
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if id <= string(after) || parts[1] != "" && !slices.Contains(strings.Split(parts[1], ","), "'"+id+"'") {
			continue
		}
		if len(page) == size {
			w.Header().Set("x-ms-continuation", encoded(page[size-1].DeviceID))
			break
		}
		b := seen[id].body()
		page = append(page, twinBody{
			DeviceID: id, ETag: "AAAAAAAAAAE=", DeviceETag: b.ETag, Status: b.Status, StatusReason: b.StatusReason, AuthenticationType: b.Authentication.Type,
			Thumbprints: b.Authentication.Thumbprints, DeviceScope: b.DeviceScope, Capabilities: b.Capabilities,
		})
	}
	reply(w, http.StatusOK, page)
	return nil
}
