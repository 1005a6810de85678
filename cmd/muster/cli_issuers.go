package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// issuerCmds are the commands of `muster ca` that make issuers come and go.
type issuerCmds struct {
	Create       caCreateCmd       `cmd:"" help:"Make an issuing CA, the request for one, or a root."`
	Import       caImportCmd       `cmd:"" help:"Bring a CA's certificate: of one requested here, or with its key."`
	Requests     caRequestsCmd     `cmd:"" help:"List the CAs that wait for their certificate."`
	Withdraw     caWithdrawCmd     `cmd:"" help:"Give a request up."`
	Promote      caPromoteCmd      `cmd:"" help:"Make a prepared issuer the active one; the former one retires."`
	Retire       caRetireCmd       `cmd:"" help:"Retire an issuer early, or give a prepared one up."`
	RevokeIssuer caRevokeIssuerCmd `cmd:"" help:"Revoke an issuer and all below it for good."`
	PublishCRL   caPublishCRLCmd   `cmd:"" name:"publish-crl" help:"Publish the CRL of a root whose key is elsewhere."`
	CrossSign    caCrossSignCmd    `cmd:"" help:"Have a root's key certified by another root."`
	Sign         caSignCmd         `cmd:"" help:"Sign another authority's CA by a root of ours."`
}

// dialer makes the client of commands that may do without a server.
type dialer func(streams) (*client, error)

// ProvideDialer gives commands their dialer.
func (c *connection) ProvideDialer() (dialer, error) { return c.ProvideClient, nil }

// hostAct is what a command takes that can also be an act of the host itself.
type hostAct struct {
	output
	anyScope
}

var requestTable = table{{"ID", "id", false}, {"NAME", "name", false}, {"PROFILE", "profile", false}, {"SINCE", "createdDateTimeUtc", false}}

// iso is a span as the API reads it; "" for none.
func (s span) iso() string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("PT%dS", int64(time.Duration(s)/time.Second))
}

type caCreateCmd struct {
	hostAct
	Name     string           `arg:"" help:"The name in its subject."`
	Root     bool             `help:"A root instead; its key stays on this host, and with SQLite the server must be stopped."`
	Parent   string           `placeholder:"ID" help:"The root that signs it (default: the active one)."`
	Profile  string           `placeholder:"NAME" help:"The one profile it signs for (default: all without an issuer of their own)."`
	KeyType  policies.KeyType `default:"EC-P256" help:"Type of its key."`
	Lifetime span             `placeholder:"1825d" help:"How long it lives (default: 5 years, a root 20; never beyond its root)."`
	CSROut   string           `name:"csr-out" placeholder:"FILE" type:"path" help:"Have another CA sign it: write the request here, and import what comes back."`
}

// Run makes what was asked for.
func (c *caCreateCmd) Run(ctx context.Context, s streams, dial dialer) error {
	if c.Root && (c.CSROut != "" || c.Parent != "" || c.Profile != "") {
		return fault.New(fault.Malformed, "root-alone", "a root has no parent, profile or request")
	}
	if c.Root {
		return c.createRoot(ctx, s)
	}
	api, err := dial(s)
	if err != nil {
		return err
	}
	body := map[string]any{"name": c.Name, "profile": c.Profile, "keyType": string(c.KeyType)}
	if c.CSROut != "" {
		return c.request(ctx, s, api, body)
	}
	if c.Parent == "" {
		if c.Parent, err = activeRoot(ctx, api); err != nil {
			return err
		}
	}
	body["parent"], body["lifetime"] = c.Parent, c.Lifetime.iso()
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuers"}, body: body, next: "muster ca list"})
	if err != nil {
		return err
	}
	tellPrepared(s, got.body)
	return c.one(s.Out, issuerTable, got.body)
}

// tellPrepared says what makes an issuer sign that does not yet.
func tellPrepared(s streams, issuer json.RawMessage) {
	var i struct{ ID, State string }
	if json.Unmarshal(issuer, &i) == nil && i.State == string(ca.IssuerPrepared) {
		fmt.Fprintf(s.Err, "prepared: it is in the trust bundle; once devices have that, muster ca promote %s\n", i.ID)
	}
}

// activeRoot is the root that signs where none is named.
func activeRoot(ctx context.Context, api *client) (string, error) {
	items, _, err := listing{All: true}.fetch(ctx, api, "issuers", nil)
	if err != nil {
		return "", err
	}
	for _, item := range items {
		var i struct{ ID, Role, State string }
		if err := json.Unmarshal(item, &i); err != nil {
			return "", fmt.Errorf("reading the answer: %w", err)
		}
		if i.Role == string(ca.RoleRoot) && i.State == string(ca.IssuerActive) {
			return i.ID, nil
		}
	}
	return "", fault.New(fault.NotFound, "no-issuer", "there is no active root: name one with --parent, or have another CA sign with --csr-out")
}

