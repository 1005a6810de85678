package ca

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/verify"
)

// Fall is what falls with a CA of ours.
type Fall struct {
	// Issuers are those with its key, and all below them, in whatever state: nearest first.
	Issuers []Issuer
	Stops   []Stop
}

// Stop is a role and profile that no issuer is active for any more.
type Stop struct {
	Role     Role
	Profile  string   // "": all that have no issuer of their own
	Issuer   IssuerID // the one that was
	Prepared IssuerID // that could be promoted in its place; "": there is none
}

// FallOf says what falls when a certificate is compromised: nothing if it is for no key of ours.
func FallOf(issuers []Issuer, c *x509.Certificate) (f Fall) {
	key := verify.KeyHashOf(c.RawSubjectPublicKeyInfo)
	named := slices.DeleteFunc(slices.Clone(issuers), func(i Issuer) bool { return i.key() != key })
	f.Issuers = falling(issuers, named, true)
	for _, i := range f.Issuers {
		if i.State == IssuerActive && i.Role != RoleExternal && !f.standsIn(issuers, i) {
			f.Stops = append(f.Stops, Stop{Role: i.Role, Profile: i.Profile, Issuer: i.ID, Prepared: f.preparedFor(issuers, i)})
		}
	}
	return f
}

func (f Fall) has(i Issuer) bool {
	return slices.ContainsFunc(f.Issuers, func(other Issuer) bool { return other.ID == i.ID })
}

// standsIn says that the issuer for all profiles goes on in the place of a profile's own.
func (f Fall) standsIn(issuers []Issuer, gone Issuer) bool {
	return gone.Profile != "" && slices.ContainsFunc(issuers, func(i Issuer) bool {
		return i.Role == gone.Role && i.Profile == "" && i.State == IssuerActive && !f.has(i)
	})
}

func (f Fall) preparedFor(issuers []Issuer, gone Issuer) IssuerID {
	for _, i := range issuers {
		if i.Role == gone.Role && i.Profile == gone.Profile && i.State == IssuerPrepared && !f.has(i) {
			return i.ID
		}
	}
	return ""
}

// falling lists issuers, those below them, and those that are the same CA or, if keys are
// compromised, have the same key.
func falling(issuers, named []Issuer, keys bool) []Issuer {
	list := slices.Clone(named)
	for n := 0; n < len(list); n++ {
		for _, i := range issuers {
			same := bytes.Equal(i.Certificate, list[n].Certificate) || keys && i.key() == list[n].key()
			listed := slices.ContainsFunc(list, func(other Issuer) bool { return other.ID == i.ID })
			if !listed && (same || i.Parent == list[n].ID) {
				list = append(list, i)
			}
		}
	}
	return list
}

// RevokeFallen revokes issuers as they were read in this transaction, and what others of ours
// signed for their keys. It returns those that were not revoked before, as they are now.
func RevokeFallen(tx Tx, fallen []Issuer, actor string, reason Reason, now time.Time) (ended []Issuer, err error) {
	for _, i := range fallen {
		if i.State == IssuerRevoked {
			continue
		}
		was := i.State
		i.State, i.RetireAt = IssuerRevoked, now
		if err := moveIssuer(tx, i, was, actor, audit.IssuerRevoked, reason, now); err != nil {
			return nil, err
		}
		ended = append(ended, i)
	}
	return ended, revokeCertificatesOf(tx, fallen, reason, actor, now)
}
