package wire

import (
	"crypto/rand"
	"fmt"
	"net/http"
)

// TraceID names the request in the log and in error answers: a random UUID (RFC 9562
// §5.4), the form that the trackingId of DPS has. It is "" outside a [Door].
func TraceID(r *http.Request) string {
	if c, is := r.Context().Value(requestKey{}).(*requestContext); is {
		return c.traceID()
	}
	return ""
}

// NewTraceID makes a trace id, for what is asked outside a [Door].
func NewTraceID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
