package device

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/smallstep/pkcs7"
)

// CACerts fetches the certificates of the issuing CA and those above it (RFC 7030
// section 4.1), in the server's order. Unlike the paper's bootstrap, the server has
// already proved itself against Config.CA.
func (c *Client) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	a, err := c.est(ctx, http.MethodGet, "cacerts", nil)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, refusal(a)
	}
	return certsOnly(a)
}

// SimpleEnroll asks for a first certificate (RFC 7030 section 4.2.1), proving itself
// with the onboarding credential: a client certificate, or the symmetric key or a
// one-time code over HTTP basic. The chain is leaf first and as long as the server made it; RFC 7030
// servers may send the leaf alone. A 202 is waited out, bounded by ctx. Errors as
// for Register.
func (c *Client) SimpleEnroll(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	return c.enroll(ctx, "simpleenroll", csr)
}

// SimpleReenroll asks for the next certificate (RFC 7030 section 4.2.2), proving
// itself with the one it replaces.
func (c *Client) SimpleReenroll(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	return c.enroll(ctx, "simplereenroll", csr)
}

func (c *Client) enroll(ctx context.Context, operation string, der []byte) ([]*x509.Certificate, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("device: the certificate request: %w", err)
	}
	body := base64.StdEncoding.AppendEncode(nil, der)
	for {
		a, err := c.est(ctx, http.MethodPost, operation, body)
		if err != nil {
			return nil, err
		}
		switch a.status {
		case http.StatusOK:
			certs, err := certsOnly(a)
			if err != nil {
				return nil, err
			}
			chain := leafFirst(certs, csr)
			return chain, answers(chain, csr)
		case http.StatusAccepted:
			// RFC 7030 section 4.2.3: the same request again, after Retry-After.
			interval := max(retryAfter(a.header), pollInterval)
			if err := wait(ctx, interval); err != nil {
				return nil, fmt.Errorf("waiting for the certificate: %w", err)
			}
		default:
			return nil, refusal(a)
		}
	}
}

func (c *Client) est(ctx context.Context, method, operation string, body []byte) (answer, error) {
	path := "/.well-known/est/"
	if c.config.IDScope != "" {
		path += c.config.IDScope + "/"
	}
	r := request{method: method, url: c.base + path + operation, body: body, header: map[string]string{}}
	if body != nil {
		r.header["Content-Type"] = "application/pkcs10"
		r.header["Content-Transfer-Encoding"] = "base64" // RFC 8951 lets servers ignore it; older ones insist
		if key := c.config.Credential.SymmetricKey; len(key) > 0 {
			r.authorization = basic(c.config.RegistrationID, base64.StdEncoding.EncodeToString(key))
		} else if code := c.config.Credential.Code; code != "" {
			r.authorization = basic(c.config.RegistrationID, code)
		}
	}
	return c.send(ctx, r)
}

// certsOnly reads a "certs-only" answer: base64, with or without line breaks
// (RFC 8951 section 3.1), of a PKCS#7 SignedData without signers.
func certsOnly(a answer) ([]*x509.Certificate, error) {
	media, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	kind := params["smime-type"]
	if err != nil || media != "application/pkcs7-mime" || kind != "" && !strings.EqualFold(kind, "certs-only") {
		return nil, fmt.Errorf("%w: content type %q instead of application/pkcs7-mime certs-only",
			ErrBadAnswer, oneLine(a.header.Get("Content-Type")))
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(a.body), nil)))
	if err != nil {
		return nil, fmt.Errorf("%w: the certificates are not base64", ErrBadAnswer)
	}
	message, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%w: the certificates are not PKCS#7: %w", ErrBadAnswer, err)
	}
	if len(message.Certificates) == 0 {
		return nil, fmt.Errorf("%w: PKCS#7 without a certificate", ErrBadAnswer)
	}
	return message.Certificates, nil
}