func (c *caCreateCmd) request(ctx context.Context, s streams, api *client, body map[string]any) error {
	if c.Parent != "" || c.Lifetime != 0 {
		return fault.New(fault.Malformed, "request-alone", "who signs a request decides on its parent and lifetime")
	}
	out, err := os.OpenFile(c.CSROut, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fault.New(fault.Conflict, "file-exists", "the request cannot be written: %v", err)
	}
	defer out.Close()
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuer-requests"}, body: body})
	if err != nil {
		_ = os.Remove(c.CSROut) // an empty file of our own
		return err
	}
	var r struct{ CSR string }
	if err := json.Unmarshal(got.body, &r); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if _, err := out.WriteString(r.CSR); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "wrote %s: have it signed as a CA, then muster ca import CERT\n", c.CSROut)
	return c.one(s.Out, requestTable, got.body)
}

type caImportCmd struct {
	hostAct
	File              string `arg:"" type:"existingfile" help:"The CA's certificate, then those above it up to a root or an issuer on record, PEM."`
	Key               string `placeholder:"FILE" type:"existingfile" help:"The CA's private key, PEM: it is kept on this host, and with SQLite the server must be stopped."`
	KeyPassphraseFile string `placeholder:"FILE" type:"existingfile" help:"Passphrase of that key."`
	KeyURI            string `name:"key-uri" placeholder:"URI" help:"A key that is kept where Muster opens keys, instead."`
	Profile           string `placeholder:"NAME" help:"With a key: the one profile it signs for."`
}

// Run brings the certificate to the server, or with a key to the installation on this host.
func (c *caImportCmd) Run(ctx context.Context, s streams, dial dialer) error {
	if c.Key != "" && c.KeyURI != "" {
		return fault.New(fault.Malformed, "one-key", "a CA has one key: --key or --key-uri")
	}
	if c.Key != "" || c.KeyURI != "" {
		return c.importKey(ctx, s)
	}
	if c.Profile != "" {
		return fault.New(fault.Malformed, "profile-of-request", "the profile is that of the request")
	}
	text, err := certificateText(c.File)
	if err != nil {
		return err
	}
	api, err := dial(s)
	if err != nil {
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuers", "import"}, body: map[string]any{"certificates": text}, next: "muster ca requests"})
	if err != nil {
		return err
	}
	tellPrepared(s, got.body)
	return c.one(s.Out, issuerTable, got.body)
}

type caRequestsCmd struct{ listing }

// Run lists requests.
func (c *caRequestsCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, requestTable, "issuer-requests", nil)
}

type caWithdrawCmd struct {
	harm
	ID string `arg:"" help:"The request's id."`
}

// Run gives a request up.
func (c *caWithdrawCmd) Run(ctx context.Context, s streams, api *client) error {
	if err := c.confirmed(s, c.ID, "the request "+c.ID+" will be given up: what is signed for it cannot be imported"); err != nil {
		return err
	}
	_, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"issuer-requests", c.ID}, next: "muster ca requests"})
	return err
}

// issuerAct is a harmful act on one issuer.
type issuerAct struct {
	output
	harm
	ID string `arg:"" help:"The issuer's id."`
}

