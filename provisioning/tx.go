package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/verify"
)

// FactsQuery asks for everything on record that bears on one attempt to register.
type FactsQuery struct {
	ID        verify.RegistrationID
	Thumbs    []verify.Thumbprint // the certificates sent, leaf first; at most 10
	Keys      []verify.KeyHash    // their keys in that order, then a CSR's; at most 11
	Issuers   [][32]byte          // their issuers' names (verify.NameHash), each once
	SharedKey bool                // the device used a symmetric key: the key groups are wanted too
	Profiles  bool                // a certificate is asked for: the issuing profiles are wanted
	TPM       bool                // a TPM is shown or on record: the lists that have a key asked about are wanted
}

// Holder is one place that holds a certificate met in a FactsQuery.
type Holder struct {
	Owner      Owner // zero for a trust anchor
	Anchor     string
	Enabled    bool // the entry is enabled; true for an anchor
	Role       Role
	Thumbprint verify.Thumbprint // of the certificate held (of the anchor, for a reference)
}

// HeldCA is a CA certificate Muster holds — an anchor or a group's signing
// certificate — that was sent, or that one sent names as its issuer.
type HeldCA struct {
	Thumbprint  verify.Thumbprint
	Certificate []byte // DER
	Anchor      string // name of the trust anchor; "" for a group's signing certificate
	Verified    bool   // the anchor proved possession
}

// Facts is the answer. It is a snapshot: nothing in it may be kept for a later request.
//
// "The certificates asked about" below are Thumbs, the registration's Leaf, and the
// links of its outside Chain; keys likewise (Keys, LeafKey, the links' keys).
type Facts struct {
	// Digest stands for every row below: two Facts of the same query with the same
	// Digest are the same facts. It is how an Update knows that nothing has moved
	// since the View that decided. 0: these cannot be compared, only found Unmoved.
	Digest uint64
	// Epoch counts the changes of trust committed before these facts were read: see Tx.Unmoved.
	Epoch int64

	Registration  *Registration       // by ID
	Enrollments   []Enrollment        // the individual entry of ID, the registration's owner, every group that holds a certificate asked about or is named by one of Issuers, and (SharedKey) every symmetric-key group, or (TPM, SharedKey) that lists a key asked about; each once, with all Credentials
	Disallowances []Disallowance      // active ones that name a certificate or key asked about
	Holders       []Holder            // every entry (enabled or not) and anchor that holds a certificate asked about or a CA named by one of Issuers
	HeldCAs       []HeldCA            // the CA certificates among those
	Issued        *ca.Certificate     // the certificate of ours whose thumbprint is Thumbs[0] (DER left out)
	IssuerRevoked bool                // the issuer of that certificate is revoked
	ChainLinks    []verify.Thumbprint // the links of the registration's outside Chain
	Hubs          []Hub               // all linked hubs, by name
	Aliases       []Alias             // other registrations whose device on a hub has the name this device would take
	Profiles      []Profile           // all, when asked for
	Listed        []ListedKey         // (TPM, SharedKey) keys asked about that a group lists
}

// ListedKey is an endorsement key on the list of a group.
type ListedKey struct {
	Group verify.RegistrationID
	Key   verify.KeyHash
	ID    verify.RegistrationID // the one that its TPM registers as; zero: whichever it says
	Since time.Time
}

// Alias is another registration's claim on a device id.
type Alias struct {
	Hub string
	ID  verify.RegistrationID
}

// Individual returns the individual entry of the query's id, if there is one.
func (f Facts) Individual(id verify.RegistrationID) (Enrollment, bool) {
	return f.Entry(Owner{Kind: Individual, ID: id})
}

// Entry returns one of the entries met.
func (f Facts) Entry(o Owner) (Enrollment, bool) {
	for _, e := range f.Enrollments {
		if e.Owner == o {
			return e, true
		}
	}
	return Enrollment{}, false
}

