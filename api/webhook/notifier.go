package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Notifier is a provisioning.Notifier: it posts each ledger entry as a CloudEvent 1.0 in
// JSON, structured mode, signed as Standard Webhooks say.
type Notifier struct{ http *http.Client }

// NewNotifier makes a Notifier. It calls where an Allocator does.
func NewNotifier(o callout.Options) *Notifier { return &Notifier{http: o.Client()} }

// data is what an event carries beside the attributes of CloudEvents.
type data struct {
	Seq    int64           `json:"seq,omitempty"` // in the ledger; 0: a test
	Actor  string          `json:"actor"`
	Action audit.Action    `json:"action"`
	Facts  json.RawMessage `json:"facts"`
}

// event is a ledger entry as a CloudEvent. The same entry is always the same event, so that
// one which comes twice is known by its source and id.
func event(n provisioning.Notice) (id string, body []byte, err error) {
	e := cloudevents.New(cloudevents.CloudEventsVersionV1)
	id = n.IDScope + "-" + strconv.FormatInt(n.Entry.Seq, 10)
	if n.Entry.Seq == 0 {
		id += "-" + strconv.FormatInt(n.Entry.At.UnixMicro(), 10)
	}
	e.SetID(id)
	e.SetSource("/idscopes/" + n.IDScope)
	e.SetType("muster." + string(n.Entry.Action))
	e.SetSubject(n.Entry.Subject)
	e.SetTime(n.Entry.At)
	err = e.SetData(cloudevents.ApplicationJSON, data{Seq: n.Entry.Seq, Actor: n.Entry.Actor, Action: n.Entry.Action, Facts: n.Entry.Body})
	if err == nil {
		body, err = json.Marshal(e)
	}
	return id, body, err
}

// Notify posts a notice. Any status of 2xx takes it.
//
// Errors: Unavailable "subscriber-unreachable" and "subscriber-refused", with what the
// subscriber asks for by Retry-After, up to an hour.
func (n *Notifier) Notify(ctx context.Context, notice provisioning.Notice) error {
	id, body, err := event(notice)
	if err != nil {
		return err
	}
	answer, err := callout.Message{
		URL: notice.URL, ContentType: cloudevents.ApplicationCloudEventsJSON + "; charset=utf-8", ID: id, Key: notice.Key.Reveal(), Body: body,
	}.Post(ctx, n.http)
	if err != nil {
		return subscriberUnreachable(err)
	}
	if answer.Taken() {
		return nil
	}
	return fault.New(fault.Unavailable, "subscriber-refused", "the subscriber answered %d", answer.Status).Later(answer.RetryAfter)
}

func subscriberUnreachable(cause error) error {
	if errors.Is(cause, callout.ErrAddress) {
		return fault.New(fault.Unavailable, "subscriber-unreachable", "the subscriber is at an address that this server does not call").Because(cause)
	}
	return fault.New(fault.Unavailable, "subscriber-unreachable", "the subscriber could not be reached").Because(cause)
}
