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

// disallowCmd is `muster disallow`: what is compromised is refused everywhere.
type disallowCmd struct {
	connection
	Preview disallowPreviewCmd `cmd:"" help:"Say what shutting a certificate out would do, and do nothing."`
	Start   disallowStartCmd   `cmd:"" help:"Shut a certificate, key or CA out everywhere, at once."`
	List    disallowListCmd    `cmd:"" help:"List what was shut out, newest first."`
	Show    disallowShowCmd    `cmd:"" help:"Show one, and which hubs have confirmed."`
	Devices disallowDevicesCmd `cmd:"" help:"List its devices."`
	Watch   disallowWatchCmd   `cmd:"" help:"Follow one until every hub has confirmed."`
	Report  disallowReportCmd  `cmd:"" help:"Print what was done and what was not, as Markdown."`
	Lift    disallowLiftCmd    `cmd:"" help:"End one for good; what it revoked, emptied and disabled stays so."`
}

var (
	disallowTable = table{
		{"ID", "id", false}, {"STATE", "state", false}, {"SCOPE", "scope", false}, {"SUBJECT", "subject", false}, {"DEVICES", "devices", false}, {"REVOKED", "revoked", false},
		{"REASON", "reason", false}, {"CREATED", "createdDateTimeUtc", false}, {"BY", "createdBy", true}, {"SINCE", "since", true}, {"THUMBPRINT", "thumbprint", true},
		{"DONE", "doneDateTimeUtc", true}, {"LIFTED", "liftedDateTimeUtc", true}, {"LIFTED BY", "liftedBy", true},
	}
	disallowDeviceTable = table{
		{"ID", "registrationId", false}, {"HUB", "hub", false}, {"CONFIRMED", "confirmedDateTimeUtc", false}, {"PROBLEM", "problem", false},
		{"DEVICE ID", "deviceId", true}, {"FOUND", "foundDateTimeUtc", true},
	}
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
	Issuer string `placeholder:"ID" help:"With --serial, if two issuers have it."`
	Scope  string `enum:",certificate,key,below" default:"" placeholder:"SCOPE" help:"certificate, key (every certificate with its key) or below (a CA, its key, and all they signed). Unless given below for a CA, else certificate."`
	Reason string `placeholder:"REASON" help:"As RFC 5280 spells it (cACompromise for a CA, else keyCompromise)."`
	Since  moment `placeholder:"2h|RFC3339" help:"When it was stolen: what was issued here on its word from then on is revoked."`
}

// body is what is compromised as the API has it.
func (c compromised) body() (map[string]any, error) {
	if (c.Cert == "") == (c.Serial == "") || c.Issuer != "" && c.Serial == "" {
		return nil, usage(fmt.Errorf("give the certificate, or --serial HEX with, if need be, --issuer ID"))
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
	Devices, Revoked, IssuedSince, CRLs, CRLOctets                int64
	Hubs                                                          []struct {
		Hub     string
		Devices int64
		hubTakes
	}
	Entries    []struct{ Kind, ID, Act, Slot string }
	WouldEnter []struct{ Kind, ID string }
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
	rows = append(rows, []string{"certificates revoked", strconv.FormatInt(p.Revoked+p.IssuedSince, 10)})
	if p.CRLs > 0 {
		rows = append(rows, []string{"CRLs", fmt.Sprintf("%d grow by %d octets", p.CRLs, p.CRLOctets)})
	}
	if p.AlreadyBy != "" {
		rows = append(rows, []string{"already by", p.AlreadyBy})
	}
	return printRows(w, rows)
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

type disallowStartCmd struct {
	output
	harm
	compromised
	ExpectDevices *int64 `placeholder:"N" help:"Refuse if more devices rest on it."`
	Preview       string `placeholder:"ID" help:"That of a preview you have looked at; nothing is asked then. It must have been of the same certificate, scope, reason and time."`
}

// Validate keeps bounds from being nonsense.
func (c *disallowStartCmd) Validate() error {
	if c.ExpectDevices != nil && *c.ExpectDevices < 0 {
		return fmt.Errorf("--expect-devices is not below 0")
	}
	return nil
}

// Run looks, asks and acts.
func (c *disallowStartCmd) Run(ctx context.Context, s streams, api *client) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	body["preview"] = c.Preview
	if c.Preview == "" {
		delete(body, "preview")
		if body["preview"], err = c.look(ctx, s, api, body); err != nil {
			return err
		}
	}
	if c.ExpectDevices != nil {
		body["expectDevices"] = *c.ExpectDevices
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"disallowances"}, body: body})
	if err != nil {
		return err
	}
	r, err := decode(got.body)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "refused here from now on; hubs are told: muster disallow watch %s\n", value(r, "id"))
	return c.one(s.Out, disallowTable, got.body)
}

