package device

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Request is what a device may say when it registers; all of it is optional.
type Request struct {
	// CSR is PKCS#10 in DER, its CN the registration id; the answer then has a Chain.
	CSR []byte
	// Key is the CSR's, if the credential is the TPM that it is in: the TPM vouches for it.
	Key crypto.Signer
	// Payload is a JSON object for the server's custom allocation.
	Payload json.RawMessage
}

// Result is how a registration stands. Status is "assigned" when Register returns it;
// a lookup may also show "unassigned", "assigning", "failed" or "disabled".
type Result struct {
	Status, Substatus     string
	AssignedHub, DeviceID string
	// Chain is the issued certificate and those above it, leaf first; only after a
	// registration with a CSR.
	Chain             []*x509.Certificate
	Payload           json.RawMessage
	OperationID, ETag string

	hubKey []byte // wrapped for the TPM
}

const (
	pollInterval = 2 * time.Second // where the server names none, as Azure's SDKs do
	// pollFailures is how many temporary failures in a row a followed operation
	// survives: the registration itself was accepted, only the asking fails.
	pollFailures = 5
)

// Register asks for the device's hub, and for a certificate if the request has a CSR,
// and follows the operation to its end (DPS contract sections 2.1-2.3). It waits
// between polls as long as the server says; bound it with ctx. Errors: *Refused,
// *Unreachable, ErrBadAnswer, the context's.
func (c *Client) Register(ctx context.Context, r Request) (Result, error) {
	var csr *x509.CertificateRequest
	if r.CSR != nil {
		var err error
		if csr, err = x509.ParseCertificateRequest(r.CSR); err != nil {
			return Result{}, fmt.Errorf("device: the certificate request: %w", err)
		}
	}
	asked := registerBody{RegistrationID: c.config.RegistrationID, CSR: r.CSR, Payload: r.Payload}
	body, err := asked.marshal()
	chip := c.config.Credential.TPM
	if err == nil && chip != nil {
		body, err = c.prove(ctx, asked, r.Key)
	}
	if err != nil {
		return Result{}, err
	}
	a, err := c.dps(ctx, http.MethodPut, "/register", body)
	if err != nil {
		return Result{}, err
	}
	result, err := c.follow(ctx, a)
	if err != nil {
		return result, err
	}
	if chip != nil && len(result.hubKey) > 0 {
		err = c.activate(result.hubKey) // the device comes to its hub with it
	}
	if csr != nil {
		err = errors.Join(err, answers(result.Chain, csr))
	}
	return result, err
}

// Status looks the registration up without changing it. A device that never
// registered gets *Refused with status 404.
func (c *Client) Status(ctx context.Context) (Result, error) {
	a, err := c.dps(ctx, http.MethodPost, "", []byte("{}"))
	if err != nil {
		return Result{}, err
	}
	if a.status != http.StatusOK {
		return Result{}, refusal(a)
	}
	var state registrationBody
	if err := json.Unmarshal(a.body, &state); err != nil {
		return Result{}, badJSON(err)
	}
	return state.result(c.config.RegistrationID)
}

// follow polls until the operation in a is finished.
func (c *Client) follow(ctx context.Context, a answer) (Result, error) {
	operation, result, err := readOperation(a, c.config.RegistrationID)
	for failures := 0; err == nil && result.Status != "assigned"; {
		interval := retryAfter(a.header)
		if interval == 0 {
			interval = pollInterval
		}
		if err := wait(ctx, interval); err != nil {
			return Result{}, fmt.Errorf("following operation %s: %w", operation, err)
		}
		next, pollErr := c.dps(ctx, http.MethodGet, "/operations/"+operation, nil)
		if pollErr == nil && next.status >= http.StatusMultipleChoices {
			pollErr = refusal(next)
		}
		switch {
		case pollErr == nil:
			a, failures = next, 0
			_, result, err = readOperation(a, c.config.RegistrationID)
		case !IsTemporary(pollErr) || failures == pollFailures:
			return Result{}, pollErr
		default:
			failures++
			a = next // its Retry-After counts; none if nothing came
		}
	}
	return result, err
}

// dps makes one call on the registration, authenticated like every other one.
func (c *Client) dps(ctx context.Context, method, path string, body []byte) (answer, error) {
	var sign func([]byte) ([]byte, error)
	switch own := c.config.Credential; {
	case own.TPM != nil:
		sign = own.TPM.MAC
	case len(own.SymmetricKey) > 0:
		sign = signedBy(own.SymmetricKey)
	default:
		return c.call(ctx, method, path, body, "")
	}
	token, err := Token(c.resource(), "registration", c.config.Now().Add(tokenLife), sign)
	if err != nil {
		return answer{}, fmt.Errorf("device: no token was signed: %w", err)
	}
	return c.call(ctx, method, path, body, token)
}

