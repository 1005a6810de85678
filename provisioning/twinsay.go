package provisioning

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// twinOwn is the desired property under which Muster speaks to devices of the built-in hub.
// What others put beside its words is left alone.
const twinOwn = "muster"

// sayInTwin puts words into a device's desired properties, each in the place of the one of
// its name before; nil takes one back. It answers false, and writes nothing, where nothing
// would change or nobody would read it: the device is on no built-in hub or was deleted
// there, the property is somebody else's, or the desired properties would take more than
// most octets. That is no error: whoever says something says it in the ledger too.
func sayInTwin(tx Tx, reg Registration, words map[string]any, most int, now time.Time) (bool, error) {
	if reg.Hub == "" {
		return false, nil
	}
	hub, err := tx.Hub(reg.Hub)
	if fault.Is(err, fault.NotFound) || err == nil && hub.Driver != BuiltIn {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rec, err := tx.HubRecord(reg.Hub, reg.hubDeviceID())
	if fault.Is(err, fault.NotFound) || err == nil && rec.Registration == nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	stored := rec.twin()
	next, _ := twinOf(stored, rec.Registration.Created)
	desired, err := withWords(next.Desired, words)
	if err != nil || desired == nil || len(desired) > most || bytes.Equal(desired, next.Desired) {
		return false, err
	}
	if !now.After(next.Updated) {
		now = next.Updated.Add(time.Microsecond) // the ETag must change
	}
	next.Desired, next.Updated = desired, now
	next.Version++
	next.DesiredVersion++
	return true, tx.UpdateTwin(reg.ID, next, writtenVersion(rec.Twin))
}

// withWords is what desired properties are with the words among them; nil where the place is
// taken.
func withWords(text []byte, words map[string]any) ([]byte, error) {
	desired, _ := object(text)
	if desired == nil {
		desired = map[string]any{}
	}
	own, ours := desired[twinOwn].(map[string]any)
	if _, taken := desired[twinOwn]; taken && !ours {
		return nil, nil
	}
	if own == nil {
		own = map[string]any{}
	}
	for name, said := range words {
		if own[name] = said; said == nil {
			delete(own, name)
		}
	}
	if desired[twinOwn] = own; len(own) == 0 {
		delete(desired, twinOwn)
	}
	return json.Marshal(desired)
}
