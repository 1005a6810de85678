package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// client speaks the admin REST API (experience §3). It decides nothing: the server
// does.
type client struct {
	base  string // without /api/v1
	pki   string // "" when not known
	ops   string // "" for the admin listener
	token string
	http  *http.Client
	out   streams

	curl    bool
	verbose bool
}

// call is one request to the API.
type call struct {
	method string
	at     []string // segments below /api/v1, not escaped
	query  url.Values
	// match is If-Match; "none" stands for If-None-Match: *.
	match  string
	accept string // a media type other than JSON
	body   any    // encoded as JSON; nil sends none
	// next is the command to try after a refusal, if the usual ones do not fit.
	next string
}

const mustBeNew = "none"

// answer is what the API said.
type answer struct {
	body json.RawMessage
	etag string
}

// maxAnswer bounds what is read of an answer: a page of 500 enrollments fits many times.
const maxAnswer = 64 << 20

const apiPrefix = "/api/v1/"

// do makes one call. Errors are *apiError: refusals as the server words them, and
// fault.Unavailable when there was no answer.
func (c *client) do(ctx context.Context, a call) (answer, error) {
	path, err := escaped(a.at)
	if err != nil {
		return answer{}, err
	}
	address := c.base + apiPrefix + path
	if len(a.query) > 0 {
		address += "?" + a.query.Encode()
	}
	var body []byte
	if a.body != nil {
		if body, err = json.Marshal(a.body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, a.method, address, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		if a.method == http.MethodPatch {
			req.Header.Set("Content-Type", "application/merge-patch+json")
		}
	}
	if a.accept != "" {
		req.Header.Set("Accept", a.accept)
	}
	switch a.match {
	case "":
	case mustBeNew:
		req.Header.Set("If-None-Match", "*")
	default:
		req.Header.Set("If-Match", a.match)
	}
	if c.curl {
		c.printCurl(req, body)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	status, header, text, err := c.send(req)
	if err != nil {
		return answer{}, err
	}
	if status >= 300 {
		return answer{}, c.refused(status, text, a.next)
	}
	return answer{body: text, etag: header.Get("ETag")}, nil
}

// raw fetches a file from another listener, without the token.
func (c *client) raw(ctx context.Context, address string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, fault.New(fault.Malformed, "address", "%q is not an address", address)
	}
	if c.curl {
		c.printCurl(req, nil)
	}
	status, _, text, err := c.send(req)
	return status, text, err
}

func (c *client) send(req *http.Request) (int, http.Header, []byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, c.unreachable(req.Context(), err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, nil, c.unreachable(req.Context(), err)
	}
	if len(text) > maxAnswer {
		return 0, nil, nil, fault.New(fault.Internal, "answer-too-large", "the answer is larger than %d MiB", maxAnswer>>20)
	}
	return resp.StatusCode, resp.Header, text, nil
}

func (c *client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &apiError{
		fault: fault.New(fault.Unavailable, "unreachable", "the server at %s cannot be reached: %v", c.base, err),
		next:  "is it running, and is --admin-url right? Over https, --ca-file names the roots to trust",
	}
}

// escaped joins path segments. An empty one, or one of dots, would name another
// resource than was meant.
func escaped(segments []string) (string, error) {
	out := make([]string, len(segments))
	for i, s := range segments {
		if strings.Trim(s, ".") == "" {
			return "", fault.New(fault.Malformed, "name", "%q is not a name", s)
		}
		out[i] = url.PathEscape(s)
	}
	return strings.Join(out, "/"), nil
}

// printCurl shows a call as a command for a shell. The token stays in its variable and
// a body with a symmetric key is not shown.
func (c *client) printCurl(req *http.Request, body []byte) {
	var b strings.Builder
	b.WriteString("curl")
	if req.Method != http.MethodGet {
		b.WriteString(" -X " + req.Method)
	}
	if c.token != "" && strings.HasPrefix(req.URL.String(), c.base+apiPrefix) {
		b.WriteString(` -H "Authorization: Bearer $` + tokenEnv + `"`)
	}
	for _, name := range []string{"Accept", "Content-Type", "If-Match", "If-None-Match"} {
		if v := req.Header.Get(name); v != "" {
			b.WriteString(" -H " + shellWord(name+": "+v))
		}
	}
	switch {
	case body == nil:
	case bytes.Contains(body, []byte(`Key":"`)):
		b.WriteString(" --data @BODY-WITH-A-SECRET.json")
	default:
		b.WriteString(" --data " + shellWord(string(body)))
	}
	fmt.Fprintf(c.out.Err, "%s %s\n", b.String(), shellWord(req.URL.String()))
}
