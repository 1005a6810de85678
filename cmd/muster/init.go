package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
)

// initCmd sets up a production installation: muster.yaml, the data folder, keys under
// a passphrase, root and issuing CA, and the first operator token.
type initCmd struct {
	Config         string `help:"Configuration file to write." default:"muster.yaml" type:"path"`
	Data           string `help:"Data folder to make." default:"muster-data" type:"path"`
	PassphraseFile string `help:"File with the passphrase that protects every key at rest." required:"" type:"path"`
	KeysURI        string `help:"Device in which the CAs' keys are made and stay (pkcs11:…, awskms:…); default files in the data folder." name:"keys-uri"`
	PINFile        string `help:"File with the PIN of that device." name:"pin-file" type:"path"`
	authorityFlags
	DSNFile    string   `help:"File with a PostgreSQL connection string; default SQLite in the data folder." type:"path"`
	Devices    string   `help:"Address of the device listener." default:"0.0.0.0:8443"`
	MQTT       string   `help:"Address of the MQTT listener (TLS)." name:"mqtt" default:"0.0.0.0:8883"`
	Admin      string   `help:"Address of the admin listener (TLS)." default:"127.0.0.1:8444"`
	PKI        string   `help:"Address of the PKI listener." name:"pki" default:"0.0.0.0:8081"`
	Ops        string   `help:"Address of the health and metrics listener." default:"127.0.0.1:9090"`
	PKIURL     string   `help:"Address of the PKI listener as relying parties reach it; it is written into every certificate." name:"pki-url" required:""`
	ServerName []string `help:"Names and addresses of the TLS listeners." default:"localhost,127.0.0.1"`
}

// authorityFlags say what a new ID scope begins with.
type authorityFlags struct {
	RootKeyOut         string           `help:"Where the root's key goes, encrypted; take it off this host." default:"muster-root-key.pem" type:"path"`
	RootPassphraseFile string           `help:"Passphrase of the root's key; default the other one." type:"path"`
	KeepRoot           bool             `help:"Leave the root's key on this host (needs allowOnlineRoot: true)."`
	Name               string           `help:"Name in the CAs' subjects." default:"Muster"`
	Key                policies.KeyType `help:"Key type of the CAs." default:"EC-P256"`
	Hub                string           `help:"Host name of a built-in hub to link."`
}

const actorInit = "operator:init"

// firstToken is how long the token that init prints is good for.
const firstToken = 24 * time.Hour

func (i initCmd) Run(ctx context.Context, s streams) error {
	if _, err := os.Stat(i.Config); err == nil {
		return fault.New(fault.Conflict, "config-exists", "%s exists and is not replaced", i.Config)
	}
	c := config{
		Data: i.Data, Store: storeConfig{DSNFile: i.DSNFile}, Keys: keysConfig{PassphraseFile: i.PassphraseFile, URI: i.KeysURI, PINFile: i.PINFile},
		Listen: listenConfig{Devices: i.Devices, Admin: i.Admin, PKI: i.PKI, Ops: i.Ops, MQTT: i.MQTT},
		TLS:    tlsConfig{Names: i.ServerName}, PublicURL: publicConfig{PKI: i.PKIURL}, AllowOnlineRoot: i.KeepRoot, LogLevel: "info",
	}
	c, err := c.checked()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	h, err := openHouse(ctx, c, newLogger(c, s.Err), nil, true)
	if err != nil {
		return err
	}
	token, err := i.furnish(ctx, h)
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	raw, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := seal.ReplaceFile(i.Config, raw); err != nil {
		return err
	}
	i.tell(s, h, token)
	return nil
}

// furnish makes CAs, the default profile, the hub and the first token.
func (i authorityFlags) furnish(ctx context.Context, h *house) (token string, err error) {
	issuers, err := h.authority.Issuers(ctx)
	if err != nil {
		return "", err
	}
	if len(issuers) > 0 {
		return "", fault.New(fault.Conflict, "already-initialised", "the data folder or database holds an installation already")
	}
	root := ca.RootRequest{Name: i.Name + " Root CA", KeyType: i.Key}
	issuing := ca.IssuingRequest{Name: i.Name + " Issuing CA 1", KeyType: i.Key}
	if i.KeepRoot {
		r, err := h.authority.CreateRoot(ctx, actorInit, root)
		if err != nil {
			return "", err
		}
		if _, err := h.authority.CreateIssuing(ctx, actorInit, r.ID, issuing); err != nil {
			return "", err
		}
	} else if err := i.offlineRoot(ctx, h, root, issuing); err != nil {
		return "", err
	}
	if err := furnish(ctx, h, actorInit, i.Hub); err != nil {
		return "", err
	}
	if _, err := writeBundle(h, h); err != nil {
		return "", err
	}
	name := "first-" + time.Now().UTC().Format("20060102T150405")
	text, _, err := h.engine.CreateToken(ctx, actorInit, name, policies.RoleAdmin.Scopes(), firstToken)
	return text, err
}

func (i authorityFlags) offlineRoot(ctx context.Context, h *house, root ca.RootRequest, issuing ca.IssuingRequest) error {
	file := i.RootPassphraseFile
	if file == "" {
		file = h.config.Keys.PassphraseFile
	}
	passphrase, err := readPassphrase(file)
	if err != nil {
		return err
	}
	out, err := keys.HandOut(i.RootKeyOut, passphrase)
	if err != nil {
		return err
	}
	_, _, err = h.authority.CreateOffline(ctx, actorInit, out, root, issuing)
	return err
}

func (i initCmd) tell(s streams, h *house, token string) {
	fmt.Fprintf(s.Out, "MUSTER_TOKEN=%s\nMUSTER_ID_SCOPE=%s\n", token, h.idScope)
	fmt.Fprintf(s.Err, "wrote %s, data in %s, CA certificates in %s\n", i.Config, i.Data, filepath.Join(i.Data, "ca.pem"))
	if !i.KeepRoot {
		fmt.Fprintf(s.Err, "the root's key is in %s: take it off this host now\n", i.RootKeyOut)
	}
	fmt.Fprintf(s.Err, "the token above is shown this once and expires in 24 hours; start with: muster serve --config %s\n", i.Config)
}