// act asks, does, and shows the issuer; what says what will happen to the one of that name.
func (c *issuerAct) act(ctx context.Context, s streams, api *client, verb, what string, body map[string]any) (json.RawMessage, error) {
	was, err := getIssuer(ctx, api, c.ID)
	if err != nil {
		return nil, err
	}
	var i struct{ Name, State string }
	if err := json.Unmarshal(was.body, &i); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if err := c.confirmed(s, c.ID, fmt.Sprintf(what, fmt.Sprintf("issuer %s (%s, %s)", c.ID, printable(i.Name), i.State))); err != nil {
		return nil, err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuers", c.ID, verb}, body: body, next: "muster ca list"})
	return got.body, err
}

type caPromoteCmd struct {
	issuerAct
	Overlap *span `placeholder:"30d" help:"How long the former issuer goes on signing CRLs and OCSP (default: until its last certificate has ended)."`
	Force   bool  `help:"Even when the overlap ends before its last certificate."`
}

// Run promotes an issuer.
func (c *caPromoteCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{"force": c.Force}
	if c.Overlap != nil {
		body["overlap"] = fmt.Sprintf("PT%dS", int64(time.Duration(*c.Overlap)/time.Second))
	}
	got, err := c.act(ctx, s, api, "promote", "%s will sign from now on: who does not have the trust bundle of today may not know it", body)
	if err != nil {
		return err
	}
	return c.one(s.Out, issuerTable, got)
}

type caRetireCmd struct {
	issuerAct
	Force bool `help:"Even while certificates of it are good: nobody learns any more that one of them is revoked."`
}

// Run retires an issuer.
func (c *caRetireCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := c.act(ctx, s, api, "retire", "%s will sign nothing any more, status included", map[string]any{"force": c.Force})
	if err != nil {
		return err
	}
	return c.one(s.Out, issuerTable, got)
}

type caRevokeIssuerCmd struct {
	issuerAct
	Reason string `required:"" help:"cACompromise, keyCompromise, superseded, cessationOfOperation, affiliationChanged, privilegeWithdrawn or unspecified."`
}

// Validate names the reasons before anything is asked.
func (c *caRevokeIssuerCmd) Validate() error {
	_, err := ca.ParseReason(c.Reason)
	return err
}

// Run revokes an issuer, and says what is left for others to do.
func (c *caRevokeIssuerCmd) Run(ctx context.Context, s streams, api *client) error {
	raw, err := c.act(ctx, s, api, "revoke", "%s and every issuer below it will be revoked for good: no certificate of theirs admits a device any more", map[string]any{"reason": c.Reason})
	if err != nil {
		return err
	}
	var got struct {
		Issuer      json.RawMessage
		Below       []string
		OnParentCRL bool
	}
	var i struct{ ID, Parent string }
	if err = json.Unmarshal(raw, &got); err == nil {
		err = json.Unmarshal(got.Issuer, &i)
	}
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(got.Below) > 0 {
		fmt.Fprintf(s.Err, "revoked with it: %s\n", strings.Join(got.Below, " "))
	}
	switch {
	case got.OnParentCRL:
		fmt.Fprintf(s.Err, "the next CRL of %s names it\n", i.Parent)
	case i.Parent == i.ID:
		fmt.Fprintln(s.Err, "no CRL can name a root: take it out of every trust store that has it")
	default:
		fmt.Fprintf(s.Err, "the key of its parent %s is not here: have whoever holds it revoke the certificate there\n", i.Parent)
	}
	return c.one(s.Out, issuerTable, got.Issuer)
}

type caPublishCRLCmd struct {
	output
	ID   string `arg:"" help:"The root's id."`
	File string `arg:"" type:"existingfile" help:"Its next CRL, DER or PEM, as a ceremony signs it."`
}

// Run brings the CRL to the server.
func (c *caPublishCRLCmd) Run(ctx context.Context, s streams, api *client) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(text); block == nil {
		text = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: text})
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuers", c.ID, "crl"}, body: map[string]any{"crl": string(text)}, next: "muster ca list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, issuerTable, got.body)
}

type caCrossSignCmd struct {
	output
	ID  string `arg:"" help:"The root whose name and key are certified."`
	By  string `required:"" placeholder:"ID" help:"The root that signs."`
	Out string `placeholder:"FILE" type:"path" help:"Write the certificate here, PEM."`
}

// Run has a root cross-signed.
func (c *caCrossSignCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuers", c.ID, "cross-sign"}, body: map[string]any{"by": c.By}, next: "muster ca list"})
	if err != nil {
		return err
	}
	var i struct {
		CrossCertificates []struct{ SignedBy, Certificate string }
	}
	if err := json.Unmarshal(got.body, &i); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	for _, x := range i.CrossCertificates {
		if x.SignedBy == c.By && c.Out != "" {
			if err := os.WriteFile(c.Out, []byte(x.Certificate), 0o644); err != nil {
				return err
			}
		}
	}
	return c.one(s.Out, issuerTable, got.body)
}

type caSignCmd struct {
	CSR      string `arg:"" type:"existingfile" help:"The other CA's request, PKCS#10 in PEM."`
	By       string `placeholder:"ID" help:"The root that signs (default: the active one)."`
	Lifetime span   `placeholder:"1825d" help:"How long it lives (default: 5 years; never beyond the root)."`
	Out      string `short:"o" placeholder:"FILE" type:"path" help:"Write the certificate and those above it here, instead of to the terminal."`
	harm
}

// Run signs a CA.
func (c *caSignCmd) Run(ctx context.Context, s streams, api *client) error {
	text, err := os.ReadFile(c.CSR)
	if err != nil {
		return err
	}
	if c.By == "" {
		if c.By, err = activeRoot(ctx, api); err != nil {
			return err
		}
	}
	if err := c.confirmed(s, c.By, "the root "+c.By+" will sign a CA: who trusts the root will trust what that CA signs"); err != nil {
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"issuers", c.By, "sign"}, body: map[string]any{"csr": string(text), "lifetime": c.Lifetime.iso()}, next: "muster ca list"})
	if err != nil {
		return err
	}
	var made struct{ Serial, Certificate, Chain string }
	if err := json.Unmarshal(got.body, &made); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	fmt.Fprintf(s.Err, "signed, serial %s\n", made.Serial)
	if c.Out != "" {
		return os.WriteFile(c.Out, []byte(made.Certificate+made.Chain), 0o644)
	}
	_, err = fmt.Fprint(s.Out, made.Certificate+made.Chain)
	return err
}
