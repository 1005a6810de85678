package verify

import (
	"bytes"
	"crypto/x509"
	"time"
)

// MechanismRetained is a request on record that is signed again: the device itself said
// nothing. It never becomes a registration's.
const MechanismRetained Mechanism = "retained"

// RetainedEvidence is a certificate of ours that stands in its device's pair, and the
// request on record that it came from. Grace is as in [Anchors].
type RetainedEvidence struct {
	ID    RegistrationID
	Leaf  Link
	CSR   *x509.CertificateRequest
	Grace time.Duration
}

// Retained makes an identity of a certificate on record without its device: whoever calls
// it has found the leaf issued here and standing, and judges what it rests on as for a
// renewal by that leaf. The request is signed by its key, which is the leaf's key, and names
// the device; the leaf is asked what [X509] asks of a pinned one. The path is the leaf alone.
//
// Refusals are Unauthenticated with rule "leaf-…", "retained-key-differs",
// "retained-names-other-device" or "retained-signature".
func Retained(ev RetainedEvidence, now time.Time) (Identity, error) {
	if !namesDevice(ev.Leaf.Cert, ev.ID) {
		return Identity{}, refuse("leaf-names-other-device", "The certificate does not name the registration id as its only CN.")
	}
	if err := checkPinned(ev.Leaf, Anchors{Pinned: []Thumbprint{ev.Leaf.Thumbprint}, Grace: ev.Grace}, now); err != nil {
		return Identity{}, err
	}
	switch {
	case !bytes.Equal(ev.CSR.RawSubjectPublicKeyInfo, ev.Leaf.Cert.RawSubjectPublicKeyInfo):
		return Identity{}, refuse("retained-key-differs", "The request on record is for another key than the certificate in use.")
	case !ev.ID.Matches(ev.CSR.Subject.CommonName):
		return Identity{}, refuse("retained-names-other-device", "The request on record names another device.")
	case ev.CSR.CheckSignature() != nil:
		return Identity{}, refuse("retained-signature", "The request on record is not signed by the key in it.")
	}
	return Identity{id: ev.ID, mechanism: MechanismRetained, path: []Link{ev.Leaf}, at: now}, nil
}
