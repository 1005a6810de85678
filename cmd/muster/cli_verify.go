package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// verifyCmd is `muster verify`: CA certificates of others, and the proof that their
// owner holds the key.
type verifyCmd struct {
	connection
	Upload anchorUploadCmd `cmd:"" help:"Upload a CA certificate. It vouches for nothing until proven."`
	List   anchorListCmd   `cmd:"" help:"List trust anchors."`
	Show   anchorShowCmd   `cmd:"" help:"Show a trust anchor."`
	Code   anchorCodeCmd   `cmd:"" help:"Print a new verification code; the one before is void."`
	Prove  anchorProveCmd  `cmd:"" help:"Prove possession with a verification certificate, or print how to make one."`
	Delete anchorDeleteCmd `cmd:"" help:"Delete a trust anchor; groups that name it lose it."`
	Check  verifyCheckCmd  `cmd:"" help:"Check certificates in files, without a server."`
}

var anchorTable = table{
	{"NAME", "name", false}, {"SUBJECT", "subject", false}, {"VERIFIED", "isVerified", false}, {"BY", "verifiedBy", false}, {"EXPIRES", "notAfter", false},
	{"THUMBPRINT", "thumbprint", true}, {"ISSUER", "issuer", true}, {"SINCE", "verifiedAt", true}, {"ETAG", "etag", true},
}

func getAnchor(ctx context.Context, api *client, name string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"anchors", name}, next: "muster verify list"})
}

type anchorUploadCmd struct {
	output
	Name    string `arg:"" help:"What to call it: letters, digits and - . _"`
	File    string `arg:"" type:"existingfile" help:"The CA certificate, PEM or DER."`
	Replace bool   `help:"Put it in the place of another certificate of that name; it starts unverified."`
	Vouched bool   `help:"Your word, put on record, in place of a proof: of a manufacturer's CA, say, whose key you do not have."`
}

// Run uploads a CA certificate. The same bytes again change nothing (scenario B7).
func (c *anchorUploadCmd) Run(ctx context.Context, s streams, api *client) error {
	text, err := certificateText(c.File)
	if err != nil {
		return err
	}
	a := call{method: http.MethodPost, at: []string{"anchors"}, body: map[string]any{"name": c.Name, "certificate": text, "vouched": c.Vouched}}
	if c.Replace {
		was, err := getAnchor(ctx, api, c.Name)
		if err != nil {
			return err
		}
		a.method, a.at, a.match = http.MethodPut, []string{"anchors", c.Name}, was.etag
	}
	got, err := api.do(ctx, a)
	if err != nil {
		return err
	}
	var anchor struct{ IsVerified bool }
	if err := json.Unmarshal(got.body, &anchor); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if !anchor.IsVerified {
		fmt.Fprintf(s.Err, "not verified yet: muster verify prove %s --print-openssl\n", c.Name)
	}
	return c.one(s.Out, anchorTable, got.body)
}

type anchorListCmd struct{ listing }

// Run lists trust anchors.
func (c *anchorListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, anchorTable, "anchors", nil)
}

type anchorShowCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run shows a trust anchor.
func (c *anchorShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getAnchor(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.one(s.Out, anchorTable, got.body)
}

type anchorCodeCmd struct {
	output
	Name string `arg:"" help:"The anchor's name."`
}

// Run prints a new code: alone, so that a script can take it.
func (c *anchorCodeCmd) Run(ctx context.Context, s streams, api *client) error {
	got, code, err := newCode(ctx, s, api, c.Name)
	if err != nil {
		return err
	}
	if c.Output == "table" || c.Output == "wide" || c.Output == "name" {
		_, err := fmt.Fprintln(s.Out, code)
		return err
	}
	return c.one(s.Out, anchorTable, got.body)
}

func newCode(ctx context.Context, s streams, api *client, name string) (answer, string, error) {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"anchors", name, "generateVerificationCode"}, next: "muster verify list"})
	if err != nil {
		return got, "", err
	}
	var made struct{ VerificationCode, VerificationCodeExpires string }
	if err := json.Unmarshal(got.body, &made); err != nil {
		return got, "", fmt.Errorf("reading the answer: %w", err)
	}
	fmt.Fprintf(s.Err, "the code is good for one proof, until %s\n", made.VerificationCodeExpires)
	return got, made.VerificationCode, nil
}

type anchorProveCmd struct {
	output
	Name         string `arg:"" help:"The anchor's name."`
	File         string `arg:"" optional:"" type:"existingfile" help:"The verification certificate."`
	PrintOpenSSL bool   `name:"print-openssl" help:"Print the openssl commands that make one, with a new code in them."`
	CACert       string `name:"ca-cert" default:"ca.pem" placeholder:"FILE" help:"In those commands: the CA's certificate."`
	CAKey        string `name:"ca-key" default:"ca.key" placeholder:"FILE" help:"In those commands: the CA's key."`
}

// Run sends the proof, or prints how to make it (scenario B10).
func (c *anchorProveCmd) Run(ctx context.Context, s streams, api *client) error {
	switch {
	case c.PrintOpenSSL == (c.File != ""):
		return usage(errors.New("give the verification certificate, or --print-openssl to see how to make one"))
	case c.PrintOpenSSL:
		_, code, err := newCode(ctx, s, api, c.Name)
		if err != nil {
			return err
		}
		return c.printCommands(s, code)
	}
	text, err := certificateText(c.File)
	if err != nil {
		return err
	}
	was, err := getAnchor(ctx, api, c.Name)
	if err != nil {
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"anchors", c.Name, "verify"}, match: was.etag, body: map[string]any{"certificate": text}})
	if err != nil {
		return err
	}
	return c.one(s.Out, anchorTable, got.body)
}

// printCommands prints what a shell can run as it stands. The key of the verification
// certificate is of no further use.
func (c *anchorProveCmd) printCommands(s streams, code string) error {
	_, err := fmt.Fprintf(s.Out, `openssl ecparam -name prime256v1 -genkey -noout -out verification.key
openssl req -new -key verification.key -subj /CN=%[1]s -out verification.csr
openssl x509 -req -in verification.csr -CA %[2]s -CAkey %[3]s -set_serial "0x$(openssl rand -hex 16)" -days 1 -sha256 -out verification.pem
muster verify prove %[4]s verification.pem
`, code, shellWord(c.CACert), shellWord(c.CAKey), shellWord(c.Name))
	return err
}

type anchorDeleteCmd struct {
	harm
	Name string `arg:"" help:"Its name."`
}

// Run deletes a trust anchor.
func (c *anchorDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getAnchor(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("trust anchor %s will be deleted; groups that rest on it admit no device then", c.Name)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"anchors", c.Name}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "trust anchor %s deleted\n", c.Name)
	return nil
}
