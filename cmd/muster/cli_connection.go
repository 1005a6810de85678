package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// connection says which server a client command talks to and as whom. What is set
// nowhere comes from ./muster-dev/dev.env, so that a fresh development server needs no
// settings. The token is never a flag: flags are seen by every process of the host.
type connection struct {
	AdminURL  string        `name:"admin-url" env:"MUSTER_ADMIN_URL" placeholder:"URL" help:"The server's admin listener."`
	PKIURL    string        `name:"pki-url" env:"MUSTER_PKI_URL" placeholder:"URL" help:"The server's PKI listener."`
	OpsURL    string        `name:"ops-url" env:"MUSTER_OPS_URL" placeholder:"URL" help:"The server's health listener (default: the admin listener)."`
	TokenFile string        `env:"MUSTER_TOKEN_FILE" placeholder:"FILE" type:"path" help:"File with the operator token (or MUSTER_TOKEN)."`
	CAFile    string        `name:"ca-file" env:"MUSTER_CA_FILE" placeholder:"FILE" type:"path" help:"Roots that vouch for the server, PEM (default: the system's)."`
	Curl      bool          `help:"Print each API call as a curl command."`
	Verbose   bool          `help:"Add the API's own words to an error."`
	Timeout   time.Duration `default:"30s" help:"Give up on a call after this long."`
}

const tokenEnv = "MUSTER_TOKEN"

var devEnvFile = filepath.Join("muster-dev", "dev.env")

// ProvideClient gives commands their client; kong calls it for whoever asks.
func (c *connection) ProvideClient(s streams) (*client, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	if c.AdminURL == "" && token == "" {
		if token, err = c.fromDevFolder(); err != nil {
			return nil, err
		}
	}
	base, err := c.base(token)
	if err != nil {
		return nil, err
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &client{
		base: base, token: token, pki: strings.TrimRight(c.PKIURL, "/"), ops: strings.TrimRight(c.OpsURL, "/"), out: s, curl: c.Curl, verbose: c.Verbose,
		// A redirect would carry the token wherever it points.
		http: &http.Client{Transport: transport, Timeout: c.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func (c *connection) token() (string, error) {
	if c.TokenFile == "" {
		return strings.TrimSpace(os.Getenv(tokenEnv)), nil
	}
	raw, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fault.New(fault.Malformed, "token-file", "the token file cannot be read: %v", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// fromDevFolder fills what is not set from a development folder and returns its token.
func (c *connection) fromDevFolder() (token string, err error) {
	raw, err := os.ReadFile(devEnvFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.Malformed, "no-server", "no server is named: give --admin-url or MUSTER_ADMIN_URL, and MUSTER_TOKEN or --token-file; or start one here with muster serve --dev")
	}
	if err != nil {
		return "", err
	}
	env := readEnvFile(raw)
	for field, name := range map[*string]string{&c.AdminURL: "MUSTER_ADMIN_URL", &c.PKIURL: "MUSTER_PKI_URL", &c.CAFile: "MUSTER_CA_FILE"} {
		if *field == "" {
			*field = env[name]
		}
	}
	return env[tokenEnv], nil
}

// readEnvFile reads the lines "export NAME=value" that writeDevEnv writes.
func readEnvFile(raw []byte) map[string]string {
	env := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if !ok {
			continue
		}
		if len(value) >= 2 && value[0] == '\'' && value[len(value)-1] == '\'' {
			value = strings.ReplaceAll(value[1:len(value)-1], `'\''`, "'")
		}
		env[name] = value
	}
	return env
}

// base is the address of the API. A token goes over plain HTTP to this host only.
func (c *connection) base(token string) (string, error) {
	if c.AdminURL == "" {
		return "", fault.New(fault.Malformed, "no-server", "a token without a server: give --admin-url or MUSTER_ADMIN_URL")
	}
	u, err := url.Parse(c.AdminURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fault.New(fault.Malformed, "admin-url", "%q is not the address of a server, such as https://muster.example.net:8444", c.AdminURL)
	}
	if u.Scheme == "http" && token != "" && !loopback(net.JoinHostPort(u.Hostname(), "0")) {
		return "", fault.New(fault.Malformed, "token-in-the-clear", "a token is not sent over plain HTTP to another host: use https")
	}
	return strings.TrimRight(c.AdminURL, "/"), nil
}

func (c *connection) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fault.New(fault.Malformed, "ca-file", "the CA file cannot be read: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fault.New(fault.Malformed, "ca-file", "%s holds no certificate in PEM", c.CAFile)
	}
	return pool, nil
}
