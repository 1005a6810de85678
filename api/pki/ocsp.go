package pki

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// ocspPath is where the responder stands. The address in certificates goes on with the
// issuer's id; without it the request's hashes alone say which issuer is meant.
const ocspPath = "/ocsp"

const mediaOCSP = "application/ocsp-response"

var issuerID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// postOCSP answers RFC 6960 §A.1.1. The body's DER is the judge of its media type.
func (h handler) postOCSP(c *gin.Context) error {
	der, err := ocspInBody(c.Writer, c.Request)
	if err != nil {
		return fault.New(fault.Malformed, "ocsp-request", "The request is too long, or ended early.").Because(err)
	}
	answer, _, err := h.answerOCSP(c, der, ca.IssuerID(c.Param("issuer")))
	if err != nil {
		return err
	}
	giveOnce(c.Writer, answer.DER)
	return nil
}

// Header values that are not made for each answer. Nobody changes them.
var (
	typeOCSP = []string{mediaOCSP}
	noStore  = []string{"no-store"}
)

// giveOnce answers with what no cache may keep.
func giveOnce(w http.ResponseWriter, der []byte) {
	header := w.Header()
	header["Content-Type"], header["Cache-Control"] = typeOCSP, noStore
	_, _ = w.Write(der) // the client may have gone
}

// ocspInBody makes room for no more than was announced: requests are short.
func ocspInBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > ca.MaxOCSPRequest {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, ca.MaxOCSPRequest))
	}
	der := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, der)
	return der, err
}

// getOCSP answers a request in the path (RFC 6960 §A.1), with what caches need to know
// (RFC 5019 §6.2). The router's own path will not do: a slash at its end belongs to the base64.
func (h handler) getOCSP(c *gin.Context) error {
	issuer, der, err := ocspInPath(c.Request.RequestURI)
	if err != nil {
		return err
	}
	answer, q, err := h.answerOCSP(c, der, issuer)
	if err != nil {
		return err
	}
	if q.HasNonce() {
		giveOnce(c.Writer, answer.DER)
		return nil
	}
	// A cache on the way asks again as soon as one that has a CRL: else it would go on saying
	// good until nextUpdate. The client itself may keep the answer that long.
	c.Header("Expires", answer.NextUpdate.UTC().Format(http.TimeFormat))
	serve(c, file{
		mediaType: mediaOCSP, etag: verify.ThumbprintOf(answer.DER).String(), modified: answer.ThisUpdate,
		maxAge: min(crlMaxAge, max(0, answer.NextUpdate.Sub(h.now()))), content: answer.DER, directives: ", no-transform, must-revalidate",
	})
	return nil
}

// ocspInPath reads /ocsp/{base64} and /ocsp/{issuer}/{base64}, whatever the client or a proxy
// made of the characters of base64 that mean something else in a URL.
func ocspInPath(target string) (ca.IssuerID, []byte, error) {
	malformed := fault.New(fault.Malformed, "ocsp-request", "The path does not end in an OCSP request in base64.")
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return "", nil, malformed.Because(err)
	}
	rest := strings.TrimLeft(strings.TrimPrefix(u.Path, ocspPath), "/") // no request begins so: it is a SEQUENCE
	var issuer ca.IssuerID
	if first, after, _ := strings.Cut(rest, "/"); issuerID.MatchString(first) {
		issuer, rest = ca.IssuerID(first), strings.TrimLeft(after, "/")
	}
	if rest, err = url.PathUnescape(rest); err != nil { // escaped twice, if there is anything left
		return "", nil, malformed.Because(err)
	}
	rest = strings.TrimRight(strings.NewReplacer(" ", "+", "-", "+", "_", "/").Replace(rest), "=")
	if base64.RawStdEncoding.DecodedLen(len(rest)) > ca.MaxOCSPRequest {
		return "", nil, malformed
	}
	der, err := base64.RawStdEncoding.DecodeString(rest)
	if err != nil {
		return "", nil, malformed.Because(err)
	}
	return issuer, der, nil
}

// answerOCSP asks the authorities of all tenants: an issuer's hashes say whose it is.
func (h handler) answerOCSP(c *gin.Context, der []byte, issuer ca.IssuerID) (ca.OCSPAnswer, ca.OCSPRequest, error) {
	q, err := ca.ParseOCSPRequest(der)
	if err != nil {
		return ca.OCSPAnswer{}, q, err
	}
	err = ca.ErrOCSPIssuer
	for _, t := range h.tenants.All() {
		var answer ca.OCSPAnswer
		answer, err = t.Authority.AnswerOCSP(c.Request.Context(), q, issuer)
		if err == nil {
			h.answered(answer.Status)
			return answer, q, nil
		}
		if !fault.Is(err, fault.NotFound) {
			break
		}
	}
	return ca.OCSPAnswer{}, q, err
}

// failOCSP answers an error as an OCSP response without a certificate's status (RFC 6960
// §4.2.1, RFC 5019 §2.2.3). HTTP's own status is 200: it is an answer.
func (h handler) failOCSP(w http.ResponseWriter, err error) {
	status, label := ca.OCSPInternalError, "internal-error"
	switch fault.KindOf(err) {
	case fault.Malformed:
		status, label = ca.OCSPMalformed, "malformed"
	case fault.NotFound:
		status, label = ca.OCSPUnauthorized, "unauthorized"
	case fault.Unavailable:
		status, label = ca.OCSPTryLater, "try-later"
	}
	h.answered(label)
	giveOnce(w, status.DER())
}

func (h handler) answered(status string) {
	if h.observe != nil {
		h.observe(status)
	}
}

func (h handler) now() time.Time { return h.settings.Now() }
