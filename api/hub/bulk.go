package hub

import (
	"net/http"
	"strings"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// bulkBody answers a bulk: 200, or 400 with what was refused. The rest was done.
type bulkBody struct {
	Successful bool        `json:"isSuccessful"`
	Errors     []bulkError `json:"errors"`
	Warnings   []bulkError `json:"warnings"`
}

type bulkError struct {
	DeviceID string `json:"deviceId"`
	Code     string `json:"errorCode"`
	Status   string `json:"errorStatus"`
}

func bulk(k call) error {
	var bodies []deviceBody
	if err := k.read(maxBulkBody, &bodies); err != nil {
		return err
	}
	acts, err := actsOf(k.hub, bodies)
	if err != nil {
		return err
	}
	refused, err := k.engine.ChangeHubDevices(k.ctx(), k.actor, acts)
	if err != nil {
		return err
	}
	out := bulkBody{Successful: true, Errors: []bulkError{}, Warnings: []bulkError{}}
	status := http.StatusOK
	for i, err := range refused {
		if err != nil {
			status, out.Successful = http.StatusBadRequest, false
			out.Errors = append(out.Errors, bulkError{acts[i].Draft.Spelled, answerOf(err).word, azure.MessageOf(err)})
		}
	}
	return k.reply(status, out)
}

// actsOf reads a bulk. What cannot be read refuses all of it: nothing was done.
func actsOf(hub string, bodies []deviceBody) ([]provisioning.HubAct, error) {
	acts := make([]provisioning.HubAct, len(bodies))
	for i, b := range bodies {
		if b.ID == nil {
			return nil, fault.New(fault.Malformed, "device-id", "A device of a bulk has no id.")
		}
		b.DeviceID = nil // what a bulk calls a device is its id
		draft, err := b.draft(hub, *b.ID)
		if err != nil {
			return nil, err
		}
		acts[i].Draft = draft
		if err := b.mode(&acts[i]); err != nil {
			return nil, err
		}
	}
	return acts, nil
}

// mode reads an importMode; clients differ in the case of the words (§8). Without one it
// is Azure's first, createOrUpdate.
func (b deviceBody) mode(act *provisioning.HubAct) error {
	word := strings.ToLower(b.ImportMode)
	base, matching := strings.CutSuffix(word, "ifmatchetag")
	switch base {
	case "create":
		if matching {
			return badMode()
		}
		return nil
	case "", "createorupdate":
		if matching {
			return badMode()
		}
		act.Upsert = true
		return nil
	case "delete":
		act.Remove = true
	case "update":
	default:
		return badMode()
	}
	act.Pre = provisioning.Precondition{Any: true}
	if !matching {
		return nil
	}
	var err error
	if act.Pre, err = azure.ParseIfMatch(b.ETag); err == nil && act.Pre == (provisioning.Precondition{}) {
		err = fault.New(fault.Malformed, "if-match", "The import mode compares ETags, and the device has none.")
	}
	return err
}

func badMode() error {
	return fault.New(fault.Malformed, "import-mode", "The importMode is none of create, createOrUpdate, update, updateIfMatchETag, delete and deleteIfMatchETag.")
}
