package provisioning

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// CustomAllocation is who chooses hubs for an entry with custom allocation (contract §4.1):
// a webhook, and the version of Azure's API that it expects to be asked by. The zero value
// is nobody.
type CustomAllocation struct {
	URL        string
	APIVersion string
}

// Allocator asks an entry's webhook for a hub (contract §4.7). It ends with its context.
// What it answers is not believed: the engine checks it.
type Allocator interface {
	// Pick's faults are told to the device by their detail: Unavailable when there is no
	// answer or a refusal, whose Code comes with it, Malformed when it is none of the contract's.
	Pick(context.Context, AllocationRequest) (AllocationAnswer, error)
}

// AllocationRequest is the question. The entry has no secrets in it that are not sealed, but
// for its webhook's address.
type AllocationRequest struct {
	Entry         Enrollment
	Device        string // registration id, as the device spells it
	Mechanism     verify.Mechanism
	Path          []verify.Link // what attested the device: leaf … anchor; nil for a key
	CurrentHub    string        // "" the first time
	CurrentDevice string        // its id there
	Payload       []byte        // JSON, as the device sent it; nil = none
	Hubs          []string      // what may be answered
}

// AllocationAnswer is what a webhook said.
type AllocationAnswer struct {
	Hub         string
	InitialTwin []byte // JSON; nil = none
	Payload     []byte // JSON for the device; nil = none
	Code        int    // error code of the registration where it refused and Azure has one (contract §1.1); 0 = none
}

// allocationLimit is how long a webhook may take, and a device waits for it (contract §4.7).
const allocationLimit = 5 * time.Second

// asked is the question that one request to register has put, and what came of it: when
// the facts move and the request is decided anew, the same question is not put again.
type asked struct {
	done     bool
	question AllocationRequest
	answer   AllocationAnswer
	err      error

	signed *signed // what an authority elsewhere signed for it
}

// same says whether a question is the one that was put. Who asks, and what the device
// showed and sent, is of one request.
func (a *asked) same(q AllocationRequest) bool {
	return a.done && a.question.Entry.Owner == q.Entry.Owner && a.question.Entry.Version == q.Entry.Version &&
		a.question.CurrentHub == q.CurrentHub && a.question.CurrentDevice == q.CurrentDevice && slices.Equal(a.question.Hubs, q.Hubs)
}

// consult asks the webhook of the deciding entry, outside any transaction, where it
// has to be asked. That it gives no usable answer fails the registration and not the
// request, so it is kept in the decision; an error is of the request itself.
func (e *Engine) consult(ctx context.Context, d *decision, r RegisterRequest, csr *x509.CertificateRequest) error {
	if !d.asks() {
		return nil
	}
	if csr != nil {
		// A request that comes to nothing anyway is nothing to ask about.
		if _, err := d.admitCSR(r, csr); err != nil {
			return err
		}
	}
	q := d.question(r)
	if !r.asked.same(q) {
		var err error
		if q.Entry, err = e.withWebhook(q.Entry); err != nil {
			return err
		}
		answer, err := e.pick(ctx, q)
		if ctx.Err() != nil {
			return fault.New(fault.Unavailable, "request-ended", "the request ended before the allocation webhook answered").Because(ctx.Err())
		}
		*r.asked = asked{done: true, question: q, answer: answer, err: err, signed: r.asked.signed}
		if err != nil && e.complaints.due(d.entry.Owner, e.now()) {
			e.log.Warn("custom allocation failed", "registrationId", r.ID.String(), "entry", d.entry.String(), "problem", err.Error())
		}
	}
	d.webhook = r.asked
	return nil
}

// asks says that the deciding entry's webhook chooses the hub.
func (d *decision) asks() bool {
	return d.entry.Allocation == policies.Custom && !d.isQuarantined() && !d.stays()
}

// question is what the webhook is asked about a device. It is offered no hub that it
// may not name.
func (d *decision) question(r RegisterRequest) AllocationRequest {
	q := AllocationRequest{
		Entry: d.entry, Device: r.Spelled, Mechanism: d.identity.Mechanism(), Path: d.identity.Path(), Payload: r.Payload,
	}
	if reg := d.facts.Registration; reg != nil && reg.Hub != "" {
		q.CurrentHub, q.CurrentDevice = reg.Hub, reg.DeviceID
	}
	for _, c := range d.candidates() {
		if !c.Draining || strings.EqualFold(c.Hub, q.CurrentHub) {
			q.Hubs = append(q.Hubs, c.Hub)
		}
	}
	return q
}

