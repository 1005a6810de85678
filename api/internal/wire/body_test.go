package wire

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/passmuster/muster/internal/fault"
)

func TestReadBody(t *testing.T) {
	request := func(body io.Reader, header ...string) *http.Request {
		r := httptest.NewRequest("PUT", "/", body)
		r.Header.Set("Content-Type", "Application/JSON; charset=utf-8")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r
	}
	unknownLength := func(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }
	tests := map[string]struct {
		request *http.Request
		want    string
		rule    string
	}{
		"a body":                                 {request(strings.NewReader("{}")), "{}", ""},
		"a body at the limit":                    {request(strings.NewReader(strings.Repeat("x", 1024))), strings.Repeat("x", 1024), ""},
		"a body of unknown length at the limit":  {request(unknownLength(strings.Repeat("x", 1024))), strings.Repeat("x", 1024), ""},
		"one octet more":                         {request(strings.NewReader(strings.Repeat("x", 1025))), "", "body-too-large"},
		"one octet more, of unknown length":      {request(unknownLength(strings.Repeat("x", 1025))), "", "body-too-large"},
		"no body, of any type":                   {request(nil, "Content-Type", "text/html"), "", ""},
		"plain, and saying so":                   {request(strings.NewReader("{}"), "Content-Encoding", "identity"), "{}", ""},
		"compressed":                             {request(strings.NewReader("{}"), "Content-Encoding", "gzip"), "", RuleMediaType},
		"compressed in a way nobody knows":       {request(strings.NewReader("{}"), "Content-Encoding", "x, identity"), "", RuleMediaType},
		"of another type":                        {request(strings.NewReader("{}"), "Content-Type", "application/jsonp"), "", RuleMediaType},
		"of no type":                             {request(strings.NewReader("{}"), "Content-Type", ""), "", RuleMediaType},
		"of a type that is none":                 {request(strings.NewReader("{}"), "Content-Type", "application/json; ="), "", RuleMediaType},
		"of a client that went away":             {request(iotest.ErrReader(io.ErrUnexpectedEOF)), "", "body-incomplete"},
		"of a client that went away, half of it": {request(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(errors.New("reset")))), "", "body-incomplete"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ReadBody(tt.request, 1024, "application/json")
			if string(got) != tt.want || fault.RuleOf(err) != tt.rule || (err == nil) != (tt.rule == "") {
				t.Errorf("%q, %v; want %q, rule %q", got, err, tt.want, tt.rule)
			}
		})
	}
}

func TestDecodeJSON(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := map[string]struct{ text, rule string }{
		"an object":                     {`{"name":"x","other":1}`, ""},
		"at the depth allowed":          {`{"any":` + nested(31) + `}`, ""},
		"one deeper":                    {`{"any":` + nested(32) + `}`, "json-depth"},
		"far deeper, and cut short":     {strings.Repeat("[", 1<<20), "json-depth"},
		"brackets in a text":            {`{"any":"` + strings.Repeat("[", 99) + `"}`, ""},
		"quotes in a text":              {`{"any":"\"` + strings.Repeat("{", 99) + `\\"}`, ""},
		"a text that does not end":      {`{"any":"`, "json"},
		"a backslash at the end":        {`{"any":"\`, "json"},
		"nothing":                       {``, "json"},
		"two values":                    {`{} {}`, "json"},
		"a wrong type":                  {`{"name":1}`, "json-type"},
		"a wrong type of the whole":     {`[]`, "json"},
		"a byte that is in no alphabet": {"{\"\xff\":1", "json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var v struct {
				Name string `json:"name"`
			}
			err := DecodeJSON([]byte(tt.text), &v)
			if fault.RuleOf(err) != tt.rule || (err == nil) != (tt.rule == "") {
				t.Errorf("%v, want rule %q", err, tt.rule)
			}
		})
	}
}
