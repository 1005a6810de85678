package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
)

// config is muster.yaml. Flags and MUSTER_… variables win over it; an unknown key is
// an error with its line. Secrets are named by file, never written here.
type config struct {
	Data      string       `yaml:"data"`
	Store     storeConfig  `yaml:"store"`
	Keys      keysConfig   `yaml:"keys"`
	Listen    listenConfig `yaml:"listen"`
	TLS       tlsConfig    `yaml:"tls"`
	PublicURL publicConfig `yaml:"publicURL"`
	// AllowOnlineRoot says that the root's key may stay on this host.
	AllowOnlineRoot bool `yaml:"allowOnlineRoot"`
	// AllowUnprovenAnchors says that an operator's word may stand for a CA's proof of possession.
	AllowUnprovenAnchors bool            `yaml:"allowUnprovenAnchors"`
	Webhooks             webhooksConfig  `yaml:"webhooks"`
	Upstreams            upstreamsConfig `yaml:"upstreams,omitempty"`
	// UpstreamTimeout is how long an upstream is waited for; 0 = 15 s.
	UpstreamTimeout time.Duration  `yaml:"upstreamTimeout,omitempty"`
	CRL             crlConfig      `yaml:"crl"`
	OCSP            ocspConfig     `yaml:"ocsp"`
	Rotation        rotationConfig `yaml:"rotation,omitempty"`
	Hubs            hubsConfig     `yaml:"hubs,omitempty"`
	Tripwires       tripwireConfig `yaml:"tripwires,omitempty"`

	Quarantine quarantineConfig `yaml:"quarantine,omitempty"`
	LogLevel   string           `yaml:"logLevel"`
	// KeyBlockList is a file of keys that get no certificate.
	KeyBlockList string   `yaml:"keyBlockList"`
	CT           ctConfig `yaml:"ct,omitempty"`
	// Brokers are those that ask whether a client may connect.
	Brokers brokersConfig `yaml:"brokers,omitempty"`
	// Mosquitto are brokers on this host, by the name of the hub that each is linked as.
	Mosquitto mosquittoConfig `yaml:"mosquitto,omitempty"`

	dev     bool
	device  *keys.Device // once one is open
	idScope string       // of a tenant that has a name already; "" = the database's own, or a new one
}

type storeConfig struct {
	// DSNFile holds a PostgreSQL connection string; empty = SQLite in Data.
	DSNFile string `yaml:"dsnFile"`
}

type keysConfig struct {
	// PassphraseFile opens the key-encryption key and the CA keys.
	PassphraseFile string `yaml:"passphraseFile"`
	// URI is the device in which new keys of issuers are made (pkcs11:…); empty = files in Data.
	URI string `yaml:"uri,omitempty"`
	// PINFile opens the device.
	PINFile string `yaml:"pinFile,omitempty"`
}

const defaultMQTT = "127.0.0.1:8883"

type listenConfig struct {
	Devices string `yaml:"devices"`
	Admin   string `yaml:"admin"`
	PKI     string `yaml:"pki"`
	Ops     string `yaml:"ops"`
	MQTT    string `yaml:"mqtt"`
	// Doors that share the device listener unless they are moved to one of their own.
	Service      string `yaml:"service"`
	Certificates string `yaml:"certificates"`
	Hub          string `yaml:"hub"`
	// Check moves the checks of brokers from the admin listener to one of their own.
	Check string `yaml:"check,omitempty"`
}

// webhooksConfig is about the webhooks of custom allocation.
type webhooksConfig struct {
	// Networks are the private networks they may live in ("10.1.0.0/16"); none unless named.
	Networks []string `yaml:"networks"`
	// CAFile has roots that vouch for them; empty = the system's.
	CAFile string `yaml:"caFile"`
}

// options are what the webhook client is given. In development webhooks may be on this host.
func (w webhooksConfig) options(dev bool) (o callout.Options, err error) {
	networks := w.Networks
	if dev {
		networks = append(slices.Clone(networks), "127.0.0.0/8", "::1/128")
	}
	for _, text := range networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return o, fault.New(fault.Malformed, "config", "webhooks.networks: %q is no network such as 10.1.0.0/16", text)
		}
		o.Networks = append(o.Networks, p)
	}
	if w.CAFile == "" {
		return o, nil
	}
	pem, err := os.ReadFile(w.CAFile)
	if err != nil {
		return o, err
	}
	if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(pem) {
		return o, fault.New(fault.Malformed, "config", "webhooks.caFile: %s holds no certificate", w.CAFile)
	}
	return o, nil
}

// tlsConfig names the server's certificate files. Without them Muster's issuing CA
// makes one for Names, and renews it.
type tlsConfig struct {
	Certificate string   `yaml:"certificate"`
	Key         string   `yaml:"key"`
	Names       []string `yaml:"names"`
}

type publicConfig struct {
	Devices string `yaml:"devices"`
	PKI     string `yaml:"pki"`
}

