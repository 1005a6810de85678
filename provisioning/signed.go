package provisioning

import (
	"context"
	"crypto/x509"
	"reflect"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// signed is a certificate that an authority elsewhere signed for one request to register
// and that no commit has recorded. When the facts move and the request is decided anew, the
// same decision takes the same certificate; whatever is left at the end is abandoned.
type signed struct {
	unrecorded ca.Unrecorded
	profile    policies.Profile
	attestedBy verify.Thumbprint
}

// fits says that the certificate is what would be asked for now. Request and registration id
// are of one request.
func (s *signed) fits(a *ca.Authority, p policies.Profile, attestedBy verify.Thumbprint) bool {
	return s.attestedBy == attestedBy && reflect.DeepEqual(s.profile, p) && a.SignsFor(s.unrecorded, p)
}

// sign has the certificate of a plan signed.
func (e *Engine) sign(ctx context.Context, d *decision, r RegisterRequest, csr *x509.CertificateRequest, p policies.Profile, now time.Time) (ca.Unrecorded, error) {
	if had := r.asked.signed; had != nil {
		if had.fits(e.authority, p, d.attestedBy()) {
			return had.unrecorded, nil
		}
		e.abandon(ctx, r.asked, fault.New(fault.Conflict, "decision-moved", "another certificate was decided on"))
	}
	u, err := e.authority.Issue(ctx, d.identity, csr, p, d.attestedBy(), now)
	if err == nil && u.IsElsewhere() {
		r.asked.signed = &signed{unrecorded: u, profile: p, attestedBy: d.attestedBy()}
	}
	return u, err
}

// outcome is what the attempt to record a certificate means for the request.
func (a *asked) outcome(u ca.Unrecorded, err error) error {
	switch rule := fault.RuleOf(err); {
	case err == nil:
		a.signed = nil
	case rule == "serial-taken" && u.IsElsewhere():
		return fault.New(fault.Unavailable, "upstream-serial", "the authority that signs gave a serial number that it has given before").Because(err)
	case rule == "serial-taken":
		return errMoved // the unsent certificate is thrown away (INV-P8)
	case rule == "intent-settled":
		a.signed = nil // it was taken for an orphan
		return errMoved
	}
	return err
}

// abandon gives up what was signed elsewhere and not recorded. If that cannot be put on
// record now, the intent is still open and the sweep finds it.
func (e *Engine) abandon(ctx context.Context, a *asked, because error) {
	if a.signed == nil {
		return
	}
	why := "it was not recorded"
	if because != nil {
		why += ": " + because.Error()
	}
	if err := e.authority.Abandon(ctx, a.signed.unrecorded, why); err != nil {
		e.log.Error("a certificate of an authority elsewhere was not recorded, and that could not be noted", "serial", string(a.signed.unrecorded.Serial()), "problem", err)
	}
	a.signed = nil
}