// look shows what would happen, asks, and gives the preview's id.
func (c *disallowStartCmd) look(ctx context.Context, s streams, api *client, body map[string]any) (string, error) {
	p, _, err := foresee(ctx, api, body)
	if err != nil {
		return "", err
	}
	if c.ExpectDevices != nil && p.Devices > *c.ExpectDevices {
		return "", fault.New(fault.Conflict, "more-devices-than-expected", "%d devices rest on it, more than the %d expected", p.Devices, *c.ExpectDevices)
	}
	if err := p.print(s.Err); err != nil {
		return "", err
	}
	name := p.Thumbprint[:min(8, len(p.Thumbprint))]
	what := fmt.Sprintf("%d devices will be shut out, on every hub, with %s (%s)", p.Devices, printable(p.Subject), name)
	return p.Preview, c.confirmed(s, name, what)
}

type disallowListCmd struct{ listing }

// Run lists disallowances.
func (c *disallowListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, disallowTable, "disallowances", nil)
}

func getDisallowance(ctx context.Context, api *client, id string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"disallowances", id}, next: "muster disallow list"})
}

// spread is what is read of how far a disallowance is.
type spread struct {
	State, PassedDateTimeUtc, DoneDateTimeUtc string
	Devices, Pending, Revoked                 int64
	Entries                                   []struct{ Kind, ID, Act, Slot string }
	Hubs                                      []struct {
		Hub, Problem     string
		Devices, Pending int64
		hubTakes
	}
}

type disallowShowCmd struct {
	output
	ID string `arg:"" help:"Its id."`
}

// Run shows a disallowance: then what became of each entry, and a line for each hub.
func (c *disallowShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getDisallowance(ctx, api, c.ID)
	if err != nil {
		return err
	}
	if err := c.one(s.Out, disallowTable, got.body); err != nil || c.Output != "table" && c.Output != "wide" {
		return err
	}
	var x spread
	if err := json.Unmarshal(got.body, &x); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var rows [][]string
	for _, e := range x.Entries {
		rows = append(rows, []string{entryNoun(e.Kind) + " " + e.ID, entryFate(e.Act, e.Slot)})
	}
	for _, h := range x.Hubs {
		rows = append(rows, []string{"hub " + printable(cmp.Or(h.Hub, "-")), fmt.Sprintf("%d of %d confirmed", h.Devices-h.Pending, h.Devices), strings.Join(h.words(), ", "), printable(h.Problem)})
	}
	return printRows(s.Out, rows)
}

type disallowDevicesCmd struct {
	listing
	ID      string `arg:"" help:"Its id."`
	Pending bool   `help:"Only those whose hub has not confirmed."`
}

// Run lists the devices of a disallowance.
func (c *disallowDevicesCmd) Run(ctx context.Context, s streams, api *client) error {
	if _, err := escaped([]string{c.ID}); err != nil {
		return err
	}
	pending := ""
	if c.Pending {
		pending = "true"
	}
	return c.print(ctx, api, s, disallowDeviceTable, "disallowances/"+c.ID+"/devices", filters("pending", pending))
}

