// Package vault lets the PKI engine of a HashiCorp Vault or an OpenBao sign for an issuer of
// ours: Muster is its registration authority, by a role.
//
// A request is sent once: an answer that says no (4xx, or 503 of a sealed server), or a
// connection that was never made, means that nothing was signed; anything else means that
// something may have been. When a login has expired it is made again.
//
// Called by cmd/muster where it was built with -tags vault.
package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	vaultapi "github.com/hashicorp/vault/api"
	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/vaultcas"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// Config is a section of the configuration file.
type Config struct {
	URL         string `yaml:"url"`         // https://host:port
	Fingerprint string `yaml:"fingerprint"` // SHA-256 of the PKI engine's root, hex
	TLSCAFile   string `yaml:"tlsCAFile"`   // who vouches for the server; "" = the system's roots
	Namespace   string `yaml:"namespace"`
	Mount       string `yaml:"mount"` // of the PKI engine; "" = pki
	Role        string `yaml:"role"`
	Auth        string `yaml:"auth"`      // approle or kubernetes
	AuthMount   string `yaml:"authMount"` // "" = the method's usual one
	// For approle.
	RoleID       string `yaml:"roleID"`
	SecretIDFile string `yaml:"secretIDFile"`
	// For kubernetes. Without a TokenFile it is the pod's own.
	KubernetesRole string `yaml:"kubernetesRole"`
	TokenFile      string `yaml:"tokenFile"`
}

// Open checks the configuration. Nothing is asked of the server yet.
func (c Config) Open() (ca.Upstream, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && !local(u) || u.Host == "" {
		return nil, bad("url: an address such as https://vault.example:8200 is needed")
	}
	fingerprint := strings.ToLower(strings.ReplaceAll(c.Fingerprint, ":", ""))
	if raw, err := hex.DecodeString(fingerprint); err != nil || len(raw) != sha256.Size {
		return nil, bad("fingerprint: the SHA-256 of the engine's root in hex is needed")
	}
	if c.Role == "" {
		return nil, bad("role: the name of a role of the PKI engine is needed")
	}
	login, err := c.login()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(vaultcas.VaultOptions{
		PKIMountPath: c.mount(), PKIRoleDefault: c.Role, AuthType: c.Auth, AuthMountPath: c.AuthMount, Namespace: c.Namespace, AuthOptions: login,
	})
	if err != nil {
		return nil, err
	}
	options := casapi.Options{Type: casapi.VaultCAS, CertificateAuthority: c.URL, CertificateAuthorityFingerprint: fingerprint, Config: settings}
	return &ca.Driver{
		Open: func(ctx context.Context) (casapi.CertificateAuthorityService, error) {
			return open(ctx, options, c.TLSCAFile)
		},
		Refused: func(err error) bool {
			s := status(err)
			return s/100 == 4 || s == http.StatusServiceUnavailable || ca.NotSent(err)
		},
		Stale:   func(err error) bool { return status(err) == http.StatusForbidden },
		Revoked: func(error) bool { return false }, // it confirms again
		Above:   ca.GetterChain,
	}, nil
}

func (c Config) mount() string {
	if c.Mount == "" {
		return "pki"
	}
	return strings.Trim(c.Mount, "/")
}

// login is what the driver's method of authentication is told.
func (c Config) login() (json.RawMessage, error) {
	switch c.Auth {
	case "approle":
		if c.RoleID == "" || c.SecretIDFile == "" {
			return nil, bad("roleID, secretIDFile: approle needs both")
		}
		return json.Marshal(map[string]string{"roleID": c.RoleID, "secretIDFile": c.SecretIDFile})
	case "kubernetes":
		if c.KubernetesRole == "" {
			return nil, bad("kubernetesRole: kubernetes needs a role")
		}
		return json.Marshal(map[string]string{"role": c.KubernetesRole, "tokenPath": c.TokenFile})
	}
	return nil, bad("auth: approle or kubernetes")
}

func bad(what string) error { return fault.New(fault.Malformed, "config", "%s", what) }

// local says that a server is on this host, where plain HTTP is nobody's to read.
func local(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// environment is held while the driver makes its client: the only way to tell it who vouches
// for the server, and not to send a request again, is the process's environment.
var environment sync.Mutex

func open(ctx context.Context, options casapi.Options, tlsCAFile string) (casapi.CertificateAuthorityService, error) {
	environment.Lock()
	defer environment.Unlock()
	set := map[string]string{vaultapi.EnvVaultMaxRetries: "0"} // a request sent again is a second certificate
	if tlsCAFile != "" {
		set[vaultapi.EnvVaultCACert] = tlsCAFile
	}
	for name, value := range set {
		was, had := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
		defer func() {
			if had {
				_ = os.Setenv(name, was) // it could be set before
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	return vaultcas.New(ctx, options)
}

// status is the HTTP status of the server's answer; 0 where there was none.
func status(err error) int {
	var answer *vaultapi.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}
