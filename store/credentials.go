package store

import (
	"crypto/x509"
	"fmt"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

var credentialColumns = cols("i kind, t id, i slot, t role, b thumbprint, b subject_hash, b certificate, t anchor, b sealed_key, i state, i since, i seen_at, i retire_at")

var (
	insertCredential = statement(insert("entry_credentials", append(credentialColumns[:len(credentialColumns):len(credentialColumns)], cols("b issuer_hash")...))).trust().
				unique(fault.New(fault.Conflict, "slot-taken", "Two credentials of an entry are in one slot.")).
				foreign(fault.New(fault.Conflict, "anchor-missing", "A CA that the entry refers to does not exist."))
	deleteCredentials = statement("DELETE FROM entry_credentials WHERE kind = ? AND id = ?").trust()
)

// credential is a Credential with what finds it.
type credential struct {
	provisioning.Credential
	owner      provisioning.Owner
	thumbprint verify.Thumbprint
	subject    [32]byte // verify.NameHash of a signing certificate's subject
}

func scanCredential(r *row) (c credential) {
	c.owner = scanOwner(r)
	c.Slot, c.Role = rotation.Slot(r.int()), provisioning.Role(r.text())
	c.thumbprint, c.subject = r.hash(), r.hash()
	c.Certificate, c.Anchor, c.SealedKey = r.blob(), r.text(), r.blob()
	if c.Role == provisioning.RoleTPM && r.err == nil {
		c.TPM, r.err = splitTPM(c.Certificate)
		c.Certificate = nil
	}
	c.State, c.Since, c.SeenAt, c.RetireAt = rotation.State(r.int()), r.time(), r.time(), r.time()
	return c
}

func (t *tx) insertCredentials(e provisioning.Enrollment) error {
	for _, c := range e.Credentials {
		var thumbprint, subject, issuer, anchor any
		public := c.Certificate
		switch c.Role {
		case provisioning.RoleSigning, provisioning.RoleClient:
			cert, err := x509.ParseCertificate(c.Certificate)
			if err != nil {
				return fmt.Errorf("storing a certificate of %s: %w", e.Owner, err)
			}
			h, by := verify.ThumbprintOf(c.Certificate), verify.NameHash(cert.RawIssuer)
			thumbprint, issuer = h[:], by[:]
			if c.Role == provisioning.RoleSigning {
				of := verify.NameHash(cert.RawSubject)
				subject = of[:]
			}
		case provisioning.RoleCARef, provisioning.RoleTPMCA:
			anchor = c.Anchor
		case provisioning.RoleTPM:
			ek, err := tpm.ParseEndorsementKey(c.TPM.Endorsement)
			if err != nil {
				return fmt.Errorf("storing the TPM of %s: %w", e.Owner, err)
			}
			h := verify.KeyHashOf(ek.SPKI()) // as a certificate of it would name it
			thumbprint, public = h[:], joinTPM(c.TPM)
		}
		err := t.exec(insertCredential, int64(e.Kind), e.ID.String(), int64(c.Slot), string(c.Role),
			thumbprint, subject, orNull(public), anchor, orNull(c.SealedKey),
			int64(c.State), micros(c.Since), micros(c.SeenAt), micros(c.RetireAt), issuer)
		if err != nil {
			return err
		}
	}
	return nil
}