type disallowWatchCmd struct {
	ID    string        `arg:"" help:"Its id."`
	For   time.Duration `placeholder:"10m" help:"Give up after this long, with exit code 8 (until it is done unless given)."`
	Every time.Duration `default:"1s" help:"How often to look."`
}

// Validate keeps a watch from asking without end.
func (c *disallowWatchCmd) Validate() error {
	if c.Every < 100*time.Millisecond || c.For < 0 {
		return fmt.Errorf("--every is at least 100ms, and --for not below 0")
	}
	return nil
}

// Run prints a line whenever a disallowance has got further.
func (c *disallowWatchCmd) Run(ctx context.Context, s streams, api *client) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var over <-chan time.Time
	if c.For > 0 {
		over = time.After(c.For)
	}
	for last := ""; ; {
		got, err := getDisallowance(ctx, api, c.ID)
		if err != nil {
			return err
		}
		var x spread
		if err := json.Unmarshal(got.body, &x); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if line := x.line(); line != last {
			fmt.Fprintln(s.Out, line)
			last = line
		}
		if x.DoneDateTimeUtc != "" {
			return nil
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(s.Err, "it goes on: muster disallow watch %s\n", c.ID)
			return context.Cause(ctx)
		case <-over:
			fmt.Fprintf(s.Err, "not every hub has confirmed, and it goes on: muster disallow devices %s --pending\n", c.ID)
			return quietExit{exitPartly}
		case <-tick.C:
		}
	}
}

// line is how far it is, in one line.
func (x spread) line() string {
	parts := []string{x.State, fmt.Sprintf("devices %d", x.Devices), fmt.Sprintf("pending %d", x.Pending)}
	if x.Revoked > 0 {
		parts = append(parts, fmt.Sprintf("revoked %d", x.Revoked))
	}
	if x.PassedDateTimeUtc == "" {
		parts = append(parts, "counting")
	}
	for _, h := range x.Hubs {
		if h.Pending > 0 {
			hub := fmt.Sprintf("%s %d of %d", printable(h.Hub), h.Devices-h.Pending, h.Devices)
			if h.Takes != "" {
				hub += ", " + h.span()
			}
			if h.Problem != "" {
				hub += " (" + printable(h.Problem) + ")"
			}
			parts = append(parts, hub)
		}
	}
	return strings.Join(parts, "  ")
}

type disallowReportCmd struct {
	Output string `short:"o" enum:"markdown,json" default:"markdown" help:"markdown or json."`
	ID     string `arg:"" help:"Its id."`
}

// Run prints the report.
func (c *disallowReportCmd) Run(ctx context.Context, s streams, api *client) error {
	a := call{method: http.MethodGet, at: []string{"disallowances", c.ID, "report"}, next: "muster disallow list"}
	if c.Output == "markdown" {
		a.accept = "text/markdown"
	}
	got, err := api.do(ctx, a)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printIndented(s.Out, got.body)
	}
	_, err = s.Out.Write(got.body)
	return err
}

type disallowLiftCmd struct {
	output
	harm
	ID string `arg:"" help:"Its id."`
}

// Run lifts a disallowance, and says what that does not bring back.
func (c *disallowLiftCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getDisallowance(ctx, api, c.ID)
	if err != nil {
		return err
	}
	r, err := decode(got.body)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s will not be refused any more because of %s", value(r, "subject"), c.ID)
	if err := c.confirmed(s, c.ID, what); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"disallowances", c.ID, "lift"}}); err != nil {
		return err
	}
	var lifted struct{ NotRestored []struct{ Detail string } }
	if err := json.Unmarshal(got.body, &lifted); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	for _, x := range lifted.NotRestored {
		fmt.Fprintf(s.Err, "not restored: %s\n", printable(x.Detail))
	}
	return c.one(s.Out, disallowTable, got.body)
}
