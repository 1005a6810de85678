package azure

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// Attestation is how the devices of an entry prove themselves (§4.1).
type Attestation struct {
	Type         string           `json:"type"` // x509, symmetricKey, tpm; answered too: none, when the last credential is gone
	X509         *X509Attestation `json:"x509,omitempty"`
	SymmetricKey *SymmetricKey    `json:"symmetricKey,omitempty"` // in requests, and in answers of attestationmechanism
	TPM          *TPM             `json:"tpm,omitempty"`          // individual enrollments
}

// TPM is the public keys of a device's TPM (TPM2B_PUBLIC), in base64.
type TPM struct {
	EndorsementKey string `json:"endorsementKey"`
	StorageRootKey string `json:"storageRootKey,omitempty"`
	// Group is what a group admits TPMs by, which Azure does not know.
	Group *TPMGroup `json:"-"`
}

// TPMGroup is a list of endorsement keys, kept elsewhere, or the anchors above manufacturers, with
// what TPMs have to be.
type TPMGroup struct {
	Listed       bool
	CAReferences *CAReferences
	Conditions   provisioning.TPMConditions
}

func (g TPMGroup) draft() (out provisioning.Attestation, err error) {
	switch {
	case g.Listed && g.CAReferences == nil && g.Conditions.IsZero():
		return provisioning.Attestation{Role: provisioning.RoleTPMList}, nil
	case !g.Listed && g.CAReferences != nil:
		out := provisioning.Attestation{Role: provisioning.RoleTPMCA, TPM: g.Conditions}
		out.Slots[rotation.Primary].Anchor, out.Slots[rotation.Secondary].Anchor = g.CAReferences.Primary, g.CAReferences.Secondary
		return out, nil
	}
	return out, fault.New(fault.Malformed, "attestation", "tpm of a group has one of listed and caReferences, and conditions with caReferences alone").At("/attestation/tpm")
}

// X509Attestation has exactly one of its members.
type X509Attestation struct {
	Client       *Certificates `json:"clientCertificates,omitempty"`  // individual enrollments
	Signing      *Certificates `json:"signingCertificates,omitempty"` // groups
	CAReferences *CAReferences `json:"caReferences,omitempty"`        // groups
}

// Certificates are the two slots. An absent slot is emptied by a write.
type Certificates struct {
	Primary   *Certificate `json:"primary,omitempty"`
	Secondary *Certificate `json:"secondary,omitempty"`
}

// Certificate is one slot: a write sends the certificate (PEM, or base64 of PEM or DER), or
// the info it was answered with to keep the one that is there; an answer has the info alone.
type Certificate struct {
	Certificate string           `json:"certificate,omitempty"`
	Info        *CertificateInfo `json:"info,omitempty"`
}

// CAReferences are names of trust anchors.
type CAReferences struct {
	Primary   string `json:"primary,omitempty"`
	Secondary string `json:"secondary,omitempty"`
}

// SymmetricKey is two keys in base64. A write keeps, or makes, one that is absent.
type SymmetricKey struct {
	Primary   string `json:"primaryKey,omitempty"`
	Secondary string `json:"secondaryKey,omitempty"`
}

// Draft is the attestation as the engine takes it. Which roles an entry may have is for the
// engine to say.
//
// Errors are Malformed with a pointer of the form /attestation/ROLE/SLOT: "attestation",
// "symmetric-key", "certificate-missing", "thumbprint", "endorsement-key",
// "storage-root-key".
func (a Attestation) Draft() (provisioning.Attestation, error) {
	switch {
	case a.Type == "tpm" && a.TPM != nil && a.TPM.Group != nil && a.X509 == nil && a.SymmetricKey == nil:
		return a.TPM.Group.draft()
	case a.Type == "tpm" && a.TPM != nil && a.X509 == nil && a.SymmetricKey == nil:
		return a.TPM.draft()
	case a.Type == "symmetricKey" && a.X509 == nil && a.TPM == nil:
		return a.SymmetricKey.draft()
	case a.Type == "x509" && a.X509 != nil && a.SymmetricKey == nil && a.TPM == nil:
		return a.X509.draft()
	}
	return provisioning.Attestation{}, fault.New(fault.Malformed, "attestation", "an attestation has one kind of credential: the one its type names").At("/attestation")
}

func (k *SymmetricKey) draft() (provisioning.Attestation, error) {
	out := provisioning.Attestation{Role: provisioning.RoleKey}
	if k == nil {
		return out, nil
	}
	for slot, text := range [2]string{k.Primary, k.Secondary} {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return out, fault.New(fault.Malformed, "symmetric-key", "a symmetric key is written in base64").At(place(out.Role, slot))
		}
		out.Slots[slot].Key = key
	}
	return out, nil
}

