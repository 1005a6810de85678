package ca

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// IssuerID is the random name of an issuer in URLs and rows: 16 lower-case hex digits.
type IssuerID string

// Role says what an issuer signs.
type Role string

// A root signs issuing CAs only; an issuing CA signs devices. An external CA is somebody
// else's that stands above one of ours: it is here for chains and bundles alone.
const (
	RoleRoot     Role = "root"
	RoleIssuing  Role = "issuing"
	RoleExternal Role = "external"
)

// IssuerState is where an issuer stands; it moves one way (architecture §7).
type IssuerState string

// Prepared is published and signs no device yet; only an Active issuing CA signs devices;
// Retiring signs status alone, until Retired ends that too. Revoked is Retired by a
// breach. An Active root whose key is not on this host (KeyURI empty) signs nothing here.
const (
	IssuerPrepared IssuerState = "prepared"
	IssuerActive   IssuerState = "active"
	IssuerRetiring IssuerState = "retiring"
	IssuerRetired  IssuerState = "retired"
	IssuerRevoked  IssuerState = "revoked"
)

// Issuer is a CA of ours. KeyURI names its key for a KMS; the key itself is never
// stored in a row (INV-K1).
type Issuer struct {
	ID          IssuerID
	Name        string
	Role        Role
	Profile     string // the profile it signs for; "" for all that have no issuer of their own
	State       IssuerState
	Slot        rotation.Slot // its place in the pair of its role and profile
	RetireAt    time.Time     // of a Retiring issuer: when it is Retired; of a Revoked one: when that was
	Parent      IssuerID      // the issuer that signed it; its own ID for a root
	KeyURI      string
	Upstream    string // the authority elsewhere that signs for it; "" where a key of ours does
	Certificate []byte // DER
	Created     time.Time
}

// CRLShard is one part of an issuer's certificates, with a CRL of its own. Shard 0 always
// exists: what an issuer signs for CAs, servers and OCSP is in it. Devices are in the others.
type CRLShard struct {
	Issuer      IssuerID
	Shard       int
	Issued      int64     // how many certificates it may have been given
	Ends        time.Time // when the last of them ends; zero: with the issuer
	Revocations int64     // counts MarkRevoked calls; only grows
	Number      int64     // of the latest CRL; 0 = none yet
	Covers      int64     // Revocations when the latest CRL's entries were read
	Next        time.Time // nextUpdate of the latest whole CRL
	Address     string    // that its certificates name; "" for shard 0
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
	KeyAttestation policies.KeyAttestation // where its key is known to be
	Shard          int                     // of the CRL that its address names
	Position       int64                   // place in the inventory, set by the store: newer is larger
}

// CRL is one certificate revocation list as signed.
type CRL struct {
	Issuer     IssuerID
	Shard      int
	Number     int64
	Base       int64 // the CRL that a delta list adds to; 0: a whole one
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
	IssuerTx
	StatusTx
	UpstreamTx
	NoticeTx

	Issuers() ([]Issuer, error)
	// InsertIssuer also makes its shard 0. It fails with fault.Conflict when the id exists, or
	// another issuer of this role and profile is active.
	InsertIssuer(Issuer) error
	// InsertCertificate fails with fault.Conflict, rule "serial-taken", when the issuer
	// already has this serial: the unique index has the last word (INV-P8). A device's is
	// refused, rule "issuer-not-active", once its issuer is not Active any more: a replica
	// that has not heard of it may have signed.
	InsertCertificate(Certificate) error
	Certificate(issuer IssuerID, serial Serial) (Certificate, error)
	// MarkRevoked sets the revocation fields where they were not set, or where
	// keyCompromise replaces a weaker reason, and adds one to its shard's Revocations.
	MarkRevoked(Certificate) error
	// CRLShards lists the shards of all issuers, by issuer and number.
	CRLShards() ([]CRLShard, error)
	// RevokedCertificates lists the revoked certificates of a shard that had not expired
	// at notAfter, by serial from after (exclusive), at most limit.
	RevokedCertificates(issuer IssuerID, shard int, notAfter time.Time, after Serial, limit int) ([]Revocation, error)
	// InsertCRL stores a CRL and makes it its shard's latest (Number, Covers, and for a whole
	// one Next); fault.Conflict when its number is not above the shard's latest (INV-S7). The
	// deltas have its number.
	InsertCRL(c CRL, deltas ...CRL) error
	// LatestCRL is the latest whole CRL of a shard.
	LatestCRL(issuer IssuerID, shard int) (CRL, error)
	// Append writes one ledger row.
	Append(audit.Event) error
}

// Store runs a function in one transaction. An Update function may be run again: no
// network, signing, clock or randomness inside (architecture §5).
type Store interface {
	View(ctx context.Context, f func(Tx) error) error
	Update(ctx context.Context, f func(Tx) error) error
	// UpdateTrust is Update for a change that must be ordered before every later
	// registration (INV-D1).
	UpdateTrust(ctx context.Context, f func(Tx) error) error
	// TrustChanges counts the commits that changed trust, each before its caller is answered:
	// while it stands still, no certificate was revoked. It is exact where no other process
	// writes to the database.
	TrustChanges() (n uint64, exact bool)
}
