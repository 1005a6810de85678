package ca

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/verify"
)

// IssuerID is the random name of an issuer in URLs and rows: 16 lower-case hex digits.
type IssuerID string

// Role says what an issuer signs.
type Role string

// A root signs issuing CAs only; an issuing CA signs devices.
const (
	RoleRoot    Role = "root"
	RoleIssuing Role = "issuing"
)

// IssuerState is where an issuer stands; it moves one way (architecture §7).
type IssuerState string

// The states of the spine. Only an Active issuing CA signs devices; an Active root
// whose key is not on this host (KeyURI empty) signs nothing here.
const (
	IssuerActive  IssuerState = "active"
	IssuerRetired IssuerState = "retired"
)

// Issuer is a CA of ours. KeyURI names its key for a KMS; the key itself is never
// stored in a row (INV-K1).
type Issuer struct {
	ID          IssuerID
	Name        string
	Role        Role
	State       IssuerState
	Parent      IssuerID // the issuer that signed it; its own ID for a root
	KeyURI      string
	Certificate []byte // DER
	Created     time.Time
	Revocations int64     // counts MarkRevoked calls; only grows
	CRLNumber   int64     // of the latest CRL; 0 = none yet
	CRLCovers   int64     // Revocations when the latest CRL's entries were read
	CRLNext     time.Time // nextUpdate of the latest CRL
}

// Serial is a certificate's serial number: lower-case hex in whole bytes.
type Serial string

// Reason is a revocation reason in RFC 5280's spelling ("keyCompromise").
type Reason string

// Certificate is an issued certificate on record. It is append-only but for the two
// revocation fields.
type Certificate struct {
	Issuer         IssuerID
	Serial         Serial
	Thumbprint     verify.Thumbprint
	KeyHash        verify.KeyHash
	RegistrationID verify.RegistrationID
	Parent         verify.Thumbprint // the certificate that attested the request; zero for a key
	NotBefore      time.Time
	NotAfter       time.Time
	Issued         time.Time
	DER            []byte
	RevokedAt      time.Time // zero: not revoked
	Reason         Reason
	Position       int64 // place in the inventory, set by the store: newer is larger
}

// CRL is one certificate revocation list as signed.
type CRL struct {
	Issuer     IssuerID
	Number     int64
	ThisUpdate time.Time
	NextUpdate time.Time
	DER        []byte
	Entries    int
	Covers     int64 // the issuer's Revocations when the entries were read
}

// Tx is what ca reads and writes in one transaction. Write methods may only queue:
// their errors can surface when the transaction commits. Reads of something absent
// return fault.NotFound.
type Tx interface {
	Issuers() ([]Issuer, error)
	// InsertIssuer fails with fault.Conflict when the id exists or another issuing CA is active.
	InsertIssuer(Issuer) error
	// InsertCertificate fails with fault.Conflict, rule "serial-taken", when the issuer
	// already has this serial: the unique index has the last word (INV-P8).
	InsertCertificate(Certificate) error
	Certificate(issuer IssuerID, serial Serial) (Certificate, error)
	// MarkRevoked sets the revocation fields where they were not set, or where
	// keyCompromise replaces a weaker reason, and adds one to the issuer's Revocations.
	MarkRevoked(Certificate) error
	// RevokedCertificates lists an issuer's revoked certificates that had not expired
	// at notAfter, by serial from after (exclusive), at most limit.
	RevokedCertificates(issuer IssuerID, notAfter time.Time, after Serial, limit int) ([]Certificate, error)
	// InsertCRL stores a CRL and makes it the issuer's latest (CRLNumber, CRLCovers, CRLNext);
	// fault.Conflict when its number is not above the issuer's latest (INV-S7).
	InsertCRL(CRL) error
	LatestCRL(issuer IssuerID) (CRL, error)
	// Append writes one ledger row.
	Append(audit.Event) error
}

// Store runs a function in one transaction. An Update function may be run again: no
// network, signing, clock or randomness inside (architecture §5).
type Store interface {
	View(ctx context.Context, f func(Tx) error) error
	Update(ctx context.Context, f func(Tx) error) error
}
