package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// moment is a point in time as people write it: RFC 3339, or a span ago.
type moment time.Time

// UnmarshalText reads a moment for kong.
func (m *moment) UnmarshalText(text []byte) error {
	var ago span
	if ago.UnmarshalText(text) == nil {
		*m = moment(time.Now().Add(-time.Duration(ago)))
		return nil
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is no time such as 2h, 30d or 2026-03-01T08:00:00Z", text)
	}
	*m = moment(t)
	return nil
}

// compromised says what is compromised.
type compromised struct {
	Cert   string `arg:"" optional:"" name:"cert" help:"The certificate: a file, PEM or DER, or its SHA-256 thumbprint if it was seen here."`
	Serial string `placeholder:"HEX" help:"Or the serial of one that was issued here."`
	Issuer string `placeholder:"ID" help:"Or an issuer of ours. With --serial: whose, if two issuers have it."`
	Scope  string `enum:",certificate,key,below" default:"" placeholder:"SCOPE" help:"certificate, key (every certificate with its key) or below (a CA, its key, and all they signed). Unless given below for a CA, else certificate."`
	Reason string `placeholder:"REASON" help:"As RFC 5280 spells it (cACompromise for a CA, else keyCompromise)."`
	Since  moment `placeholder:"2h|RFC3339" help:"When it was stolen: what was issued here on its word from then on is revoked."`
}

// body is what is compromised as the API has it.
func (c compromised) body() (map[string]any, error) {
	if c.Cert != "" && c.Serial+c.Issuer != "" || c.Cert+c.Serial+c.Issuer == "" {
		return nil, usage(fmt.Errorf("give the certificate, or --serial HEX with, if need be, --issuer ID, or the --issuer ID that it is"))
	}
	body := map[string]any{}
	for name, value := range map[string]string{"serial": c.Serial, "issuer": c.Issuer, "scope": c.Scope, "reason": c.Reason} {
		if value != "" {
			body[name] = value
		}
	}
	if since := time.Time(c.Since); !since.IsZero() {
		body["since"] = since.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	if c.Cert == "" {
		return body, nil
	}
	name, value, err := meantBy(c.Cert)
	body[name] = value
	return body, err
}

// meantBy reads a file or a thumbprint. A file of several certificates does not say which is meant.
func meantBy(what string) (name, value string, err error) {
	info, err := os.Stat(what)
	if err == nil && info.Mode().IsRegular() {
		certs, err := readCertificates(what)
		if err == nil && len(certs) != 1 {
			err = fault.New(fault.Malformed, "one-certificate", "the file has %d certificates: say which by one that has it alone, or its thumbprint", len(certs)).About(what)
		}
		return "certificate", pemText(certs...), err
	}
	print, err := verify.ParseThumbprint(what)
	if err != nil {
		err = fault.New(fault.Malformed, "thumbprint", "%q is no file here, and no SHA-256 thumbprint", what)
	}
	return "thumbprint", print.String(), err
}

// foreseen is what is read of a preview.
type foreseen struct {
	Preview, Scope, Reason, Since, Subject, Thumbprint, AlreadyBy string
	Known, Ours                                                   bool
	Devices, Revoked, IssuedSince, Lost, CRLs, CRLOctets          int64
	Hubs                                                          []struct {
		Hub     string
		Devices int64
		hubTakes
	}
	Entries    []struct{ Kind, ID, Act, Slot string }
	WouldEnter []struct{ Kind, ID string }
	SameKey    []struct {
		Thumbprint, Subject, RegistrationID string
		Refused                             bool
	}
	Issuers []struct{ ID, Name string }
	Stops   []struct{ Role, Profile, Prepared string }
}

func foresee(ctx context.Context, api *client, body map[string]any) (p foreseen, raw json.RawMessage, err error) {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"disallowances", "preview"}, body: body, next: "muster find CERT, or give the certificate's file"})
	if err != nil {
		return p, nil, err
	}
	if err := json.Unmarshal(got.body, &p); err != nil {
		return p, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return p, got.body, nil
}

// print writes a line for everything that would happen.
func (p foreseen) print(w io.Writer) error {
	rows := [][]string{
		{"subject", printable(p.Subject)}, {"thumbprint", p.Thumbprint}, {"known here", text(p.Known)}, {"issued here", text(p.Ours)},
		{"scope", p.Scope}, {"reason", p.Reason}, {"stolen since", cmp.Or(p.Since, "-")}, {"devices", strconv.FormatInt(p.Devices, 10)},
	}
	for _, h := range p.Hubs {
		rows = append(rows, []string{"devices on " + printable(cmp.Or(h.Hub, "no hub")), strings.Join(append([]string{strconv.FormatInt(h.Devices, 10)}, h.words()...), ", ")})
	}
	for _, x := range p.Entries {
		rows = append(rows, []string{entryNoun(x.Kind) + " " + x.ID, entryFate(x.Act, x.Slot)})
	}
	for _, x := range p.WouldEnter {
		rows = append(rows, []string{entryNoun(x.Kind) + " " + x.ID, "stays enabled: its devices would slip back in by it, and are refused there too"})
	}
	for _, x := range p.SameKey {
		fate := "refused too"
		if !x.Refused {
			fate = "has the same key and stays good: --scope key refuses both"
		}
		rows = append(rows, []string{"certificate " + x.Thumbprint, printable(cmp.Or(x.Subject, "of "+x.RegistrationID)) + ": " + fate})
	}
	for _, x := range p.Issuers {
		rows = append(rows, []string{"issuer " + x.ID, "revoked for good: " + printable(x.Name)})
	}
	if len(p.Issuers) > 0 || p.Lost > 0 {
		rows = append(rows, []string{"certificates of theirs", strconv.FormatInt(p.Lost, 10) + " in use: none is good any more"})
	}
	for _, x := range p.Stops {
		rows = append(rows, []string{"stops", stopped(x.Role, x.Profile, x.Prepared)})
	}
	rows = append(rows, []string{"certificates revoked", strconv.FormatInt(p.Revoked+p.IssuedSince, 10)})
	if p.CRLs > 0 {
		rows = append(rows, []string{"CRLs", fmt.Sprintf("%d grow by %d octets", p.CRLs, p.CRLOctets)})
	}
	if p.AlreadyBy != "" {
		rows = append(rows, []string{"already by", p.AlreadyBy})
	}
	return printRows(w, rows)
}

// stopped says what nobody signs for any more.
func stopped(role, profile, prepared string) string {
	what := "issuing for profiles without an issuer of their own"
	switch {
	case role == "root":
		what = "issuing CAs: no root is left to sign them"
	case profile != "":
		what = "issuing for profile " + printable(profile)
	}
	if prepared != "" {
		what += "; first: muster ca promote " + prepared
	}
	return what
}

func entryNoun(kind string) string {
	if kind == "individual" {
		return "enrollment"
	}
	return kind
}

func entryFate(act, slot string) string {
	switch act {
	case "slot-emptied":
		return slot + " slot emptied, the other one is clean"
	case "was-disabled":
		return "is disabled, and stays so"
	}
	return act
}

type disallowPreviewCmd struct {
	output
	compromised
}

// Run previews.
func (c *disallowPreviewCmd) Run(ctx context.Context, s streams, api *client) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	p, raw, err := foresee(ctx, api, body)
	if err != nil {
		return err
	}
	if c.Output != "table" && c.Output != "wide" {
		return c.one(s.Out, table{{"PREVIEW", "preview", false}}, raw)
	}
	if err := p.print(s.Out); err != nil {
		return err
	}
	return printRows(s.Out, [][]string{{"preview", p.Preview}})
}
