package provisioning

import (
	"slices"
	"time"

	"github.com/passmuster/muster/verify"
)

// rebases says that the registration comes to rest on something else than before, another
// entry or another attestation, while certificates of ours still stand in its pair.
func (d *decision) rebases(now time.Time) bool {
	reg := d.facts.Registration
	if d.own || reg == nil || len(reg.Pair.Live(now)) == 0 {
		return false
	}
	var leaf verify.Thumbprint
	var chain ChainID
	if path := d.identity.Path(); len(path) > 0 {
		leaf, chain = path[0].Thumbprint, chainID(path[1:])
	}
	return reg.Owner != d.entry.Owner || reg.Leaf != leaf || reg.Chain != chain
}

// revives says that the certificates in the pair speak for nobody as things stand: their
// entry is gone, disabled or shadowed, or what attested the device then is refused now. A new
// attestation is about who shows it, and must not bring them back (INV-D3, D5).
func (e *Engine) revives(d *decision) bool {
	reg := d.facts.Registration
	individual, shadowed := d.facts.Individual(reg.ID)
	owner, there := d.facts.Entry(reg.Owner)
	if reg.Owner.IsZero() || !there || !owner.Enabled || shadowed && reg.Owner != individual.Owner {
		return true
	}
	then := decision{query: d.query, facts: d.facts, chain: d.chain, csrKey: d.csrKey, own: true}
	then.rests = d.rests
	return e.refusal(&then) != nil ||
		slices.ContainsFunc(d.facts.Holders, func(h Holder) bool { return !h.Enabled && d.outside(h.Thumbprint) }) ||
		then.vouchedStill(*reg) != nil
}
