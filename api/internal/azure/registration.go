package azure

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// RegistrationState is a registration as its device sees it (§2.2). The field payload is
// what the allocation webhook has for the device, not what the device sent.
type RegistrationState struct {
	X509           *AttestedByX509 `json:"x509,omitempty"`
	SymmetricKey   *AttestedByKey  `json:"symmetricKey,omitempty"`
	TPM            *AttestedByTPM  `json:"tpm,omitempty"`
	RegistrationID string          `json:"registrationId"`
	Created        string          `json:"createdDateTimeUtc"`
	AssignedHub    string          `json:"assignedHub,omitempty"`
	DeviceID       string          `json:"deviceId,omitempty"`
	Status         string          `json:"status"`
	Substatus      string          `json:"substatus,omitempty"`
	ErrorCode      int             `json:"errorCode,omitempty"`
	ErrorMessage   string          `json:"errorMessage,omitempty"`
	LastUpdated    string          `json:"lastUpdatedDateTimeUtc"`
	ETag           string          `json:"etag"`
	Payload        json.RawMessage `json:"payload,omitempty"`
	IssuedClient   string          `json:"issuedClientCertificate,omitempty"` // PEM, in the early previews (§2.3)
	IssuedChain    [][]byte        `json:"issuedCertificateChain,omitempty"`  // base64 DER: leaf, issuer, …, root (§2.3)
}

// AttestedByX509 is what the device proved itself with, and for whom it was signed.
type AttestedByX509 struct {
	Certificate CertificateInfo  `json:"certificateInfo"`
	Group       string           `json:"enrollmentGroupId,omitempty"`
	Signing     *CertificateInfo `json:"signingCertificateInfo,omitempty"`
}

// AttestedByKey says that the device proved itself with a symmetric key.
type AttestedByKey struct {
	Group string `json:"enrollmentGroupId,omitempty"`
}

// AttestedByTPM says that the device proved itself with its TPM, and once it is assigned has the
// key for its hub, wrapped for that TPM.
type AttestedByTPM struct {
	AuthenticationKey []byte `json:"authenticationKey,omitempty"`
	Group             string `json:"enrollmentGroupId,omitempty"` // ours: Azure has no groups of TPMs
}

// StateOf is the state of an operation, without the certificate it issued.
func StateOf(op provisioning.Operation) RegistrationState {
	s := RecordOf(op.Registration)
	switch {
	case op.Attested == verify.MechanismTPM:
		s.TPM = &AttestedByTPM{op.TPMKey, op.Group}
		return s
	case len(op.Path) == 0:
		s.SymmetricKey = &AttestedByKey{Group: op.Group}
		return s
	}
	s.X509 = &AttestedByX509{Certificate: InfoOf(op.Path[0]), Group: op.Group}
	if op.Group != "" && len(op.Path) > 1 {
		signing := InfoOf(op.Path[1])
		s.X509.Signing = &signing
	}
	return s
}

// RecordOf is a registration as the service API answers it: without what attested it (§4.4).
func RecordOf(r provisioning.Registration) RegistrationState {
	return RegistrationState{
		RegistrationID: r.Spelled,
		Created:        Stamp(r.Created),
		AssignedHub:    r.Hub,
		DeviceID:       r.DeviceID,
		Status:         string(r.State),
		Substatus:      r.Substatus,
		ErrorCode:      r.ErrorCode,
		ErrorMessage:   r.ErrorMessage,
		LastUpdated:    Stamp(r.Updated),
		ETag:           ETag(r.Version),
		Payload:        r.Returned,
	}
}

// ETag is a version as the data planes write it: quoted, the quotes part of the text (§4.3).
func ETag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// Stamp writes a time as Azure does, with seven decimals (§1).
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }
