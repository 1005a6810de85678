package provisioning

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Kind says whether an enrollment entry is for one device or for a group.
type Kind uint8

// The two kinds of entry.
const (
	Individual Kind = iota
	Group
)

func (k Kind) String() string {
	if k == Group {
		return "group"
	}
	return "individual"
}

// Owner names an enrollment entry. ID is a registration id or a group id, both of
// one grammar (INV-P3), in canonical lower case; the zero Owner is nobody.
type Owner struct {
	Kind Kind
	ID   verify.RegistrationID
}

// IsZero says that nobody is named: the registration is an orphan.
func (o Owner) IsZero() bool { return o.ID.IsZero() }

func (o Owner) String() string {
	if o.IsZero() {
		return ""
	}
	if o.Kind == Group {
		return "group " + o.ID.String()
	}
	return "enrollment " + o.ID.String()
}

// Role says what a credential of an entry is for.
type Role string

// Client certificates pin leaves (individual entries); signing certificates and
// references to trust anchors vouch for members (groups); keys are symmetric keys. A TPM is
// that of one device (individual entries, in the primary slot alone).
const (
	RoleClient  Role = "client"
	RoleSigning Role = "signing"
	RoleCARef   Role = "ca-reference"
	RoleKey     Role = "key"
	RoleTPM     Role = "tpm"
	RoleTPMList Role = "tpm-list" // groups: the endorsement keys on the group's list
	RoleTPMCA   Role = "tpm-ca"   // groups: TPMs that a manufacturer below a trust anchor has certified
)

// Credential is what one slot of an entry holds: a certificate (DER), the name of a
// trust anchor, a symmetric key sealed for this very row, or the keys of a TPM. What stands in a slot admits;
// where it stands in the entry's roll says State: Staged, Active or Retiring, at most one
// Active.
type Credential struct {
	Role        Role
	Slot        rotation.Slot
	Certificate []byte
	Anchor      string
	SealedKey   []byte
	TPM         TPMPublic
	State       rotation.State
	Since       time.Time // when it came into the slot
	SeenAt      time.Time // when a device was first admitted by it; zero: not yet
	RetireAt    time.Time // of a Retiring one
}

// refers says that a credential of the role is the name of a trust anchor.
func (r Role) refers() bool { return r == RoleCARef || r == RoleTPMCA }

// noun is what people call what devices show for it.
func (r Role) noun() string {
	switch r {
	case RoleKey:
		return "symmetric key"
	case RoleTPM, RoleTPMList, RoleTPMCA:
		return "TPM"
	}
	return "certificate"
}

// TPMPublic is the public keys of a TPM as they travel (TPM2B_PUBLIC). An entry need not name
// the storage root key: it changes with the TPM's owner.
type TPMPublic struct{ Endorsement, StorageRoot []byte }

// TPMConditions are what the certificate of an endorsement key has to say of its TPM, case apart:
// one of the words of each list that is not empty.
type TPMConditions struct{ Manufacturers, Models, Versions []string }

// IsZero says that any TPM will do.
func (c TPMConditions) IsZero() bool { return len(c.Manufacturers)+len(c.Models)+len(c.Versions) == 0 }

// Enrollment is an enrollment entry: an individual enrollment or an enrollment
// group (contract §4.1, §4.2). All credentials of an entry have the same Role, at
// most one per slot.
type Enrollment struct {
	Owner
	Spelled       string // the id as first written
	Enabled       bool
	Credentials   []Credential
	DeviceID      string // individual entries; "" = the registration id
	Allocation    policies.AllocationPolicy
	Hubs          []string         // names of linked hubs that narrow the choice; empty = all
	SealedWebhook []byte           // who chooses by custom allocation, as stored; nil = nobody
	Custom        CustomAllocation // the same opened; the store leaves it zero
	TPM           TPMConditions    // of a group that admits certified TPMs
	Reprovision   policies.ReprovisionPolicy
	InitialTwin   []byte // JSON {"tags":{},"properties":{"desired":{}}}; nil = none
	Profile       string // issuing profile (credentialPolicyName); "" = issues no certificates
	IoTEdge       bool
	OptionalInfo  []byte // optionalDeviceInformation, JSON; nil = none
	Created       time.Time
	Updated       time.Time
	Version       int64 // the ETag
	// DueAt is when the planner looks at the slots next; zero: never. Whoever writes the
	// entry makes it due at once.
	DueAt time.Time
}

// Role is the role of the entry's credentials, "" when it has none left.
func (e Enrollment) Role() Role {
	if len(e.Credentials) == 0 {
		return ""
	}
	return e.Credentials[0].Role
}

