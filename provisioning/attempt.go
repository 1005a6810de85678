package provisioning

import (
	"crypto/x509"
	"sync"

	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// Attempt is one device's claim to be somebody, as a door decoded it. Nothing in it
// is believed yet.
type Attempt struct {
	ID       verify.RegistrationID
	Spelled  string // the id as the device spelled it
	Evidence Evidence
	Door     string // "dps", "est"
	// Address is for the log and for pacing (threat model: no line of origin is believed);
	// an attempt without one is not paced.
	Address string
}

// Evidence is what the device showed. A TPM's keys, a token, key or code count before a
// certificate.
type Evidence struct {
	Chain      verify.Chain // TLS client certificates as sent, leaf first
	Connection *Connection  // the one they came on; nil: nothing is remembered
	Token      *verify.SASToken
	Key        *verify.Secret  // HTTP basic password of EST: the device's own key
	Code       verify.CodeHash // or a one-time code; zero: none
	TPM        *ShownTPM       // a TPM's keys: with a token signed by it, or to be asked for one
}

// ShownTPM is the keys that a device says its TPM has, and what the TPM says of the key of the
// request: by the attestation key, once that was bound to it.
type ShownTPM struct {
	Endorsement tpm.EndorsementKey
	StorageRoot tpm.StorageRootKey
	// Certificates are the manufacturer's for the endorsement key, and above; none need be shown.
	Certificates verify.Chain
	By           tpm.AttestationKey // zero: the device attests no key
	Attestation  tpm.Attestation    // zero: it does not yet
}

// sharedKey says that a group's key may have made it.
func (ev Evidence) sharedKey() bool { return ev.TPM == nil && (ev.Token != nil || ev.Key != nil) }

func (ev Evidence) mechanism() string {
	switch {
	case ev.TPM != nil:
		return string(verify.MechanismTPM)
	case !ev.Code.IsZero():
		return string(verify.MechanismCode)
	case ev.sharedKey():
		return string(verify.MechanismSymmetricKey)
	case len(ev.Chain) > 0:
		return string(verify.MechanismX509)
	}
	return "none"
}

// heldCertificates keeps parsed CA certificates. Bytes with a thumbprint never
// change, so nothing here can go stale; it is emptied when it grows large.
type heldCertificates struct {
	mu     sync.Mutex
	byHash map[verify.Thumbprint]verify.Link
}

const maxHeld = 1024

func (h *heldCertificates) link(held HeldCA) (verify.Link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.byHash[held.Thumbprint]; ok {
		return l, nil
	}
	cert, err := x509.ParseCertificate(held.Certificate)
	if err != nil {
		return verify.Link{}, err
	}
	if h.byHash == nil || len(h.byHash) >= maxHeld {
		h.byHash = make(map[verify.Thumbprint]verify.Link)
	}
	l := verify.NewLink(cert)
	h.byHash[held.Thumbprint] = l
	return l, nil
}
