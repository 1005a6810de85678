package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"
)

// Anchors is where a client's chain may end. Exactly one of the fields is used: with
// anything in Pinned the leaf must be one of those, byte for byte (an individual
// entry, or a leaf of ours standing in the pair; INV-C3); otherwise the path must end
// at one of Verified (anchors that proved possession, and our own issuers).
//
// Grace is how long past its end a pinned leaf still speaks: for the renewal by a device
// that slept, and nothing else.
type Anchors struct {
	Pinned   []Thumbprint
	Verified []Link
	Grace    time.Duration
}

// X509Evidence is a client certificate that TLS has proven the key of, with the
// registration id the client says it is. Memo may be nil.
type X509Evidence struct {
	ID    RegistrationID
	Chain Chain
	Memo  *Memo
}

// X509 makes an identity of a client certificate (protocols/dps.md, section 2.4;
// INV-C1 to C3). The leaf has exactly one CN, the registration id, case apart; is no
// CA (X12); allows clientAuth and signing; and lies within its dates. Refusals are
// Unauthenticated with rule "leaf-…" or "chain-…".
func X509(ev X509Evidence, roots Anchors, now time.Time) (Identity, error) {
	if err := ev.Chain.check(); err != nil {
		return Identity{}, err
	}
	leaf := ev.Chain.Leaf()
	if !namesDevice(leaf.Cert, ev.ID) {
		return Identity{}, refuse("leaf-names-other-device", "The client certificate does not name the registration id as its only CN.")
	}
	path, err := []Link{leaf}, error(nil)
	if len(roots.Pinned) > 0 {
		err = checkPinned(leaf, roots, now)
	} else {
		path, err = CheckDeviceChain(ev.Chain, roots.Verified, now, ev.Memo)
	}
	if err != nil {
		return Identity{}, err
	}
	return Identity{id: ev.ID, mechanism: MechanismX509, path: path, at: now}, nil
}

func checkPinned(leaf Link, roots Anchors, now time.Time) error {
	at := wholeSecond(now)
	if end := leaf.Cert.NotAfter; at.After(end) && !at.After(end.Add(roots.Grace)) {
		at = end
	}
	if err := checkDeviceLeaf(leaf.Cert, at); err != nil {
		return err
	}
	if !slices.Contains(roots.Pinned, leaf.Thumbprint) {
		return refuse("leaf-not-pinned", "The client certificate is not the one enrolled.")
	}
	return nil
}

// CheckDeviceChain asks of a chain all that [X509] asks but for the device's name, and
// returns the verified path, leaf first and anchor last.
func CheckDeviceChain(chain Chain, anchors []Link, now time.Time, memo *Memo) ([]Link, error) {
	if err := chain.check(); err != nil {
		return nil, err
	}
	second := wholeSecond(now)
	if err := checkDeviceLeaf(chain.Leaf().Cert, second); err != nil {
		return nil, err
	}
	return findPath(chain, anchors, x509.ExtKeyUsageClientAuth, second, memo)
}

// checkDeviceLeaf asks of a leaf what makes it a device's, whoever signed it.
func checkDeviceLeaf(leaf *x509.Certificate, now time.Time) error {
	switch {
	case leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0:
		return refuse("leaf-is-ca", "The client certificate is a CA certificate; only leaves speak for devices.")
	case !allowsClientAuth(leaf):
		return refuse("leaf-eku", "The extended key usage of the client certificate does not allow clientAuth.")
	case !allowsSigning(leaf):
		return refuse("leaf-key-usage", "The key usage of the client certificate does not allow digitalSignature.")
	}
	return checkLeafDates(leaf, now)
}

// CheckLeafDates refuses a leaf outside its dates: Unauthenticated, rule "leaf-not-yet-valid" or
// "leaf-expired".
func CheckLeafDates(leaf *x509.Certificate, now time.Time) error {
	return checkLeafDates(leaf, wholeSecond(now))
}

func checkLeafDates(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(leaf.NotBefore):
		return refuse("leaf-not-yet-valid", "The client certificate is valid only from %s.", stamp(leaf.NotBefore))
	case now.After(leaf.NotAfter):
		return refuse("leaf-expired", "The client certificate expired at %s.", stamp(leaf.NotAfter))
	}
	return nil
}

// wholeSecond is the second that now lies in: certificates know no less, and are
// valid through the whole of their last one (RFC 5280, section 4.1.2.5).
func wholeSecond(now time.Time) time.Time { return now.Truncate(time.Second) }

func namesDevice(leaf *x509.Certificate, id RegistrationID) bool {
	cn, ok := onlyCommonName(leaf)
	return ok && id.Matches(cn)
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// onlyCommonName is the CN of a subject that has exactly one.
func onlyCommonName(c *x509.Certificate) (string, bool) {
	found, cn := 0, ""
	for _, attribute := range c.Subject.Names {
		if attribute.Type.Equal(oidCommonName) {
			found++
			cn, _ = attribute.Value.(string)
		}
	}
	return cn, found == 1
}

// allowsClientAuth wants the purpose by name: anyExtendedKeyUsage alone does not do
// (RFC 5280, section 4.2.1.12, leaves that to the application).
func allowsClientAuth(c *x509.Certificate) bool {
	return extension(c, oidExtKeyUsage) == nil ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

func allowsSigning(c *x509.Certificate) bool {
	return extension(c, oidKeyUsage) == nil ||
		c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement) != 0
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
