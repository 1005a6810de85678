package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/passmuster/muster/device"
)

// deviceCmd is `muster device`: a device, not an operator. It speaks the public wire
// only and has no rights beyond its own credential.
type deviceCmd struct {
	New      deviceNewCmd      `cmd:"" help:"Make the state folder with a key. No network."`
	Register deviceRegisterCmd `cmd:"" help:"Register, get a certificate and store it."`
	Renew    deviceRenewCmd    `cmd:"" help:"Get a new certificate with the certificate the device has: for a new key, or for the one in its TPM."`
	Run      deviceRunCmd      `cmd:"" help:"Register if needed, renew in time, register again when refused; until stopped."`
	Status   deviceStatusCmd   `cmd:"" help:"Show what the state folder holds. No network."`

	EndorsementKey deviceEndorsementCmd `cmd:"" help:"Print the endorsement key of a TPM, by which it is enrolled."`
}

// deviceKeyEnv holds the device's symmetric key in base64, for containers that have
// no file to put it in; secrets are never flags.
const deviceKeyEnv = "MUSTER_DEVICE_KEY"

// deviceCodeEnv holds a one-time code.
const deviceCodeEnv = "MUSTER_DEVICE_CODE"

// deviceFolder names the device and where its state is.
type deviceFolder struct {
	ID  string `arg:"" help:"Registration id."`
	Dir string `help:"State folder (default: ./ID)." type:"path"`
	deviceTPM
}

func (d *deviceFolder) path() string {
	if d.Dir != "" {
		return d.Dir
	}
	return d.ID
}

func (d *deviceFolder) open() (*device.Folder, error) {
	if err := device.CheckRegistrationID(d.ID); err != nil {
		return nil, deviceUsage("%w", err)
	}
	folder, err := device.Open(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &deviceError{code: 3, err: fmt.Errorf("there is no device in %s; make one with: muster device new %s", d.path(), d.ID)}
	}
	if err == nil && d.TPM != "" {
		if err = d.openTPM(); err == nil {
			folder.UseTPM(d.chip)
		}
	}
	return folder, err
}

func (d *deviceFolder) create(kind string) (*device.Folder, error) {
	if err := device.CheckRegistrationID(d.ID); err != nil {
		return nil, deviceUsage("%w", err)
	}
	if d.TPM != "" {
		return d.createInTPM(kind)
	}
	key, err := device.NewKey(device.KeyType(kind))
	if err != nil {
		return nil, deviceUsage("%w", err)
	}
	return device.Create(d.path(), key)
}

// openOrCreate saves the first step to whoever starts with `run` or `register`.
func (d *deviceFolder) openOrCreate(kind string) (*device.Folder, error) {
	folder, err := d.open()
	if missing := new(deviceError); errors.As(err, &missing) && missing.code == 3 {
		return d.create(kind)
	}
	return folder, err
}

type deviceKeyFlags struct {
	KeyType string `enum:",p256,p384,rsa2048,ed25519" default:"" help:"Kind of new keys: p256 (default), p384, rsa2048, ed25519. Renewals keep the kind."`
}

// deviceServer says where to register and with what.
type deviceServer struct {
	URL      string `required:"" env:"MUSTER_DEVICE_URL" help:"The server's device listener, https."`
	IDScope  string `env:"MUSTER_ID_SCOPE" help:"Id scope of the tenant."`
	CAFile   string `env:"MUSTER_CA_FILE" type:"existingfile" help:"Roots that vouch for the server, PEM (default: the system's)."`
	Protocol string `enum:"dps-http,est" default:"dps-http" help:"dps-http or est."`

	FactoryCert      string `type:"existingfile" help:"Factory certificate and its chain, PEM, leaf first."`
	FactoryKey       string `type:"existingfile" help:"Key of the factory certificate, PEM."`
	SymmetricKeyFile string `type:"existingfile" help:"File with the device's symmetric key in base64 (or MUSTER_DEVICE_KEY)."`
	CodeFile         string `type:"existingfile" help:"File with a one-time code (or MUSTER_DEVICE_CODE); over EST only."`
	EndorsementCert  string `type:"existingfile" help:"With a TPM: its manufacturer's certificate of its endorsement key, and those above, PEM, leaf first. Groups that go by it ask for it."`
	GroupKeyFile     string `type:"existingfile" help:"File with the enrollment group's key in base64, from which the device's is derived. For tests and demos: a real device must not hold it."`
}