// Tx is what provisioning reads and writes in one transaction; it embeds ca.Tx, so
// that a use case which crosses rooms is still one Update. Reads of something absent
// return fault.NotFound; lists are in key order from after (exclusive), at most limit.
// Version rules: an Update… with a Version that is not the stored one fails with
// fault.PreconditionFailed; Insert… of something that exists with fault.Conflict. The
// stored Version of a written row is the value's own (the caller adds one).
type Tx interface {
	ca.Tx
	AccessTx
	HubDeviceTx
	HubIdentityTx
	HubCheckTx
	IncidentTx
	RetirementTx
	QuarantineTx
	CodeTx
	LineageTx
	SealedTx
	ProfileTx
	SubscriptionTx
	RollTx
	PlanTx
	SlotTx
	TPMTx
	CampaignTx
	HorizonTx
	KeyTx
	RetainedTx
	TripwireTx

	// Facts is the match View: one statement (store-design §4).
	Facts(FactsQuery) (Facts, error)
	// OrdinaryFacts is Facts at a fraction of the cost for a device that nothing on record names but
	// its registration, when Facts was asked about its fleet (the chain above its leaf, or
	// the key groups) since anything of trust changed; else false. Its facts have no Digest and
	// no ChainLinks, which matter to certificates of ours alone. Of a device whose own entry
	// is disabled they are that entry's name, and no more: it decides alone.
	OrdinaryFacts(FactsQuery) (Facts, bool, error)
	// Unmoved says, from one small row, that nothing facts are made of was changed since
	// they were read. Then only registrations can differ from them, and the one they are about
	// is guarded by its version in PutRegistration. A disallowed csrKey counts as a move: the
	// facts may have been read for another CSR.
	Unmoved(f Facts, csrKey verify.KeyHash) (bool, error)
	// PutRegistration inserts (Version 1) or updates (stored Version = Version-1) the
	// row; a lost race is fault.Conflict, rule "registration-moved".
	PutRegistration(Registration) error
	// PutChain stores a chain once; repeating it changes nothing.
	PutChain(id ChainID, links []verify.Link) error
	// Chain returns a stored chain's certificates, DER, nearest the leaf first.
	Chain(ChainID) ([][]byte, error)
	Registration(verify.RegistrationID) (Registration, error)
	Registrations(RegistrationFilter) ([]Registration, error)
	// CountRegistrations counts all that a filter lists, by hub.
	CountRegistrations(RegistrationFilter) ([]HubCount, error)
	// CountHeld counts the registrations that are held.
	CountHeld() (int64, error)
	DeleteRegistration(id verify.RegistrationID, version int64) error

	Twin(verify.RegistrationID) (Twin, error)
	PutTwin(verify.RegistrationID, Twin) error
	DeleteTwin(verify.RegistrationID) error

	Enrollment(Owner) (Enrollment, error)
	Enrollments(EnrollmentFilter) ([]Enrollment, error)
	InsertEnrollment(Enrollment) error
	UpdateEnrollment(e Enrollment, was int64) error
	// DeleteEnrollment also clears the owner of its registrations (they become orphans).
	DeleteEnrollment(o Owner, version int64) error
	// HoldersOf lists the entries and anchors that hold a certificate, for warnings.
	HoldersOf(verify.Thumbprint) ([]Holder, error)

	Anchor(name string) (verify.TrustAnchor, error)
	Anchors(after string, limit int) ([]verify.TrustAnchor, error)
	InsertAnchor(verify.TrustAnchor) error
	UpdateAnchor(a verify.TrustAnchor, was int64) error
	// DeleteAnchor also empties every slot that references it (scenarios X3).
	DeleteAnchor(name string, version int64) error

	Hub(name string) (Hub, error)
	Hubs() ([]Hub, error)
	InsertHub(Hub) error
	UpdateHub(h Hub, was int64) error
	DeleteHub(name string, version int64) error
	// HubUse counts the entries that name the hub and the devices on it, those with it that
	// are to leave it.
	HubUse(name string) (entries, devices int64, err error)

	// InsertDisallowance does nothing when the digest is already actively disallowed.
	InsertDisallowance(Disallowance) error

	Certificates(CertificateFilter) ([]ca.Certificate, error)
	LedgerEntries(LedgerFilter) ([]audit.Entry, error)

	Token(hash [32]byte) (Token, error)
	Tokens() ([]Token, error)
	InsertToken(Token) error
	RevokeToken(name string, at time.Time) error
}

// Store runs a function in one transaction: see ca.Store for what it may not do.
// A View reads one consistent snapshot. When an Update returns nil the commit is
// durable (INV-S1). UpdateTrust is Update for a change that must be ordered before
// every later registration: on PostgreSQL it takes the exclusive trust lock that
// Update takes shared, so commit order is the order of "contained" (INV-D1).
type Store interface {
	View(ctx context.Context, f func(Tx) error) error
	Update(ctx context.Context, f func(Tx) error) error
	UpdateTrust(ctx context.Context, f func(Tx) error) error
}

// EnrollmentFilter narrows a list of entries. Zero values do not narrow.
type EnrollmentFilter struct {
	Kind    Kind
	After   verify.RegistrationID // exclusive, canonical
	Limit   int
	Prefix  string // of the canonical id
	Enabled *bool
	Role    Role
}

// RegistrationFilter narrows a list of registrations.
type RegistrationFilter struct {
	After    verify.RegistrationID
	Limit    int
	Prefix   string
	Owner    Owner
	Orphaned bool // without an owner: its entry was deleted
	Held     bool
	State    State
	Hub      string
}

// CertificateFilter narrows a list of issued certificates. The order is newest first;
// Before is the position of the last one seen (Position of ca.Certificate), 0 = start.
type CertificateFilter struct {
	Before         int64
	Limit          int
	RegistrationID verify.RegistrationID
	Serial         ca.Serial
	Issuer         ca.IssuerID
	Thumbprint     verify.Thumbprint
	ExpiresBefore  time.Time
	Revoked        *bool
	KeyAttested    *bool
}

// LedgerFilter narrows the ledger. The order is newest first; Before is a sequence
// number (exclusive), 0 = start.
type LedgerFilter struct {
	Before  int64
	Limit   int
	Subject string
	Actor   string
	Action  audit.Action
}
