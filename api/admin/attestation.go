package admin

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// attestation is how the devices of an entry prove themselves (contract §4.1).
type attestation struct {
	Type         string           `json:"type" enum:"x509,symmetricKey,none" doc:"none is answered of an entry whose last credential is gone; it cannot be written."`
	X509         *x509Attestation `json:"x509,omitempty" doc:"Exactly one of its members."`
	SymmetricKey *symmetricKey    `json:"symmetricKey,omitempty"`
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

// draft is the attestation as the engine takes it. Which roles an entry may have is
// for the engine to say.
func (a attestation) draft() (provisioning.Attestation, error) {
	switch {
	case a.Type == "symmetricKey" && a.X509 == nil:
		return a.SymmetricKey.draft()
	case a.Type == "x509" && a.X509 != nil && a.SymmetricKey == nil:
		return a.X509.draft()
	}
	return provisioning.Attestation{}, fault.New(fault.Malformed, "attestation", "an attestation has one kind of credential: the one its type names").At("/attestation")
}

func (k *symmetricKey) draft() (provisioning.Attestation, error) {
	out := provisioning.Attestation{Role: provisioning.RoleKey}
	if k == nil {
		return out, nil
	}
	for slot, text := range [2]string{k.PrimaryKey, k.SecondaryKey} {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			at := "/attestation/" + string(provisioning.RoleKey) + "/" + rotation.Slot(slot).String()
			return out, fault.New(fault.Malformed, "symmetric-key", "a symmetric key is written in base64").At(at)
		}
		out.Slots[slot].Key = key
	}
	return out, nil
}

func (x x509Attestation) draft() (provisioning.Attestation, error) {
	switch {
	case x.ClientCertificates != nil && x.SigningCertificates == nil && x.CAReferences == nil:
		return x.ClientCertificates.draft(provisioning.RoleClient)
	case x.SigningCertificates != nil && x.ClientCertificates == nil && x.CAReferences == nil:
		return x.SigningCertificates.draft(provisioning.RoleSigning)
	case x.CAReferences != nil && x.ClientCertificates == nil && x.SigningCertificates == nil:
		out := provisioning.Attestation{Role: provisioning.RoleCARef}
		out.Slots[rotation.Primary].Anchor, out.Slots[rotation.Secondary].Anchor = x.CAReferences.Primary, x.CAReferences.Secondary
		return out, nil
	}
	return provisioning.Attestation{}, fault.New(fault.Malformed, "attestation", "x509 has exactly one of clientCertificates, signingCertificates and caReferences").At("/attestation/x509")
}

func (c certificates) draft(r provisioning.Role) (provisioning.Attestation, error) {
	out := provisioning.Attestation{Role: r}
	for slot, in := range [2]*certificate{c.Primary, c.Secondary} {
		place := "/attestation/" + string(r) + "/" + rotation.Slot(slot).String()
		switch {
		case in == nil:
		case in.Certificate != "":
			out.Slots[slot].Certificate = []byte(in.Certificate)
		case in.Info == nil:
			return out, fault.New(fault.Malformed, "certificate-missing", "the slot has neither a certificate nor the info of the one to keep").At(place)
		default:
			keep, err := verify.ParseThumbprint(in.Info.SHA256Thumbprint)
			if err != nil {
				return out, at(err, place+"/info/sha256Thumbprint")
			}
			out.Slots[slot].Keep = keep
		}
	}
	return out, nil
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
	return &symmetricKey{
		PrimaryKey:   base64.StdEncoding.EncodeToString(keys[rotation.Primary]),
		SecondaryKey: base64.StdEncoding.EncodeToString(keys[rotation.Secondary]),
	}
}