func (e *Engine) pick(ctx context.Context, q AllocationRequest) (AllocationAnswer, error) {
	if e.allocator == nil {
		return AllocationAnswer{}, fault.New(fault.Unavailable, "allocation-not-configured", "custom allocation is not configured on this server")
	}
	ctx, cancel := context.WithTimeout(ctx, allocationLimit)
	defer cancel()
	answer, err := e.allocator.Pick(ctx, q)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return answer, fault.New(fault.Unavailable, "allocation-timeout", "the allocation webhook did not answer within %d seconds", allocationLimit/time.Second).Because(err)
	case fault.As(err) != nil:
		return answer, err
	case err != nil:
		return answer, fault.New(fault.Unavailable, "allocation-unreachable", "the allocation webhook cannot be asked").Because(err)
	}
	if err := CheckTwin(answer.InitialTwin); err != nil {
		return answer, fault.New(fault.Malformed, "allocation-answer", "the allocation webhook answered with a twin that no device can have").Because(err)
	}
	if len(answer.Payload) > 0 && !json.Valid(answer.Payload) {
		return answer, fault.New(fault.Malformed, "allocation-answer", "the allocation webhook answered with a payload that is not JSON")
	}
	return answer, nil
}

// Bounds of what an entry says of its webhook.
const (
	maxWebhookURL     = 2048
	maxWebhookVersion = 64
)

// checkCustom refuses a webhook that could not be asked, or not safely: it is asked over
// https, and in development over http on this host too.
func (e *Engine) checkCustom(en Enrollment) error {
	if en.Custom == (CustomAllocation{}) {
		if en.Allocation == policies.Custom {
			return fault.New(fault.Malformed, "webhook-missing", "custom allocation needs a webhook").At("/customAllocationDefinition/webhookUrl")
		}
		return nil
	}
	if err := CheckWebhookURL(en.Custom.URL, "/customAllocationDefinition/webhookUrl", e.localWebhooks); err != nil {
		return err
	}
	if v := en.Custom.APIVersion; len(v) > maxWebhookVersion || strings.ContainsFunc(v, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fault.New(fault.Malformed, "webhook-version", "an API version has at most %d printable characters", maxWebhookVersion).At("/customAllocationDefinition/apiVersion")
	}
	return nil
}

// CheckWebhookURL refuses an address that could not be called, or not safely: over plain HTTP
// only on this host, in development.
func CheckWebhookURL(address, at string, local bool) error {
	bad := func(detail string) error {
		return fault.New(fault.Malformed, "webhook-url", "%s", detail).At(at)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || len(address) > maxWebhookURL:
		return bad("the webhook is an address such as https://alloc.example.net/pick, of at most 2048 characters")
	case u.User != nil || u.Fragment != "":
		return bad("the webhook's address has no user name, password or fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !local || !OnThisHost(u.Hostname())):
		return bad("the webhook is asked over https")
	}
	return nil
}

// OnThisHost says that a host's name is of this machine alone.
func OnThisHost(name string) bool {
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.IsLoopback()
}

// withoutQuery is a webhook as the ledger has it: some carry a key in their query.
func (c CustomAllocation) withoutQuery() string {
	address, query, had := strings.Cut(c.URL, "?")
	if had && query != "" {
		return fmt.Sprintf("%s?(%d characters)", address, len(query))
	}
	return address
}

// complaints lets one line a minute through per entry: behind a webhook that is down, a whole
// fleet has the same thing to say.
type complaints struct {
	mu   sync.Mutex
	last map[Owner]time.Time
}

const maxComplaints = 1024

func (c *complaints) due(o Owner, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.last[o]; ok && now.Sub(last) < refusalLogGap {
		return false
	}
	if c.last == nil || len(c.last) >= maxComplaints {
		c.last = make(map[Owner]time.Time)
	}
	c.last[o] = now
	return true
}
