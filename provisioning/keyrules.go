package provisioning

import (
	"crypto/x509"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// SetBlockList replaces the list of blocked keys; nil is an empty one.
func (e *Engine) SetBlockList(b *policies.BlockList) { e.blocked.Store(b) }

func (e *Engine) checkBlocked(key verify.KeyHash, csr *x509.CertificateRequest) error {
	return e.blocked.Load().Check(key, csr.PublicKey)
}

// checkReuse refuses the key that the device has just shown, or was first attested by,
// where each certificate needs a new one. Other uses of the key are known when it is held.
func (d *decision) checkReuse(rule policies.KeyReuse) error {
	if rule != policies.KeyReuseNever {
		return nil
	}
	reg := d.facts.Registration
	if len(d.chain) > 0 && d.chain[0].KeyHash == d.csrKey || reg != nil && reg.LeafKey == d.csrKey {
		return fault.New(fault.Malformed, "key-reused", "the key in the CSR has a certificate already; make a new one").At("/csr")
	}
	return nil
}

// holdKey puts on record whose key it is, where the profile has a rule about that.
func holdKey(tx Tx, rule policies.KeyReuse, key verify.KeyHash, id verify.RegistrationID) error {
	if rule == policies.KeyReuseAllowed {
		return nil
	}
	return tx.HoldKey(key, id, rule == policies.KeyReuseOwnOnly)
}
