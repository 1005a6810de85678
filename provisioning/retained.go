package provisioning

import (
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// RetainedRequest is the last certificate request of a device whose profile retains it
// (policies.RotationPolicy): it is signed again for a device that cannot ask.
type RetainedRequest struct {
	ID     verify.RegistrationID
	CSR    []byte // PKCS#10, DER; nil where it was not asked for
	KeptAt time.Time
	// Pending is the certificate that it was last signed into; zero: none, or one that has
	// been seen in use. It counts while it is staged in the device's pair.
	Pending rotation.Ref
}

// RetainedTx is what provisioning reads and writes of retained requests.
type RetainedTx interface {
	RetainedRequest(verify.RegistrationID) (RetainedRequest, error)
	// PutRetainedRequest keeps a request in the place of the one before; Pending stays as it is.
	PutRetainedRequest(RetainedRequest) error
	DeleteRetainedRequest(verify.RegistrationID) error
	// SetPending notes what a request was signed into; zero: nothing.
	SetPending(id verify.RegistrationID, ref rotation.Ref) error
	// PendingRequests lists those with a Pending by id, without their CSR.
	PendingRequests(after verify.RegistrationID, limit int) ([]RetainedRequest, error)
}

// retain makes the plan keep the request that it answers, where the profile says so. One
// with a challenge password is a secret of the device's, and a key that was made here was
// asked for with another key: neither is kept, and an older request ends with it.
func (p *plan) retain(r RegisterRequest, csr *x509.CertificateRequest) {
	if !p.issue.Renewal.Retain {
		return
	}
	p.kept = &RetainedRequest{ID: p.next.ID, KeptAt: p.next.Updated}
	if !r.ServerKey && !policies.HasChallenge(csr.Raw) {
		p.kept.CSR = csr.Raw
	}
}

// keep writes what the plan keeps of its request, and takes back what is pending no more.
func (p *plan) keep(tx Tx, d *decision) error {
	if k := p.kept; k != nil && k.CSR != nil {
		if err := tx.PutRetainedRequest(*k); err != nil {
			return err
		}
	}
	if p.endsPending(d) {
		if err := settlePending(tx, p.next, p.next.Updated); err != nil {
			return err
		}
	}
	if k := p.kept; k != nil && k.CSR == nil {
		return tx.DeleteRetainedRequest(k.ID)
	}
	return nil
}

// endsPending says whether a certificate that was pending may have been seen first, or have
// lost its slot, by what is at hand: a certificate later than the last operation was not
// asked for in one. What this misses is settled when the planner looks at the pair next.
func (p *plan) endsPending(d *decision) bool {
	was := d.facts.Registration
	if was == nil {
		return false
	}
	if p.kept != nil && len(p.next.Pair.Left(was.Pair)) > 0 {
		return true
	}
	if !d.own || d.facts.Issued == nil || !d.facts.Issued.Issued.After(was.Operation.At) {
		return false
	}
	ref := rotation.Ref(d.facts.Issued.Thumbprint)
	return isPending(was.Pair, ref) && !isPending(p.next.Pair, ref)
}

// isPending says whether a certificate waits in its pair to be seen.
func isPending(p rotation.Pair, ref rotation.Ref) bool {
	slot, held := p.Find(ref)
	return held && p.Cell(slot).State == rotation.Staged
}

// settlePending takes a certificate back that a device or an update service was to fetch,
// once it was seen in use or has left the pair of reg, as that stands after the transaction.
func settlePending(tx Tx, reg Registration, now time.Time) error {
	kept, err := tx.RetainedRequest(reg.ID)
	if fault.Is(err, fault.NotFound) || err == nil && (kept.Pending == rotation.Ref{} || isPending(reg.Pair, kept.Pending)) {
		return nil
	}
	return first(err, tx.SetPending(reg.ID, rotation.Ref{}), withdrawFromTwin(tx, reg, now))
}

// dropRetained forgets a device's request when its registration is deleted.
func dropRetained(tx Tx, reg Registration, now time.Time) error {
	reg.Pair = rotation.Pair{}
	return first(settlePending(tx, reg, now), tx.DeleteRetainedRequest(reg.ID))
}
