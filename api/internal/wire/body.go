package wire

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// ReadBody reads a body of at most limit octets and of one media type, parameters
// apart (INV-R1). No body at all is nil and of any type.
//
// Errors: TooLarge ("body-too-large"); Malformed with [RuleMediaType] for another type
// and for compressed bodies, which are not taken apart for a stranger; and Malformed
// ("body-incomplete") when the connection ended first.
func ReadBody(r *http.Request, limit int64, mediaType string) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, fault.New(fault.Malformed, RuleMediaType, "The body is compressed; send it plain.")
	}
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != mediaType {
		return nil, fault.New(fault.Malformed, RuleMediaType, "The content type is not %s.", mediaType)
	}
	// Room for what was announced, but not before it comes for what is long.
	read := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), usualBody)+bytes.MinRead))
	_, err := read.ReadFrom(io.LimitReader(r.Body, limit+1))
	body := read.Bytes()
	switch {
	case err != nil:
		return nil, fault.New(fault.Malformed, "body-incomplete", "The body ended early.").Because(err)
	case int64(len(body)) > limit:
		return nil, tooLarge(limit)
	}
	return body, nil
}

// usualBody is what nearly every body of a device fits in, in octets.
const usualBody = 4 << 10

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "body-too-large", "The body is larger than %d KiB.", limit>>10)
}
