package dps

import (
	"crypto/sha1" // a name in answers (§2.2), never a proof
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// pollAfter is the Retry-After of an operation that is not finished, in seconds.
const pollAfter = "1"

type operationBody struct {
	OperationID string     `json:"operationId"`
	Status      string     `json:"status"`
	State       *stateBody `json:"registrationState,omitempty"`
}

// stateBody is a registration as its device sees it (§2.2). The field payload is the
// allocation webhook's answer, not what the device sent: there is none.
type stateBody struct {
	X509           *x509Body `json:"x509,omitempty"`
	SymmetricKey   *keyBody  `json:"symmetricKey,omitempty"`
	RegistrationID string    `json:"registrationId"`
	Created        string    `json:"createdDateTimeUtc"`
	AssignedHub    string    `json:"assignedHub,omitempty"`
	DeviceID       string    `json:"deviceId,omitempty"`
	Status         string    `json:"status"`
	Substatus      string    `json:"substatus,omitempty"`
	ErrorCode      int       `json:"errorCode,omitempty"`
	ErrorMessage   string    `json:"errorMessage,omitempty"`
	LastUpdated    string    `json:"lastUpdatedDateTimeUtc"`
	ETag           string    `json:"etag"`
	IssuedChain    [][]byte  `json:"issuedCertificateChain,omitempty"` // base64 DER: leaf, issuer, …, root (§2.3)
}

type x509Body struct {
	Certificate certificateBody  `json:"certificateInfo"`
	Group       string           `json:"enrollmentGroupId,omitempty"`
	Signing     *certificateBody `json:"signingCertificateInfo,omitempty"`
}

type keyBody struct {
	Group string `json:"enrollmentGroupId,omitempty"`
}

type certificateBody struct {
	Subject   string `json:"subjectName"`
	SHA1      string `json:"sha1Thumbprint"`
	SHA256    string `json:"sha256Thumbprint"`
	Issuer    string `json:"issuerName"`
	NotBefore string `json:"notBeforeUtc"`
	NotAfter  string `json:"notAfterUtc"`
	Serial    string `json:"serialNumber"`
	Version   int    `json:"version"`
}

// replyOperation answers with an operation: as done says when it is finished, 202 and
// where to ask next when it is not.
func (k call) replyOperation(c *gin.Context, done int, op provisioning.Operation) error {
	body := operationBody{OperationID: op.Operation.ID, Status: string(op.State)}
	if op.State == provisioning.Assigning {
		c.Header("Retry-After", pollAfter)
		c.Header("Location", fmt.Sprintf("/%s/registrations/%s/operations/%s?api-version=%s",
			k.engine.IDScope(), k.spelled, op.Operation.ID, c.Query("api-version")))
		return reply(c, http.StatusAccepted, body)
	}
	state := stateOf(op)
	if k.version.carriesCSR() {
		state.IssuedChain = op.Chain
	}
	body.State = &state
	return reply(c, done, body)
}

func stateOf(op provisioning.Operation) stateBody {
	s := stateBody{
		RegistrationID: op.Spelled,
		Created:        stamp(op.Created),
		AssignedHub:    op.Hub,
		DeviceID:       op.DeviceID,
		Status:         string(op.State),
		Substatus:      op.Substatus,
		ErrorCode:      op.ErrorCode,
		ErrorMessage:   op.ErrorMessage,
		LastUpdated:    stamp(op.Updated),
		ETag:           strconv.Quote(strconv.FormatInt(op.Version, 10)),
	}
	if len(op.Path) == 0 {
		s.SymmetricKey = &keyBody{Group: op.Group}
		return s
	}
	s.X509 = &x509Body{Certificate: certificateOf(op.Path[0]), Group: op.Group}
	if op.Group != "" && len(op.Path) > 1 {
		signing := certificateOf(op.Path[1])
		s.X509.Signing = &signing
	}
	return s
}

func certificateOf(l verify.Link) certificateBody {
	return certificateBody{
		Subject:   l.Cert.Subject.String(),
		SHA1:      fmt.Sprintf("%X", sha1.Sum(l.Cert.Raw)),
		SHA256:    strings.ToUpper(l.Thumbprint.String()),
		Issuer:    l.Cert.Issuer.String(),
		NotBefore: l.Cert.NotBefore.UTC().Format(time.RFC3339),
		NotAfter:  l.Cert.NotAfter.UTC().Format(time.RFC3339),
		Serial:    serial(l.Cert),
		Version:   l.Cert.Version,
	}
}

// serial is the serial number in upper-case hex, whole octets.
func serial(c *x509.Certificate) string { return fmt.Sprintf("%X", c.SerialNumber.Bytes()) }

// stamp writes a time as Azure does, with seven decimals (§1).
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func reply(c *gin.Context, status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.Data(status, wire.MediaTypeJSON+"; charset=utf-8", text)
	return nil
}