// agent makes the device's agent; progress goes to w, one line per event.
func (s *deviceServer) agent(d deviceFolder, keyType string, folder *device.Folder, w io.Writer) (*device.Agent, error) {
	id := d.ID
	credential, err := s.credential(id)
	if err != nil {
		return nil, err
	}
	if credential.IsZero() && d.chip != nil && s.Protocol == string(device.DPS) {
		credential.TPM = d.chip
		if credential.EndorsementCertificates, err = s.endorsement(); err != nil {
			return nil, err
		}
	}
	if s.Protocol == string(device.DPS) && s.IDScope == "" {
		return nil, deviceUsage("the protocol dps-http needs --id-scope or MUSTER_ID_SCOPE")
	}
	config := device.AgentConfig{
		Server:   device.Config{URL: s.URL, IDScope: s.IDScope, RegistrationID: id, Credential: credential},
		Folder:   folder,
		Protocol: device.Protocol(s.Protocol),
		KeyType:  device.KeyType(keyType),
		Events: func(e device.Event) {
			fmt.Fprintf(w, "%s  %s  %s\n", e.Time.UTC().Format(time.RFC3339), id, e)
		},
	}
	if d.chip != nil {
		config.TPM = d.chip
	}
	if s.CAFile != "" {
		text, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, err
		}
		config.Server.CA = x509.NewCertPool()
		if !config.Server.CA.AppendCertsFromPEM(text) {
			return nil, deviceUsage("%s holds no certificate in PEM", s.CAFile)
		}
	}
	agent, err := device.NewAgent(config)
	if err != nil {
		return nil, deviceUsage("%w", err)
	}
	return agent, nil
}

// credential is the onboarding one: at most one of the ways to give it.
func (s *deviceServer) credential(id string) (device.Credential, error) {
	var given []string
	for _, source := range [][2]string{
		{"--factory-cert", s.FactoryCert}, {"--symmetric-key-file", s.SymmetricKeyFile},
		{"--group-key-file", s.GroupKeyFile}, {deviceKeyEnv, os.Getenv(deviceKeyEnv)},
		{"--code-file", s.CodeFile}, {deviceCodeEnv, os.Getenv(deviceCodeEnv)},
	} {
		if source[1] != "" {
			given = append(given, source[0])
		}
	}
	switch {
	case len(given) > 1:
		return device.Credential{}, deviceUsage("give one onboarding credential, not %s", strings.Join(given, " and "))
	case (s.FactoryCert == "") != (s.FactoryKey == ""):
		return device.Credential{}, deviceUsage("--factory-cert and --factory-key go together")
	case len(given) == 0:
		return device.Credential{}, nil
	case s.FactoryCert != "":
		pair, err := tls.LoadX509KeyPair(s.FactoryCert, s.FactoryKey)
		if err != nil {
			return device.Credential{}, deviceUsage("the factory certificate: %w", err)
		}
		return device.Credential{Certificate: &pair}, nil
	case s.CodeFile != "" || os.Getenv(deviceCodeEnv) != "":
		return s.code()
	}
	text := os.Getenv(deviceKeyEnv)
	if file := s.SymmetricKeyFile + s.GroupKeyFile; file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return device.Credential{}, err
		}
		text = string(content)
	}
	key, err := device.ParseKey(text)
	if err != nil {
		return device.Credential{}, deviceUsage("%s: %w", given[0], err)
	}
	if s.GroupKeyFile != "" {
		key = device.DeriveKey(key, id)
	}
	return device.Credential{SymmetricKey: key}, nil
}

// code is a one-time code, which only EST has a place for.
func (s *deviceServer) code() (device.Credential, error) {
	text := os.Getenv(deviceCodeEnv)
	if s.CodeFile != "" {
		content, err := os.ReadFile(s.CodeFile)
		if err != nil {
			return device.Credential{}, err
		}
		text = string(content)
	}
	if s.Protocol != string(device.EST) {
		return device.Credential{}, deviceUsage("a one-time code enrolls over EST: add --protocol est")
	}
	return device.Credential{Code: strings.TrimSpace(text)}, nil
}

type deviceNewCmd struct {
	deviceFolder
	deviceKeyFlags
}