func (c *Client) resource() string {
	return c.config.IDScope + "/registrations/" + c.config.RegistrationID
}

// call makes one call with a token, or with the client certificate alone.
func (c *Client) call(ctx context.Context, method, path string, body []byte, token string) (answer, error) {
	if c.config.IDScope == "" {
		return answer{}, errors.New("device: the provisioning service needs an id scope")
	}
	r := request{
		method: method,
		url:    c.base + "/" + c.resource() + path + "?api-version=" + url.QueryEscape(c.config.APIVersion),
		header: map[string]string{"Accept": "application/json"},
		body:   body,
	}
	if body != nil {
		r.header["Content-Type"] = "application/json; charset=utf-8"
	}
	r.authorization = token
	return c.send(ctx, r)
}

type registerBody struct {
	RegistrationID string          `json:"registrationId"`
	CSR            []byte          `json:"csr,omitempty"`
	Payload        json.RawMessage `json:"payload,omitempty"`
	TPM            *tpmBody        `json:"tpm,omitempty"`
}

func (b registerBody) marshal() ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("device: the registration: %w", err)
	}
	return text, nil
}

type operationBody struct {
	OperationID string            `json:"operationId"`
	Status      string            `json:"status"`
	State       *registrationBody `json:"registrationState"`
}

type registrationBody struct {
	RegistrationID string          `json:"registrationId"`
	DeviceID       string          `json:"deviceId"`
	AssignedHub    string          `json:"assignedHub"`
	Status         string          `json:"status"`
	Substatus      string          `json:"substatus"`
	ErrorCode      int             `json:"errorCode"`
	ErrorMessage   string          `json:"errorMessage"`
	ETag           string          `json:"etag"`
	Payload        json.RawMessage `json:"payload"`
	IssuedChain    []string        `json:"issuedCertificateChain"`
	TPM            tpmBody         `json:"tpm"`
}

// operationIDs go unescaped into a path (DPS contract section 2.1), so nothing that
// could leave the segment may pass.
var operationIDs = regexp.MustCompile(`^[A-Za-z0-9-][A-Za-z0-9.-]{0,255}$`)

// readOperation reads the answer to register and to a poll. Both may be finished or
// not, whatever the status code says: the body decides (DPS contract section 2.1).
func readOperation(a answer, registrationID string) (operation string, result Result, err error) {
	if a.status != http.StatusOK && a.status != http.StatusAccepted {
		return "", Result{}, refusal(a)
	}
	var body operationBody
	if err := json.Unmarshal(a.body, &body); err != nil {
		return "", Result{}, badJSON(err)
	}
	if !operationIDs.MatchString(body.OperationID) {
		return "", Result{}, fmt.Errorf("%w: no usable operation id", ErrBadAnswer)
	}
	status := strings.ToLower(body.Status)
	switch status {
	case "assigning", "unassigned":
		return body.OperationID, Result{Status: status, OperationID: body.OperationID}, nil
	case "assigned":
		if body.State == nil {
			return "", Result{}, fmt.Errorf("%w: assigned, but without a registrationState", ErrBadAnswer)
		}
		result, err = body.State.result(registrationID)
		if err == nil && (result.AssignedHub == "" || result.DeviceID == "") {
			err = fmt.Errorf("%w: assigned, but to no hub", ErrBadAnswer)
		}
		result.Status, result.OperationID = status, body.OperationID
		return body.OperationID, result, err
	}
	no := &Refused{HTTPStatus: http.StatusOK, Message: fmt.Sprintf("the registration is %q", oneLine(body.Status))}
	if body.State != nil {
		no.ErrorCode = body.State.ErrorCode
		if text := oneLine(body.State.ErrorMessage); text != "" {
			no.Message = text
		}
	}
	return "", Result{}, no
}

func (b *registrationBody) result(registrationID string) (Result, error) {
	if !strings.EqualFold(b.RegistrationID, registrationID) {
		return Result{}, fmt.Errorf("%w: it is about registration %q", ErrBadAnswer, oneLine(b.RegistrationID))
	}
	chain := make([]*x509.Certificate, 0, len(b.IssuedChain))
	for i, text := range b.IssuedChain {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return Result{}, fmt.Errorf("%w: certificate %d of the chain is not base64", ErrBadAnswer, i)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return Result{}, fmt.Errorf("%w: certificate %d of the chain: %w", ErrBadAnswer, i, err)
		}
		chain = append(chain, cert)
	}
	return Result{
		Status: strings.ToLower(b.Status), Substatus: b.Substatus,
		AssignedHub: b.AssignedHub, DeviceID: b.DeviceID,
		Chain: chain, Payload: b.Payload, ETag: b.ETag, hubKey: b.TPM.Key,
	}, nil
}

func badJSON(err error) error { return fmt.Errorf("%w: not the JSON expected: %w", ErrBadAnswer, err) }
