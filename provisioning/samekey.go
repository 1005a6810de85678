package provisioning

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// SameKey is another certificate with the key of one that is disallowed: renewals keep keys, and
// CAs are cross-signed.
type SameKey struct {
	Thumbprint   verify.Thumbprint
	Registration verify.RegistrationID // that attests with it; zero: none does
	Subject      string                // "": the certificate itself is not on record
	NotAfter     time.Time             // zero, too
	Refused      bool                  // with it, by the scope; else it stays good
}

// maxSameKey is how many of them a preview names.
const maxSameKey = 100

// sameKey lists the other certificates with the key: those that devices attest with, those that we
// issued, links of chains that devices came with, and what anchors and entries hold under its name.
func (c compromise) sameKey(tx Tx) (list []SameKey, err error) {
	ders, err := tx.WithKey(c.link, maxSameKey)
	if err != nil {
		return nil, err
	}
	cas, err := tx.HeldCAsNamed(verify.NameHash(c.link.Cert.RawSubject))
	if err != nil {
		return nil, err
	}
	ders = append(ders, cas...)
	if id, err := verify.ParseRegistrationID(c.link.Cert.Subject.CommonName); err == nil {
		pinned, err := pinnedBy(tx, id)
		if err != nil {
			return nil, err
		}
		ders = append(ders, pinned...)
	}
	devices, err := tx.AttestingWith(c.link.KeyHash, maxSameKey)
	if err != nil {
		return nil, err
	}
	attests := map[verify.Thumbprint]verify.RegistrationID{}
	for _, d := range devices {
		attests[d.Leaf] = d.ID
	}
	seen := map[verify.Thumbprint]bool{c.link.Thumbprint: true}
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		l := verify.NewLink(cert)
		if seen[l.Thumbprint] || l.KeyHash != c.link.KeyHash {
			continue
		}
		seen[l.Thumbprint] = true
		list = append(list, SameKey{Thumbprint: l.Thumbprint, Registration: attests[l.Thumbprint], Subject: cert.Subject.String(), NotAfter: cert.NotAfter, Refused: c.hits(l)})
	}
	for _, d := range devices {
		if !seen[d.Leaf] {
			seen[d.Leaf] = true
			list = append(list, SameKey{Thumbprint: d.Leaf, Registration: d.ID, Refused: c.scope != DisallowCertificate})
		}
	}
	slices.SortFunc(list, func(a, b SameKey) int { return bytes.Compare(a.Thumbprint[:], b.Thumbprint[:]) })
	return list[:min(len(list), maxSameKey)], nil
}

// pinnedBy are the certificates that a device's own enrollment holds.
func pinnedBy(tx Tx, id verify.RegistrationID) (ders [][]byte, err error) {
	entry, err := tx.Enrollment(Owner{Kind: Individual, ID: id})
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := readSlots(tx, entry)
	for _, h := range s.holds {
		if h.link.Cert != nil {
			ders = append(ders, h.link.Cert.Raw)
		}
	}
	return ders, err
}