// loadConfig reads a configuration file strictly.
func loadConfig(path string) (config, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return config{}, fault.New(fault.NotFound, "config-missing", "%s does not exist: run muster init, or muster serve --dev", path)
	}
	if err != nil {
		return config{}, err
	}
	var c config
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fault.New(fault.Malformed, "config", "%s: %v", path, err)
	}
	if c.Data != "" && !filepath.IsAbs(c.Data) {
		c.Data = filepath.Join(filepath.Dir(path), c.Data)
	}
	return c, nil
}

// checked fills defaults and refuses what is unsafe in production, each time with the
// line to write.
func (c config) checked() (config, error) {
	for field, fallback := range map[*string]string{
		&c.Data: "muster-data", &c.Listen.Devices: "127.0.0.1:8443", &c.Listen.Admin: "127.0.0.1:8080",
		&c.Listen.PKI: "127.0.0.1:8081", &c.Listen.MQTT: defaultMQTT, &c.LogLevel: "info",
	} {
		if *field == "" {
			*field = fallback
		}
	}
	if len(c.TLS.Names) == 0 {
		c.TLS.Names = []string{"localhost", "127.0.0.1", "::1"}
		if host, _, err := net.SplitHostPort(c.Listen.Devices); c.dev && err == nil && !slices.Contains(c.TLS.Names, host) {
			c.TLS.Names = append(c.TLS.Names, host) // another address of this machine, with the ports that clients expect
		}
	}
	if err := errors.Join(c.Rotation.check(), c.Hubs.check(), c.Tripwires.check()); err != nil {
		return c, err
	}
	if err := c.Brokers.check(); err != nil {
		return c, err
	}
	if err := c.Mosquitto.check(c.CRL); err != nil {
		return c, err
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return c, unsafe("tls.certificate and tls.key go together", "tls: {certificate: FILE, key: FILE}")
	}
	if c.dev {
		return c, c.checkDev()
	}
	return c, c.checkProduction()
}

func unsafe(what, line string) error {
	return fault.New(fault.Malformed, "config-unsafe", "%s; write: %s", what, line)
}

func (c config) checkDev() error {
	for name, addr := range map[string]string{"devices": c.Listen.Devices, "admin": c.Listen.Admin, "pki": c.Listen.PKI, "mqtt": c.Listen.MQTT} {
		if !loopback(addr) {
			return fault.New(fault.Malformed, "dev-loopback", "--dev listens on loopback only, and --%s %s is not", name, addr)
		}
	}
	return nil
}

func (c config) checkProduction() error {
	if c.Keys.PassphraseFile == "" {
		return unsafe("keys at rest have no passphrase", "keys: {passphraseFile: /run/credentials/muster.service/passphrase}")
	}
	if c.Listen.Ops == "" {
		return unsafe("health and metrics have no listener of their own", "listen: {ops: 127.0.0.1:9090}")
	}
	if c.PublicURL.PKI == "" {
		return unsafe("certificates need an address for CRLs that relying parties can reach", "publicURL: {pki: http://pki.example.net}")
	}
	if info, err := os.Stat(c.Data); err == nil && info.Mode().Perm()&0o077 != 0 {
		return fault.New(fault.Malformed, "config-unsafe", "the data folder can be read by others; run: chmod 700 %s", c.Data)
	}
	for name, path := range map[string]string{"passphrase": c.Keys.PassphraseFile, "PIN": c.Keys.PINFile} {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return fault.New(fault.Malformed, "config-unsafe", "the %s file can be read by others; run: chmod 600 %s", name, path)
		}
	}
	return nil
}

// loopback says whether a listen address can be reached from this host only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// hosts are the names that a token of a shared access policy may be for: those of the TLS
// listeners, and of the address that devices are given.
func (c config) hosts() []string {
	out := slices.Clone(c.TLS.Names)
	if u, err := url.Parse(c.PublicURL.Devices); err == nil && u.Hostname() != "" {
		out = append(out, u.Hostname())
	}
	return out
}

// passphrase reads the passphrase file; nil in development.
func (c config) passphrase() ([]byte, error) {
	if c.Keys.PassphraseFile == "" {
		return nil, nil
	}
	return readPassphrase(c.Keys.PassphraseFile)
}

const minPassphrase = 12

func readPassphrase(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	raw = bytes.TrimRight(raw, "\r\n")
	if len(raw) < minPassphrase {
		return nil, fault.New(fault.Malformed, "passphrase", "the passphrase in %s is shorter than %d characters", path, minPassphrase)
	}
	return raw, nil
}

// dsn is the PostgreSQL connection string; "" means SQLite.
func (c config) dsn() (string, error) {
	if c.Store.DSNFile == "" {
		return "", nil
	}
	raw, err := os.ReadFile(c.Store.DSNFile)
	return strings.TrimSpace(string(raw)), err
}