// Run makes the folder; one that has a key already is left alone (exit 5).
func (c *deviceNewCmd) Run(k *kong.Kong) error {
	folder, err := c.create(c.KeyType)
	if errors.Is(err, fs.ErrExist) {
		return &deviceError{code: 5, err: fmt.Errorf("%s holds a device already", c.path())}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(k.Stdout, filepath.Join(folder.Dir(), "key.pem"))
	return err
}

// deviceOutput is how the state is shown.
type deviceOutput struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

type deviceRegisterCmd struct {
	deviceFolder
	deviceKeyFlags
	deviceServer
	deviceOutput
	Timeout time.Duration `default:"2m" help:"Give up after this long."`
}

// Run registers once.
func (c *deviceRegisterCmd) Run(ctx context.Context, k *kong.Kong) error {
	folder, err := c.openOrCreate(c.KeyType)
	if err != nil {
		return err
	}
	agent, err := c.agent(c.deviceFolder, c.KeyType, folder, k.Stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := agent.Register(ctx); err != nil {
		return err
	}
	return c.show(k.Stdout, c.ID, folder)
}

type deviceRenewCmd struct {
	deviceFolder
	deviceKeyFlags
	deviceServer
	deviceOutput
	Pending bool          `help:"Fetch the certificate that the server made for the key the device has, in place of asking for a new one."`
	Timeout time.Duration `default:"2m" help:"Give up after this long."`
}

// Run renews once, due or not.
func (c *deviceRenewCmd) Run(ctx context.Context, k *kong.Kong) error {
	folder, err := c.open()
	if err != nil {
		return err
	}
	if c.Pending && c.Protocol != string(device.DPS) {
		return deviceUsage("a pending certificate is fetched over dps-http: leave --protocol out")
	}
	agent, err := c.agent(c.deviceFolder, c.KeyType, folder, k.Stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	renew := agent.Renew
	if c.Pending {
		renew = agent.FetchPending
	}
	if err := renew(ctx); err != nil {
		return err
	}
	return c.show(k.Stdout, c.ID, folder)
}

type deviceRunCmd struct {
	deviceFolder
	deviceKeyFlags
	deviceServer
	deviceOutput
	Once bool `help:"Do what is due now, then stop."`
}

// Run keeps the device provisioned until SIGINT or SIGTERM, which end it with success.
func (c *deviceRunCmd) Run(ctx context.Context, k *kong.Kong) error {
	folder, err := c.openOrCreate(c.KeyType)
	if err != nil {
		return err
	}
	agent, err := c.agent(c.deviceFolder, c.KeyType, folder, k.Stderr)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !c.Once {
		return agent.Run(ctx)
	}
	if err := agent.Once(ctx); err != nil {
		return err
	}
	return c.show(k.Stdout, c.ID, folder)
}

type deviceStatusCmd struct {
	deviceFolder
	deviceOutput
}

// Run shows the folder.
func (c *deviceStatusCmd) Run(k *kong.Kong) error {
	folder, err := c.open()
	if err != nil {
		return err
	}
	return c.show(k.Stdout, c.ID, folder)
}

// show prints state.json, corrected by the credential itself, which is what counts.
func (o deviceOutput) show(w io.Writer, id string, folder *device.Folder) error {
	state, err := folder.State()
	if err != nil {
		return err
	}
	stored, err := folder.Current()
	if err != nil {
		return err
	}
	if state.RegistrationID == "" {
		state.RegistrationID = id
	}
	state.Slot = stored.Slot
	if leaf := stored.Leaf(); leaf != nil {
		state.NotAfter = leaf.NotAfter
	}
	if o.Output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(state)
	}
	return deviceTable(w, [][2]string{
		{"registration", state.RegistrationID}, {"folder", folder.Dir()}, {"slot", state.Slot},
		{"hub", state.AssignedHub}, {"device", state.DeviceID},
		{"certificate to", deviceTime(state.NotAfter)}, {"renews from", deviceTime(state.RenewAt)},
		{"thumbprint", state.Thumbprint}, {"registered", deviceTime(state.RegisteredAt)},
		{"last error", state.LastError}, {"last error at", deviceTime(state.LastErrorAt)},
	})
}

// deviceTable aligns on a terminal and is tab-separated elsewhere; empty values are
// shown as "-" so that lines keep their places.
func deviceTable(w io.Writer, rows [][2]string) error {
	file, ok := w.(*os.File)
	aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	if terminal {
		w = aligned
	}
	for _, row := range rows {
		if row[1] == "" {
			row[1] = "-"
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	if terminal {
		return aligned.Flush()
	}
	return nil
}

func deviceTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// deviceError is a failure of the command itself, with the exit code it deserves.
type deviceError struct {
	code int
	err  error
}

func (e *deviceError) Error() string { return e.err.Error() }

func (e *deviceError) Unwrap() error { return e.err }

func deviceUsage(format string, args ...any) error {
	return &deviceError{code: 2, err: fmt.Errorf(format, args...)}
}

// deviceExitCode maps what `muster device` returns to the exit codes of the command
// line: 2 usage, 3 not found, 5 conflict, 6 refused, 7 unreachable or timed out,
// 1 anything else the device package reports. It is false for foreign errors.
func deviceExitCode(err error) (int, bool) {
	if own, ok := errors.AsType[*deviceError](err); ok {
		return own.code, true
	}
	_, refused := errors.AsType[*device.Refused](err)
	switch {
	case errors.Is(err, context.Canceled):
		return 0, false
	case errors.Is(err, device.ErrNoProof):
		return 2, true
	case device.IsTemporary(err) || errors.Is(err, context.DeadlineExceeded):
		return 7, true
	case device.IsRefused(err, http.StatusNotFound):
		return 3, true
	case refused:
		return 6, true
	case errors.Is(err, device.ErrBadAnswer):
		return 1, true
	}
	return 0, false
}
