package provisioning

import (
	"strings"
	"time"

	"github.com/passmuster/muster/policies"
)

// readQuarantine reads where a device in quarantine is to live. It costs the others nothing.
func (d *decision) readQuarantine(tx Tx) error {
	reg := d.facts.Registration
	if reg == nil || reg.QuarantinedAt.IsZero() {
		return nil
	}
	q, err := tx.Quarantine(reg.ID)
	d.quarantine = &q
	return err
}

// isQuarantined says that a device is to live where its operator has it.
func (d *decision) isQuarantined() bool {
	return d.facts.Registration != nil && !d.facts.Registration.QuarantinedAt.IsZero()
}

// confine assigns a device in quarantine: neither allocation nor policy is asked.
func (d *decision) confine() (policies.Move, []byte) {
	q := d.quarantine
	d.noteQuarantine()
	current := d.facts.Registration.Hub
	if strings.EqualFold(current, q.Hub) {
		return policies.Move{Hub: q.Hub, Substatus: policies.ReprovisionedToInitialAssignment, Twin: policies.TwinKeep}, nil
	}
	substatus := policies.DeviceDataReset
	if current == "" {
		substatus = policies.InitialAssignment
	}
	return policies.Move{Hub: q.Hub, Substatus: substatus, Twin: policies.TwinReset}, q.Twin
}

func (d *decision) noteQuarantine() {
	q := d.quarantine
	d.trace.note("quarantine", "hub "+q.Hub, "in quarantine there since "+q.At.Format(time.RFC3339)+" ("+q.Why+"): the entry's allocation, reprovision policy and twin do not count until an operator ends it")
}
