package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

const (
	apiVersion = "2021-04-12"
	maxAnswer  = 16 << 20 // a page of a hundred twins has at most half of it
)

// answer is what came back.
type answer struct {
	status int
	word   string // the hub's word for an error, "" where it said none that can be shown
	after  time.Duration
	header http.Header
	body   []byte
}

// ask makes one call; headers are names and values in turn. Its error is that no answer came:
// Unavailable "hub-unreachable".
func (h hub) ask(ctx context.Context, method, path string, in any, header ...string) (answer, error) {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return answer{}, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.origin()+path+"?api-version="+apiVersion, body)
	if err != nil {
		return answer{}, unreachable(err)
	}
	req.Header.Set("Authorization", h.token(h.now()))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "muster")
	if in != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return answer{}, unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, unreachable(err)
	}
	return answer{status: resp.StatusCode, word: wordOf(resp.Header, text), after: callout.RetryAfter(resp.Header), header: resp.Header, body: text}, nil
}

func unreachable(err error) error {
	if errors.Is(err, callout.ErrAddress) {
		return fault.New(fault.Unavailable, "hub-unreachable", "the hub is at an address that this server does not call").Because(callout.Cause(err))
	}
	return fault.New(fault.Unavailable, "hub-unreachable", "the hub could not be reached").Because(callout.Cause(err))
}

// errorWord finds the hub's word in the message of an error (contract §8).
var errorWord = regexp.MustCompile(`^(?:ErrorCode:)?([A-Za-z0-9]{1,64})(?:;|$)`)

func wordOf(header http.Header, body []byte) string {
	var message struct{ Message string }
	_ = json.Unmarshal(body, &message) // what is no error of a hub's has no word
	for _, text := range []string{header.Get("iothub-errorcode"), message.Message} {
		if found := errorWord.FindStringSubmatch(text); found != nil {
			return found[1]
		}
	}
	return ""
}

// noDevice says that the hub does not have the device. Anybody may answer 404 who knows of no
// hub either.
func (a answer) noDevice() bool {
	return a.status == http.StatusNotFound && (a.word == "DeviceNotFound" || a.word == "404001")
}

// overtaken says that the device is not any more what it was read as.
func (a answer) overtaken() bool {
	return a.noDevice() || a.status == http.StatusConflict || a.status == http.StatusPreconditionFailed
}

// read reads a success.
func (a answer) read(into any) error {
	if a.status != http.StatusOK {
		return a.unavailable()
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return strange()
	}
	return nil
}

// verdict is the error of an answer to a write: the hub has something against this device, or it
// cannot be worked with now. A hub that is full answers 403, and may still disable.
func (a answer) verdict() error {
	switch a.status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return refused("the hub refused the device: it answered %s", a.text()).Later(a.after)
	}
	return a.unavailable()
}

func (a answer) unavailable() error {
	return fault.New(fault.Unavailable, "hub-unavailable", "the hub answered %s", a.text()).Later(a.after)
}

// text names a status and the hub's word for it.
func (a answer) text() string {
	if a.word == "" {
		return strconv.Itoa(a.status)
	}
	return strconv.Itoa(a.status) + " " + a.word
}

// strange is of a success that is no IoT Hub's: a proxy's page, say.
func strange() error {
	return fault.New(fault.Unavailable, "hub-unavailable", "the hub answered 200 with what cannot be read")
}

func refused(format string, args ...any) *fault.Error {
	return fault.New(fault.Conflict, provisioning.RuleHubRefused, format, args...)
}

func devicePath(id string) string { return "/devices/" + url.PathEscape(id) }
