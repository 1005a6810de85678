package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
)

// caCmd is `muster ca`: our issuers and what they issued.
type caCmd struct {
	connection
	List     caListCmd     `cmd:"" help:"List issuers."`
	Show     caShowCmd     `cmd:"" help:"Show an issuer."`
	Chain    caChainCmd    `cmd:"" help:"Print an issuer's certificate and those above it, PEM."`
	CRL      caCRLCmd      `cmd:"" name:"crl" help:"Fetch an issuer's revocation list."`
	Certs    caCertsCmd    `cmd:"" help:"List issued certificates, newest first."`
	Revoke   caRevokeCmd   `cmd:"" help:"Revoke a certificate for good."`
	Upstream caUpstreamCmd `cmd:"" help:"CAs elsewhere that sign for issuers."`
	Intent   caIntentCmd   `cmd:"" help:"Requests to them, and what became of those."`
	Ceremony ceremonyCmd   `cmd:"" help:"An offline root: files only, no server."`
	Lineage  caLineageCmd  `cmd:"" help:"Show what a certificate was requested with, and what came of it."`
	issuerCmds
}

var (
	issuerTable = table{
		{"ID", "id", false}, {"NAME", "name", false}, {"ROLE", "role", false}, {"STATE", "state", false}, {"PROFILE", "profile", false}, {"EXPIRES", "notAfter", false}, {"CRL DUE", "crl.nextUpdate", false},
		{"KEY HERE", "keyHere", true}, {"UPSTREAM", "upstream", true}, {"CRL", "crl.number", true}, {"PARENT", "parent", true}, {"RETIRES", "retireAt", true}, {"SUBJECT", "subject", true}, {"THUMBPRINT", "thumbprint", true},
	}
	certificateTable = table{
		{"SERIAL", "serial", false}, {"DEVICE", "registrationId", false}, {"STATUS", "status", false}, {"EXPIRES", "notAfter", false}, {"ISSUER", "issuer", false}, {"REASON", "reason", false},
		{"THUMBPRINT", "thumbprint", true}, {"ISSUED", "issued", true}, {"REVOKED", "revokedAt", true}, {"ATTESTED BY", "attestedBy", true}, {"KEY IN", "keyAttestation", true},
	}
)

type caListCmd struct{ listing }

// Run lists issuers.
func (c *caListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, issuerTable, "issuers", nil)
}

type caShowCmd struct {
	output
	ID string `arg:"" help:"The issuer's id."`
}

// Run shows an issuer.
func (c *caShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getIssuer(ctx, api, c.ID)
	if err != nil {
		return err
	}
	return c.one(s.Out, issuerTable, got.body)
}

func getIssuer(ctx context.Context, api *client, id string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"issuers", id}, next: "muster ca list"})
}

type caChainCmd struct {
	ID string `arg:"" help:"The issuer's id."`
}

// maxIssuers bounds the walk up: a chain has at most so many CAs (INV-C4).
const maxIssuers = 10

// Run prints the chain, the root last.
func (c *caChainCmd) Run(ctx context.Context, s streams, api *client) error {
	id := c.ID
	for range maxIssuers {
		got, err := getIssuer(ctx, api, id)
		if err != nil {
			return err
		}
		var issuer struct{ Parent, Certificate string }
		if err := json.Unmarshal(got.body, &issuer); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		fmt.Fprint(s.Out, issuer.Certificate)
		if issuer.Parent == "" || issuer.Parent == id {
			return nil
		}
		id = issuer.Parent
	}
	return fmt.Errorf("issuer %s has more than %d issuers above it", c.ID, maxIssuers)
}

type caCertsCmd struct {
	listing
	Device         string `placeholder:"ID" help:"Issued to this registration id."`
	Serial         string `placeholder:"HEX" help:"Of this serial."`
	Thumbprint     string `placeholder:"HEX" help:"Of this SHA-256 thumbprint."`
	Issuer         string `placeholder:"ID" help:"Signed by this issuer."`
	Status         string `enum:",valid,expired,revoked" default:"" help:"valid, expired or revoked."`
	KeyAttestation string `enum:",tpm,none" default:"" help:"tpm: for keys that the device's TPM has attested; none: for others."`
	ExpiresWithin  *span  `placeholder:"30d" help:"Valid now and no more then."`
}

// Run lists issued certificates.
func (c *caCertsCmd) Run(ctx context.Context, s streams, api *client) error {
	query := filters("registrationId", c.Device, "serial", c.Serial, "thumbprint", c.Thumbprint, "issuer", c.Issuer, "status", c.Status, "keyAttestation", c.KeyAttestation)
	if c.ExpiresWithin != nil {
		query.Set("expiresBefore", time.Now().Add(time.Duration(*c.ExpiresWithin)).UTC().Format(time.RFC3339))
		if c.Status == "" {
			query.Set("status", "valid")
		}
	}
	return c.print(ctx, api, s, certificateTable, "certificates", query)
}

type caRevokeCmd struct {
	output
	harm
	Serial string `arg:"" help:"The certificate's serial number, hex."`
	Issuer string `placeholder:"ID" help:"Its issuer, where two issuers have the serial."`
	Reason string `required:"" help:"unspecified, keyCompromise (refuses the key for ever), cACompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn."`
}

// Validate names the reasons before anything is asked.
func (c *caRevokeCmd) Validate() error {
	_, err := ca.ParseReason(c.Reason)
	return err
}

// Run revokes a certificate.
func (c *caRevokeCmd) Run(ctx context.Context, s streams, api *client) error {
	query := filters("issuer", c.Issuer)
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"certificates", c.Serial}, query: query, next: "muster ca certs"})
	if err != nil {
		return err
	}
	var cert struct{ Serial, RegistrationID string }
	if err := json.Unmarshal(got.body, &cert); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	what := fmt.Sprintf("the certificate %s of device %s will be revoked for good", cert.Serial, printable(cert.RegistrationID))
	if err := c.confirmed(s, strings.TrimSpace(c.Serial), what); err != nil {
		return err
	}
	got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"certificates", c.Serial, "revoke"}, query: query, body: map[string]any{"reason": c.Reason}})
	if err != nil {
		return err
	}
	return c.one(s.Out, certificateTable, got.body)
}