// State is a registration's state (contract §2.2). A device is never told "disabled".
type State string

// The states.
const (
	Unassigned State = "unassigned"
	Assigning  State = "assigning"
	Assigned   State = "assigned"
	Failed     State = "failed"
)

// CertificateRef names a certificate on record; the zero value none.
type CertificateRef struct {
	Issuer ca.IssuerID
	Serial ca.Serial
}

// OperationRecord is the last operation of a registration. Digest identifies the
// request it answered, so that a retry gets the same answer (architecture §5).
type OperationRecord struct {
	ID     string
	Digest [32]byte
	At     time.Time
}

// Registration is the one record of a device that has been provisioned: its state,
// its last operation, its pair of operational certificates, what attested it last,
// and its identity on its hub. It outlives its entry (Owner becomes zero).
type Registration struct {
	ID           verify.RegistrationID
	Spelled      string
	Owner        Owner
	Mechanism    verify.Mechanism
	State        State
	Substatus    string
	Hub          string
	DeviceID     string
	ErrorCode    int
	ErrorMessage string
	Payload      []byte // last payload sent by the device, JSON
	Returned     []byte // what the allocation webhook has for the device, JSON; nil = nothing
	Created      time.Time
	Updated      time.Time
	Version      int64
	Operation    OperationRecord
	Pair         rotation.Pair
	Certificate  CertificateRef    // the last one issued
	Leaf         verify.Thumbprint // outside leaf that last attested (a renewal by a leaf of ours keeps it)
	// LeafKey is the key of that leaf or, of a device that attested with a symmetric key, the
	// hash of the entry's key that proved it (verify.Secret.Hash): a group's own, not the
	// derived one.
	LeafKey verify.KeyHash
	Chain   ChainID // the outside chain above that leaf
	// DueAt is when the planner looks at the pair next (rotation.Pair.Due); zero: never. It
	// is due at once when a certificate left the pair that may be good still.
	DueAt time.Time
	// HeldAt is since when every door refuses the device, and its hub shuts it out, until an
	// operator releases it; zero: it is not held.
	HeldAt time.Time
	// QuarantinedAt is since when the device lives where an operator has it, until that is ended
	// (Quarantine); zero: it is not in quarantine.
	QuarantinedAt time.Time
}

// ChainID names a distinct chain above leaves: the first 8 bytes of its digest,
// 0 for none. The same certificates always have the same id.
type ChainID int64

// Hub is a linked hub. Driver "registry" is the built-in one: its devices live in
// these tables.
type Hub struct {
	Name     string // host name, as devices are told
	Driver   string
	Location string
	Weight   int
	Draining bool
	Rate     int // calls a minute that one elsewhere takes; 0: as its driver has it
	Created  time.Time
	Updated  time.Time
	Version  int64
}

// Twin is the built-in hub's twin of a device: JSON objects. The versions count its
// changes, and those of the desired properties; PutTwin counts for itself.
type Twin struct {
	Tags           []byte
	Desired        []byte
	Updated        time.Time
	Version        int64
	DesiredVersion int64
}

// Disallowance refuses a certificate or a key wherever it stands (INV-D3).
type Disallowance struct {
	ID       string
	Digest   [32]byte // thumbprint or key hash
	Key      bool     // a key hash
	Reason   ca.Reason
	Actor    string
	Created  time.Time
	LiftedAt time.Time

	Incident    string   // the id of the act that it is part of; "": a key, with a revocation
	Certificate []byte   // DER, of a CA that is refused with all below it
	Subject     [32]byte // its name (verify.NameHash): it refuses where it is left out of a chain
}

// object is what refusals name: the act, where it is part of one.
func (d Disallowance) object() string {
	if d.Incident != "" {
		return "disallowance " + d.Incident
	}
	return "disallowance " + d.ID
}

// sentence is how it refuses.
func (d Disallowance) sentence() string {
	what := "certificate"
	if d.Key {
		what = "key"
	}
	return "a " + what + " in the chain is disallowed (" + string(d.Reason) + ")"
}

// Profile is an issuing profile on record.
type Profile struct {
	policies.Profile
	Created time.Time
	Updated time.Time
	Version int64
}

// Token is an operator's API token; only its hash is kept (INV-T3).
type Token struct {
	Name      string
	Hash      [32]byte
	Scopes    policies.Scopes
	Created   time.Time
	Expires   time.Time // zero: a development token that does not expire
	RevokedAt time.Time
}
