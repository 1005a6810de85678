package device

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// DefaultAPIVersion is the oldest device API that carries a certificate request.
const DefaultAPIVersion = "2025-07-01-preview"

const (
	// maxAnswer bounds what is read of any answer: a chain of ten RSA-4096
	// certificates in base64 needs a quarter of it.
	maxAnswer      = 128 << 10
	requestTimeout = 30 * time.Second
)

// Config says who the device is and where its server stands.
type Config struct {
	// URL of the server's device listener, https only: "https://dps.example.net:8443".
	URL string
	// IDScope names the tenant: a segment of every DPS path, the label of the EST path
	// (RFC 7030 section 3.2.2). It may be empty for EST.
	IDScope string
	// RegistrationID is the device's name, and the CN of its certificates:
	// 1-128 letters, digits and "-._:", the last one a letter, digit or "-".
	RegistrationID string
	// CA are the roots that may vouch for the server; nil means the system's.
	CA         *x509.CertPool
	Credential Credential
	// APIVersion of the DPS device API; empty means DefaultAPIVersion.
	APIVersion string
	// Timeout bounds one request; zero means 30 seconds.
	Timeout time.Duration
	// Now is the device's clock; nil means time.Now.
	Now func() time.Time
	// Transport replaces the network, for simulators and tests. It is handed the TLS
	// settings (roots and client certificate) an ordinary transport would use.
	Transport func(*tls.Config) http.RoundTripper
}

// Client speaks for one device with one credential. It is safe for concurrent use.
type Client struct {
	config Config
	base   string
	http   *http.Client
}

var (
	registrationIDs = regexp.MustCompile(`^[A-Za-z0-9._:-]{0,127}[A-Za-z0-9-]$`)
	idScopes        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
)

// New checks the configuration and returns a client; it does not connect.
func New(config Config) (*Client, error) {
	u, err := url.Parse(config.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("device: server URL: %w", err)
	case u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("device: server URL %q is not of the form https://host", config.URL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("device: server URL must be host and path only")
	case config.IDScope != "" && !idScopes.MatchString(config.IDScope):
		return nil, fmt.Errorf("device: %q is not an id scope", config.IDScope)
	}
	if err := errors.Join(CheckRegistrationID(config.RegistrationID), config.Credential.check()); err != nil {
		return nil, err
	}
	if config.APIVersion == "" {
		config.APIVersion = DefaultAPIVersion
	}
	if config.Timeout == 0 {
		config.Timeout = requestTimeout
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Transport == nil {
		config.Transport = network
	}
	return &Client{
		config: config,
		base:   strings.TrimRight(u.String(), "/"),
		http: &http.Client{
			Transport: config.Transport(tlsConfig(config)),
			Timeout:   config.Timeout,
			// A redirect would carry the credential to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// CheckRegistrationID says whether id is in the one grammar of names (INV-P3); such
// an id is also a safe file name.
func CheckRegistrationID(id string) error {
	if !registrationIDs.MatchString(id) {
		return fmt.Errorf("device: %q is not a registration id", id)
	}
	return nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func tlsConfig(config Config) *tls.Config {
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: config.CA, Time: config.Now}
	if own := config.Credential.Certificate; own != nil {
		// Not Certificates: crypto/tls would hold the certificate back when the server's
		// list of acceptable CAs does not name its issuer, and the server decides later.
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	return t
}

func network(config *tls.Config) http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    requestTimeout,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// request is one call; authorization is the header's value, or "".
type request struct {
	method, url, authorization string
	header                     map[string]string
	body                       []byte
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// send makes one call. A status of any kind is an answer; an error means that none
// came (*Unreachable) or that it is longer than the protocols allow (ErrBadAnswer).
func (c *Client) send(ctx context.Context, r request) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, fmt.Errorf("device: %w", err)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.authorization != "" {
		req.Header.Set("Authorization", r.authorization)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, &Unreachable{Err: withoutURL(err)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, &Unreachable{Err: fmt.Errorf("the answer broke off: %w", err)}
	case len(body) > maxAnswer:
		return answer{}, fmt.Errorf("%w: it is longer than %d bytes", ErrBadAnswer, maxAnswer)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// withoutURL drops the method and address net/http puts before every error; the
// caller knows them, and a person reading one line does not want them.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// wait blocks for d or until the context ends, whichever is first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
