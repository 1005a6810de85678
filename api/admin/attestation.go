package admin

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"time"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// attestation is how the devices of an entry prove themselves (contract §4.1).
type attestation struct {
	Type         string           `json:"type" enum:"x509,symmetricKey,tpm,none" doc:"none is answered of an entry whose last credential is gone; it cannot be written."`
	X509         *x509Attestation `json:"x509,omitempty" doc:"Exactly one of its members."`
	SymmetricKey *symmetricKey    `json:"symmetricKey,omitempty"`
	TPM          *tpmAttestation  `json:"tpm,omitempty"`
}

type tpmAttestation struct {
	EndorsementKey string        `json:"endorsementKey,omitempty" doc:"Of the one device; in enrollments only. TPM2B_PUBLIC with its length, in base64."`
	StorageRootKey string        `json:"storageRootKey,omitempty" doc:"Admits the TPM with this owner only; likewise."`
	Listed         bool          `json:"listed,omitempty" doc:"The group admits the TPMs on its list of endorsement keys; in groups only."`
	CAReferences   *caReferences `json:"caReferences,omitempty" doc:"Names of verified trust anchors: the group admits the TPMs for whose endorsement keys a manufacturer below them made a certificate; in groups only."`
	Manufacturers  []string      `json:"manufacturers,omitempty" nullable:"false" maxItems:"64" doc:"What that certificate has to say of the TPM, case apart; any without. With caReferences." example:"id:4E544300"`
	Models         []string      `json:"models,omitempty" nullable:"false" maxItems:"64" doc:"Likewise."`
	Versions       []string      `json:"versions,omitempty" nullable:"false" maxItems:"64" doc:"Likewise, of its firmware."`
}

// shared is the attestation in Azure's words or, of a group, in ours.
func (k tpmAttestation) shared() *azure.TPM {
	out := &azure.TPM{EndorsementKey: k.EndorsementKey, StorageRootKey: k.StorageRootKey}
	conditions := provisioning.TPMConditions{Manufacturers: k.Manufacturers, Models: k.Models, Versions: k.Versions}
	if k.Listed || k.CAReferences != nil || !conditions.IsZero() {
		out.Group = &azure.TPMGroup{Listed: k.Listed, CAReferences: k.CAReferences.shared(), Conditions: conditions}
	}
	return out
}

func (r *caReferences) shared() *azure.CAReferences {
	if r == nil {
		return nil
	}
	return &azure.CAReferences{Primary: r.Primary, Secondary: r.Secondary}
}

type x509Attestation struct {
	ClientCertificates  *certificates `json:"clientCertificates,omitempty" doc:"Of one device; in enrollments only."`
	SigningCertificates *certificates `json:"signingCertificates,omitempty" doc:"The CA above the devices; in groups only."`
	CAReferences        *caReferences `json:"caReferences,omitempty" doc:"Names of verified trust anchors; in groups only."`
}

// certificates are the two slots. An absent slot is emptied by a write.
type certificates struct {
	Primary   *certificate `json:"primary,omitempty"`
	Secondary *certificate `json:"secondary,omitempty"`
}

// certificate is one slot: a write sends the certificate, or the info it was answered
// with to keep the one that is there; an answer has the info alone.
type certificate struct {
	Certificate string           `json:"certificate,omitempty" writeOnly:"true" doc:"PEM, or base64 of PEM or DER."`
	Info        *certificateInfo `json:"info,omitempty"`
}

// certificateInfo has the fields of the contract, in the spelling of this API: hex in
// lower case.
type certificateInfo struct {
	SubjectName      string     `json:"subjectName,omitempty"`
	SHA1Thumbprint   string     `json:"sha1Thumbprint,omitempty"`
	SHA256Thumbprint string     `json:"sha256Thumbprint" doc:"In a write: of the certificate to keep."`
	IssuerName       string     `json:"issuerName,omitempty"`
	NotBeforeUtc     *time.Time `json:"notBeforeUtc,omitempty"`
	NotAfterUtc      *time.Time `json:"notAfterUtc,omitempty"`
	SerialNumber     string     `json:"serialNumber,omitempty"`
	Version          int        `json:"version,omitempty"`
}

type caReferences struct {
	Primary   string `json:"primary,omitempty"`
	Secondary string `json:"secondary,omitempty"`
}

// symmetricKey is written, and read through attestationmechanism alone.
type symmetricKey struct {
	PrimaryKey   string `json:"primaryKey,omitempty" doc:"Base64 of 16 to 64 bytes. Absent: the stored key, or a new one."`
	SecondaryKey string `json:"secondaryKey,omitempty"`
}

