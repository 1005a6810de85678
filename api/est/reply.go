package est

import (
	"bytes"
	"encoding/base64"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/smallstep/pkcs7"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// reply answers with certificates (DER) as a "certs-only" message in base64
// (RFC 7030 §4.1.3, §4.2.3).
func reply(c *gin.Context, certificates ...[]byte) error {
	if len(certificates) == 0 {
		return fault.New(fault.Unavailable, "no-certificates", "There is no certificate to hand out yet.")
	}
	message, err := pkcs7.DegenerateCertificate(bytes.Join(certificates, nil))
	if err != nil {
		return err
	}
	c.Header("Content-Transfer-Encoding", "base64")
	c.Data(http.StatusOK, "application/pkcs7-mime; smime-type=certs-only", lines(message))
	return nil
}

// lineLength is that of MIME (RFC 2045 §6.8).
const lineLength = 76

func lines(der []byte) []byte {
	text := base64.StdEncoding.AppendEncode(nil, der)
	var out bytes.Buffer
	out.Grow(len(text) + len(text)/lineLength + 1)
	for len(text) > 0 {
		n := min(lineLength, len(text))
		out.Write(text[:n])
		out.WriteByte('\n')
		text = text[n:]
	}
	return out.Bytes()
}

// statusOf is the one table of kinds. Some rules have a status of their own.
func statusOf(err error) int {
	switch fault.RuleOf(err) {
	case wire.RuleMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case wire.RuleMediaType:
		return http.StatusUnsupportedMediaType
	}
	switch fault.KindOf(err) {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden, fault.Disallowed:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.PreconditionFailed, fault.PreconditionRequired:
		return http.StatusPreconditionFailed
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Throttled:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// fail answers an error as one sentence of text (RFC 7030 §4.2.3).
func fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Request-Id", wire.TraceID(r))
	text := ""
	switch status {
	case http.StatusUnauthorized:
		// Whatever the reason was, the same: with it, only the engine's explain helps.
		header.Set("WWW-Authenticate", `Basic realm="estrealm"`)
		text = "The device is not authorized."
	case http.StatusInternalServerError:
		text = "Something went wrong here."
	default:
		text = fault.As(err).Detail
	}
	wire.Advise(header, status, err)
	if status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // the rest of the body is not waited for
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
