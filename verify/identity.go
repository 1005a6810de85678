package verify

import (
	"slices"
	"time"
)

// Mechanism is how an identity was proven, in the words of the wire
// (protocols/dps.md, section 4.1).
type Mechanism string

// The mechanisms.
const (
	MechanismX509         Mechanism = "x509"
	MechanismSymmetricKey Mechanism = "symmetricKey"
	MechanismCode         Mechanism = "code" // one-time, over EST; ours alone
	MechanismTPM          Mechanism = "tpm"
)

// Identity says that one device has proven, at one moment, to be who it says. Only
// this package can make one and it is never stored: whoever asks for an Identity
// cannot be reached without evidence.
type Identity struct {
	id        RegistrationID
	mechanism Mechanism
	path      []Link
	at        time.Time
	attested  KeyHash // a key in its TPM; zero: none is known to be
}

// ID is the registration id that was proven.
func (i Identity) ID() RegistrationID { return i.id }

// Mechanism is how it was proven.
func (i Identity) Mechanism() Mechanism { return i.mechanism }

// Path is the verified path, leaf first and anchor last: the leaf alone where the
// leaf itself was pinned, that of the endorsement key where a TPM's certificate admitted it, nil
// where a key, a code or a TPM alone spoke. The caller owns the slice.
func (i Identity) Path() []Link { return slices.Clone(i.path) }

// At is the moment for which it was proven.
func (i Identity) At() time.Time { return i.at }

// IsZero reports whether nobody was proven.
func (i Identity) IsZero() bool { return i.id.IsZero() }