// pointers are where the engine's places for a role stand in the JSON.
var pointers = strings.NewReplacer(
	"/attestation/"+string(provisioning.RoleClient)+"/", "/attestation/x509/clientCertificates/",
	"/attestation/"+string(provisioning.RoleSigning)+"/", "/attestation/x509/signingCertificates/",
	"/attestation/"+string(provisioning.RoleCARef)+"/", "/attestation/x509/caReferences/",
	"/attestation/"+string(provisioning.RoleTPM)+"/primary", "/attestation/tpm",
	"/attestation/"+string(provisioning.RoleTPMCA)+"/", "/attestation/tpm/caReferences/",
	"/attestation/"+string(provisioning.RoleKey)+"/primary", "/attestation/symmetricKey/primaryKey",
	"/attestation/"+string(provisioning.RoleKey)+"/secondary", "/attestation/symmetricKey/secondaryKey",
)

// pointed is err with its pointers into this API's JSON.
func pointed(err error) error {
	f := fault.As(err)
	if f == nil || len(f.Fields) == 0 {
		return err
	}
	moved := *f
	moved.Fields = make([]fault.Field, len(f.Fields))
	for i, field := range f.Fields {
		moved.Fields[i] = fault.Field{Pointer: pointers.Replace(field.Pointer), Detail: field.Detail}
	}
	return &moved
}

// shared is the attestation in Azure's words: they are the same but for the spelling of
// certificates' info.
func (a attestation) shared() azure.Attestation {
	out := azure.Attestation{Type: a.Type}
	if k := a.SymmetricKey; k != nil {
		out.SymmetricKey = &azure.SymmetricKey{Primary: k.PrimaryKey, Secondary: k.SecondaryKey}
	}
	if k := a.TPM; k != nil {
		out.TPM = k.shared()
	}
	if x := a.X509; x != nil {
		out.X509 = &azure.X509Attestation{Client: x.ClientCertificates.shared(), Signing: x.SigningCertificates.shared()}
		out.X509.CAReferences = x.CAReferences.shared()
	}
	return out
}

func (c *certificates) shared() *azure.Certificates {
	if c == nil {
		return nil
	}
	return &azure.Certificates{Primary: c.Primary.shared(), Secondary: c.Secondary.shared()}
}

func (c *certificate) shared() *azure.Certificate {
	if c == nil {
		return nil
	}
	out := &azure.Certificate{Certificate: c.Certificate}
	if c.Info != nil {
		out.Info = &azure.CertificateInfo{SHA256: c.Info.SHA256Thumbprint}
	}
	return out
}

// attestationOf answers an entry's attestation, without secrets.
func attestationOf(e provisioning.Enrollment) (attestation, error) {
	var refs [2]string
	var certs [2]*certificate
	for _, c := range e.Credentials {
		refs[c.Slot] = c.Anchor
		if len(c.Certificate) == 0 {
			continue
		}
		info, err := infoOf(c.Certificate)
		if err != nil {
			return attestation{}, err
		}
		certs[c.Slot] = &certificate{Info: info}
	}
	pair := &certificates{Primary: certs[rotation.Primary], Secondary: certs[rotation.Secondary]}
	switch e.Role() {
	case provisioning.RoleKey:
		return attestation{Type: "symmetricKey"}, nil
	case provisioning.RoleTPM:
		k := azure.TPMOf(e)
		return attestation{Type: "tpm", TPM: &tpmAttestation{EndorsementKey: k.EndorsementKey, StorageRootKey: k.StorageRootKey}}, nil
	case provisioning.RoleTPMList:
		return attestation{Type: "tpm", TPM: &tpmAttestation{Listed: true}}, nil
	case provisioning.RoleTPMCA:
		return attestation{Type: "tpm", TPM: &tpmAttestation{
			CAReferences:  &caReferences{Primary: refs[rotation.Primary], Secondary: refs[rotation.Secondary]},
			Manufacturers: e.TPM.Manufacturers, Models: e.TPM.Models, Versions: e.TPM.Versions,
		}}, nil
	case provisioning.RoleClient:
		return attestation{Type: "x509", X509: &x509Attestation{ClientCertificates: pair}}, nil
	case provisioning.RoleSigning:
		return attestation{Type: "x509", X509: &x509Attestation{SigningCertificates: pair}}, nil
	case provisioning.RoleCARef:
		return attestation{Type: "x509", X509: &x509Attestation{CAReferences: &caReferences{Primary: refs[rotation.Primary], Secondary: refs[rotation.Secondary]}}}, nil
	}
	return attestation{Type: "none"}, nil
}

func infoOf(der []byte) (*certificateInfo, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	sha := sha1.Sum(der)
	return &certificateInfo{
		SubjectName: c.Subject.String(), IssuerName: c.Issuer.String(),
		SHA1Thumbprint: hex.EncodeToString(sha[:]), SHA256Thumbprint: verify.ThumbprintOf(der).String(),
		NotBeforeUtc: instant(c.NotBefore), NotAfterUtc: instant(c.NotAfter),
		SerialNumber: string(ca.SerialOf(c.SerialNumber)), Version: c.Version,
	}, nil
}

// keysOf are keys as they are answered; an empty slot is left out.
func keysOf(keys [2][]byte) *symmetricKey {
	k := azure.KeysOf(keys)
	return &symmetricKey{PrimaryKey: k.Primary, SecondaryKey: k.Secondary}
}
