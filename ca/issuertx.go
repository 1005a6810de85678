package ca

import (
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// IssuerTx is what the coming and going of issuers reads and writes.
type IssuerTx interface {
	// IssuerPair is the two slots of a role and profile, restored from [Cells].
	IssuerPair(role Role, profile string) (rotation.Pair, error)
	// MoveIssuer writes State, Slot and RetireAt of an issuer that is in the state was;
	// fault.Conflict, rule "issuer-moved", when it is not. It moves the epoch of trust.
	MoveIssuer(i Issuer, was IssuerState) error
	// LastExpiry is when the last certificate ends that an issuer signed and that was put on
	// record after a position, and the position of the last of them; zeros for none. Revoked
	// ones count: each is on a CRL until it has expired (INV-S6).
	LastExpiry(issuer IssuerID, after int64) (ends time.Time, last int64, err error)

	IssuerRequests() ([]IssuerRequest, error)
	InsertIssuerRequest(IssuerRequest) error
	DeleteIssuerRequest(IssuerID) error

	CrossCertificates() ([]CrossCertificate, error)
	InsertCrossCertificate(CrossCertificate) error
}

// IssuerRequest is an issuing CA whose key is made and whose certificate somebody else is
// to sign. Its ID becomes the issuer's.
type IssuerRequest struct {
	ID      IssuerID
	Name    string
	Profile string
	KeyURI  string
	CSR     []byte // PKCS#10, DER
	Created time.Time
}

// CrossCertificate is one more certificate for a root's key, signed by another root: who
// trusts SignedBy alone trusts what is below Issuer by it.
type CrossCertificate struct {
	Issuer      IssuerID // whose name and key it certifies
	SignedBy    IssuerID
	Certificate []byte // DER
	Created     time.Time
}

// Cells are the slots of a role and profile as the issuers on record fill them. A Retiring
// issuer whose slot the next one took stands outside the pair (architecture §6, Rotation
// step 6). The dates of a cell are left to the certificate.
func Cells(issuers []Issuer, role Role, profile string) (cells [2]rotation.Cell) {
	var since [2]time.Time
	for _, i := range issuers {
		c := rotation.Cell{Ref: i.ref(), RetireAt: i.RetireAt}
		switch i.State {
		case IssuerPrepared:
			c.State = rotation.Staged
		case IssuerActive:
			c.State = rotation.Active
		case IssuerRetiring:
			c.State = rotation.Retiring
		default:
			continue
		}
		at := &cells[i.Slot]
		later := at.State == rotation.Empty || at.State == rotation.Retiring && (c.State != rotation.Retiring || i.Created.After(since[i.Slot]))
		if i.Role == role && i.Profile == profile && later {
			*at, since[i.Slot] = c, i.Created
		}
	}
	return cells
}

// key is the hash of the issuer's public key.
func (i Issuer) key() verify.KeyHash {
	c, err := x509.ParseCertificate(i.Certificate)
	if err != nil {
		return verify.KeyHashOf(i.Certificate) // damaged: like itself alone
	}
	return verify.KeyHashOf(c.RawSubjectPublicKeyInfo)
}

func (i Issuer) ref() rotation.Ref { return rotation.Ref(verify.ThumbprintOf(i.Certificate)) }
