package provisioning

import (
	"context"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// LineageTx is the part of a transaction that walks from certificate to certificate.
type LineageTx interface {
	// CertificatesAfter lists the certificates issued to a device behind a position, in the
	// order of issue, without their DER.
	CertificatesAfter(id verify.RegistrationID, position int64, limit int) ([]ca.Certificate, error)
	// RegistrationsAttestedBy lists the devices that a certificate of others attested last,
	// as their leaf or above it, by id from after (exclusive). It may read all there are.
	RegistrationsAttestedBy(x verify.Thumbprint, after verify.RegistrationID, limit int) ([]Registration, error)
}

// Ancestor is a certificate that a request was made with. One that is not ours has
// only a thumbprint, and what holds it here.
type Ancestor struct {
	Thumbprint verify.Thumbprint
	Issued     *ca.Certificate // nil: somebody else issued it
	Holders    []Holder        // of somebody else's: the entries and anchors that hold it
}

// Descendant is a certificate that another one led to.
type Descendant struct {
	ca.Certificate
	Depth int // 1: requested with the certificate itself
}

// Lineage is where a certificate comes from and what came of it. Every certificate
// knows the one that its request was made with: one of ours was renewed, one of others
// attested the device; with a key or a one-time code there is none.
type Lineage struct {
	Thumbprint verify.Thumbprint
	Issued     *ca.Certificate // nil: it is not ours
	Holders    []Holder        // of one that is not ours
	Ancestors  []Ancestor      // nearest first; ours, and at the end perhaps somebody else's
	// MoreAncestors says that the walk up ended early: go on from the last.
	MoreAncestors bool
	Descendants   []Descendant // in the order of issue
	// Registrations are the devices that a certificate of others attested last.
	Registrations []Registration
	// Next, unless zero, is where to go on: the position of the last descendant.
	Next int64
	// NextDevice, unless zero, is the last of Registrations when there are more.
	NextDevice verify.RegistrationID
}

// LineageQuery asks for a certificate's lineage. Limit bounds each list of it.
type LineageQuery struct {
	Thumbprint  verify.Thumbprint
	Limit       int                   // 1 to 500
	After       int64                 // descendants behind this position: a Next
	AfterDevice verify.RegistrationID // devices behind this one: a NextDevice
}

// lineagePage is how many certificates of a device are read at once: a line may have
// thousands of renewals.
const lineagePage = 1000

// Lineage walks both ways from a certificate, ours or not. A certificate that nothing
// here knows is NotFound, "certificate-unknown".
func (e *Engine) Lineage(ctx context.Context, q LineageQuery) (l Lineage, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		l, err = readLineage(tx, q)
		return err
	})
	return l, err
}

func readLineage(tx Tx, q LineageQuery) (Lineage, error) {
	l := Lineage{Thumbprint: q.Thumbprint}
	own, err := issuedAs(tx, q.Thumbprint)
	if err != nil {
		return l, err
	}
	if own == nil {
		return l, l.outside(tx, q)
	}
	l.Issued = own
	if err := l.climb(tx, own.Parent, q.Limit); err != nil {
		return l, err
	}
	return l, l.descend(tx, q)
}

// issuedAs is our certificate of a thumbprint; nil if there is none.
func issuedAs(tx Tx, x verify.Thumbprint) (*ca.Certificate, error) {
	if x.IsZero() {
		return nil, nil // a filter by nothing would find anything
	}
	found, err := tx.Certificates(CertificateFilter{Thumbprint: x, Limit: 1})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// outside is what hangs on a certificate of others: the devices it attested last, as
// leaf or from above.
func (l *Lineage) outside(tx Tx, q LineageQuery) (err error) {
	if l.Holders, err = tx.HoldersOf(q.Thumbprint); err != nil {
		return err
	}
	if l.Registrations, err = tx.RegistrationsAttestedBy(q.Thumbprint, q.AfterDevice, q.Limit+1); err != nil {
		return err
	}
	if len(l.Registrations) > q.Limit {
		l.Registrations = l.Registrations[:q.Limit]
		l.NextDevice = l.Registrations[q.Limit-1].ID
	}
	if len(l.Holders) == 0 && len(l.Registrations) == 0 && q.AfterDevice.IsZero() {
		return fault.New(fault.NotFound, "certificate-unknown", "no certificate of this thumbprint was issued here, is held here, or has attested a device")
	}
	return nil
}

// climb follows what attested what, up to the first certificate that is not ours.
func (l *Lineage) climb(tx Tx, parent verify.Thumbprint, limit int) error {
	for ; !parent.IsZero(); parent = l.Ancestors[len(l.Ancestors)-1].Issued.Parent {
		if len(l.Ancestors) == limit {
			l.MoreAncestors = true
			return nil
		}
		a := Ancestor{Thumbprint: parent}
		var err error
		if a.Issued, err = issuedAs(tx, parent); err != nil {
			return err
		}
		if a.Issued == nil {
			a.Holders, err = tx.HoldersOf(parent)
			l.Ancestors = append(l.Ancestors, a)
			return err
		}
		l.Ancestors = append(l.Ancestors, a)
	}
	return nil
}

// descend reads the later certificates of the same device once: a certificate of ours
// speaks for no other, and comes before what was requested with it.
func (l *Lineage) descend(tx Tx, q LineageQuery) error {
	return descendants(tx, l.Issued.RegistrationID, q.Thumbprint, l.Issued.Position, func(d Descendant) bool {
		switch {
		case d.Position <= q.After:
		case len(l.Descendants) == q.Limit:
			l.Next = l.Descendants[q.Limit-1].Position
			return false
		default:
			l.Descendants = append(l.Descendants, d)
		}
		return true
	})
}

// descendants walks the certificates of a device behind a position that another one led to, in the
// order of issue, until each says false.
func descendants(tx Tx, id verify.RegistrationID, of verify.Thumbprint, at int64, each func(Descendant) bool) error {
	depth := map[verify.Thumbprint]int{of: 0}
	for {
		rows, err := tx.CertificatesAfter(id, at, lineagePage)
		if err != nil {
			return err
		}
		for _, c := range rows {
			at = c.Position
			above, is := depth[c.Parent]
			if !is {
				continue
			}
			depth[c.Thumbprint] = above + 1
			if !each(Descendant{c, above + 1}) {
				return nil
			}
		}
		if len(rows) < lineagePage {
			return nil
		}
	}
}
