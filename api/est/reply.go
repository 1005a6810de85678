package est

import (
	"bytes"
	"encoding/base64"
	"mime/multipart"
	"net/http"
	"net/textproto"

	"github.com/gin-gonic/gin"
	"github.com/smallstep/pkcs7"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
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
	c.Data(http.StatusOK, mediaTypeCerts, text(message))
	return nil
}

const (
	mediaTypeCerts = "application/pkcs7-mime; smime-type=certs-only"
	mediaTypeKey   = "application/pkcs8"
)

// replyWithKey answers with a key made here (PKCS#8) and its certificate, in two parts
// (RFC 7030 §4.4.2). No cache may keep it.
func replyWithKey(c *gin.Context, key verify.Secret, certificate []byte) error {
	message, err := pkcs7.DegenerateCertificate(certificate)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	for _, p := range []struct {
		mediaType string
		der       []byte
	}{{mediaTypeKey, key.Reveal()}, {mediaTypeCerts, message}} {
		part, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {p.mediaType}, "Content-Transfer-Encoding": {"base64"}})
		if err != nil {
			return err
		}
		if _, err := part.Write(text(p.der)); err != nil {
			return err
		}
	}
	if err := parts.Close(); err != nil {
		return err
	}
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, "multipart/mixed; boundary="+parts.Boundary(), body.Bytes())
	return nil
}

// text is base64 without line breaks: strongSwan's client takes none, and nobody has to
// send any (RFC 8951 §3.1).
func text(der []byte) []byte { return base64.StdEncoding.AppendEncode(nil, der) }

// statusOf is the one table of kinds. Some rules have a status of their own; what is
// under way is no error to EST (RFC 7030 §4.2.3).
func statusOf(err error) int {
	if f := fault.As(err); f != nil && f.Kind == fault.Unavailable && f.Pending {
		return http.StatusAccepted
	}
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
	sentence := ""
	switch status {
	case http.StatusUnauthorized:
		// Whatever the reason was, the same: with it, only the engine's explain helps.
		header.Set("WWW-Authenticate", `Basic realm="estrealm"`)
		sentence = "The device is not authorized."
	case http.StatusInternalServerError:
		sentence = "Something went wrong here."
	default:
		sentence = fault.As(err).Detail
	}
	wire.Advise(header, status, err)
	if status == http.StatusAccepted {
		header.Set("Retry-After", wire.RetryAfter(err))
	}
	if status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // the rest of the body is not waited for
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(sentence + "\n"))
}
