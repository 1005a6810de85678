package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Allocator is a provisioning.Allocator.
type Allocator struct{ http *http.Client }

const maxAnswer = 64 << 10

// New makes an Allocator.
func New(o callout.Options) *Allocator { return &Allocator{http: o.Client()} }

// question is the body of a call.
type question struct {
	Individual *azure.Enrollment `json:"individualEnrollment,omitempty"`
	Group      *azure.Enrollment `json:"enrollmentGroup,omitempty"`
	Device     device            `json:"deviceRuntimeContext"`
	Hubs       []string          `json:"linkedHubs"`
}

// device has one of x509 and symmetricKey, as the device attests.
type device struct {
	RegistrationID string          `json:"registrationId"`
	CurrentHub     string          `json:"currentIotHubHostName,omitempty"`
	CurrentDevice  string          `json:"currentDeviceId,omitempty"`
	X509           *attested       `json:"x509,omitempty"`
	SymmetricKey   *struct{}       `json:"symmetricKey,omitempty"`
	Payload        json.RawMessage `json:"payload,omitempty"`
}

type attested struct {
	Certificate azure.CertificateInfo  `json:"certificateInfo"`
	Signing     *azure.CertificateInfo `json:"signingCertificateInfo,omitempty"`
}

func questionOf(r provisioning.AllocationRequest) (question, error) {
	entry, err := azure.EnrollmentOf(r.Entry)
	q := question{Individual: &entry, Hubs: r.Hubs, Device: device{
		RegistrationID: r.Device, CurrentHub: r.CurrentHub, CurrentDevice: r.CurrentDevice, Payload: r.Payload,
	}}
	if r.Entry.Kind == provisioning.Group {
		q.Individual, q.Group = nil, &entry
	}
	if q.Hubs == nil {
		q.Hubs = []string{}
	}
	switch {
	case r.Mechanism == verify.MechanismSymmetricKey:
		q.Device.SymmetricKey = &struct{}{}
	case len(r.Path) > 0:
		q.Device.X509 = &attested{Certificate: azure.InfoOf(r.Path[0])}
		if q.Group != nil && len(r.Path) > 1 {
			signing := azure.InfoOf(r.Path[1])
			q.Device.X509.Signing = &signing
		}
	}
	return q, err
}

// Pick asks the webhook of the request's entry.
//
// Errors: Unavailable "allocation-unreachable" and "allocation-refused", Malformed
// "allocation-answer".
func (a *Allocator) Pick(ctx context.Context, r provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) {
	q, err := questionOf(r)
	if err != nil {
		return provisioning.AllocationAnswer{}, err
	}
	body, err := json.Marshal(q)
	if err != nil {
		return provisioning.AllocationAnswer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Entry.Custom.URL, bytes.NewReader(body))
	if err != nil {
		return provisioning.AllocationAnswer{}, unreachable(err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "muster")
	resp, err := a.http.Do(req)
	if err != nil {
		return provisioning.AllocationAnswer{}, unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return provisioning.AllocationAnswer{}, unreachable(err)
	}
	return parseAnswer(text)
}

// refusal is a status other than 200, in Azure's words; two have an error code (contract §1.1).
func refusal(status int) (a provisioning.AllocationAnswer, err error) {
	switch status {
	case http.StatusBadRequest:
		a.Code = 400207
	case http.StatusUnauthorized:
		a.Code = 400209
	}
	return a, fault.New(fault.Unavailable, "allocation-refused", "Custom allocation failed with status code: %d", status)
}

// answer is what a webhook says. What else is in it is passed over.
type answer struct {
	Hub         string          `json:"iotHubHostName"`
	InitialTwin json.RawMessage `json:"initialTwin"`
	Payload     json.RawMessage `json:"payload"`
}

func parseAnswer(text []byte) (provisioning.AllocationAnswer, error) {
	var said answer
	if len(text) > maxAnswer {
		return provisioning.AllocationAnswer{}, fault.New(fault.Malformed, "allocation-answer", "the allocation webhook answered more than %d KiB", maxAnswer>>10)
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return provisioning.AllocationAnswer{}, fault.New(fault.Malformed, "allocation-answer", "the allocation webhook did not answer with a JSON object of the contract").Because(err)
	}
	out := provisioning.AllocationAnswer{Hub: said.Hub}
	if wire.Given(said.InitialTwin) {
		out.InitialTwin = azure.TwinWithoutMetadata(said.InitialTwin)
	}
	if wire.Given(said.Payload) {
		out.Payload = said.Payload
	}
	return out, nil
}

// unreachable says no more to the device than that it failed; the log has the cause, without
// the address, in whose query webhooks have keys (INV-K4).
func unreachable(cause error) error {
	cause = callout.Cause(cause)
	if errors.Is(cause, callout.ErrAddress) {
		return fault.New(fault.Unavailable, "allocation-unreachable", "the allocation webhook is at an address that this server does not call").Because(cause)
	}
	return fault.New(fault.Unavailable, "allocation-unreachable", "the allocation webhook could not be reached").Because(cause)
}