func (t TPM) draft() (out provisioning.Attestation, err error) {
	out.Role = provisioning.RoleTPM
	keys := &out.Slots[rotation.Primary].TPM
	if keys.Endorsement, err = base64.StdEncoding.DecodeString(t.EndorsementKey); err != nil {
		return out, fault.New(fault.Malformed, tpm.RuleEndorsementKey, "an endorsement key is written in base64").At(place(out.Role, 0) + "/endorsementKey")
	}
	if keys.StorageRoot, err = base64.StdEncoding.DecodeString(t.StorageRootKey); err != nil {
		return out, fault.New(fault.Malformed, tpm.RuleStorageRootKey, "a storage root key is written in base64").At(place(out.Role, 0) + "/storageRootKey")
	}
	return out, nil
}

// TPMOf are the keys of an entry's TPM, nil of one that names none.
func TPMOf(e provisioning.Enrollment) *TPM {
	if e.Role() != provisioning.RoleTPM {
		return nil
	}
	keys := e.Credentials[0].TPM
	return &TPM{EndorsementKey: base64.StdEncoding.EncodeToString(keys.Endorsement), StorageRootKey: base64.StdEncoding.EncodeToString(keys.StorageRoot)}
}

func (x X509Attestation) draft() (provisioning.Attestation, error) {
	switch {
	case x.Client != nil && x.Signing == nil && x.CAReferences == nil:
		return x.Client.draft(provisioning.RoleClient)
	case x.Signing != nil && x.Client == nil && x.CAReferences == nil:
		return x.Signing.draft(provisioning.RoleSigning)
	case x.CAReferences != nil && x.Client == nil && x.Signing == nil:
		out := provisioning.Attestation{Role: provisioning.RoleCARef}
		out.Slots[rotation.Primary].Anchor, out.Slots[rotation.Secondary].Anchor = x.CAReferences.Primary, x.CAReferences.Secondary
		return out, nil
	}
	return provisioning.Attestation{}, fault.New(fault.Malformed, "attestation", "x509 has exactly one of clientCertificates, signingCertificates and caReferences").At("/attestation/x509")
}

func (c Certificates) draft(r provisioning.Role) (provisioning.Attestation, error) {
	out := provisioning.Attestation{Role: r}
	for slot, in := range [2]*Certificate{c.Primary, c.Secondary} {
		switch {
		case in == nil:
		case in.Certificate != "":
			out.Slots[slot].Certificate = []byte(in.Certificate)
		case in.Info == nil:
			return out, fault.New(fault.Malformed, "certificate-missing", "the slot has neither a certificate nor the info of the one to keep").At(place(r, slot))
		default:
			keep, err := verify.ParseThumbprint(in.Info.SHA256)
			if err != nil {
				return out, fault.As(err).At(place(r, slot) + "/info/sha256Thumbprint")
			}
			out.Slots[slot].Keep = keep
		}
	}
	return out, nil
}

func place(r provisioning.Role, slot int) string {
	return "/attestation/" + string(r) + "/" + rotation.Slot(slot).String()
}

// AttestationOf answers an entry's attestation, without secrets. A credential that stands
// alone is answered as the primary one, whatever its slot: C#'s client throws at a pair
// without a primary (§4.1).
func AttestationOf(e provisioning.Enrollment) (Attestation, error) {
	var refs [2]string
	var certs [2]*Certificate
	for _, c := range e.Credentials {
		slot := c.Slot
		if len(e.Credentials) == 1 {
			slot = rotation.Primary
		}
		refs[slot] = c.Anchor
		if len(c.Certificate) == 0 {
			continue
		}
		cert, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return Attestation{}, err
		}
		info := InfoOf(verify.NewLink(cert))
		certs[slot] = &Certificate{Info: &info}
	}
	pair := &Certificates{Primary: certs[rotation.Primary], Secondary: certs[rotation.Secondary]}
	switch e.Role() {
	case provisioning.RoleKey:
		return Attestation{Type: "symmetricKey"}, nil
	case provisioning.RoleTPM, provisioning.RoleTPMList, provisioning.RoleTPMCA:
		return Attestation{Type: "tpm", TPM: TPMOf(e)}, nil
	case provisioning.RoleClient:
		return Attestation{Type: "x509", X509: &X509Attestation{Client: pair}}, nil
	case provisioning.RoleSigning:
		return Attestation{Type: "x509", X509: &X509Attestation{Signing: pair}}, nil
	case provisioning.RoleCARef:
		return Attestation{Type: "x509", X509: &X509Attestation{CAReferences: &CAReferences{Primary: refs[rotation.Primary], Secondary: refs[rotation.Secondary]}}}, nil
	}
	return Attestation{Type: "none"}, nil
}

// KeysOf are keys as they are answered; an empty slot is left out.
func KeysOf(keys [2][]byte) *SymmetricKey {
	return &SymmetricKey{
		Primary:   base64.StdEncoding.EncodeToString(keys[rotation.Primary]),
		Secondary: base64.StdEncoding.EncodeToString(keys[rotation.Secondary]),
	}
}

// given is free JSON of a request; nil when it is absent or null.
func given(raw json.RawMessage) json.RawMessage {
	if !wire.Given(raw) {
		return nil
	}
	return raw
}
