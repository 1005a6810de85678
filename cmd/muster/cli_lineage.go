package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

type caLineageCmd struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table (a tree) or json."`
	Serial string `arg:"" help:"The certificate's serial number, or the SHA-256 thumbprint of any certificate."`
	Issuer string `placeholder:"ID" help:"Its issuer, where two issuers have the serial."`
	Limit  int    `default:"50" help:"At most so many each way, 500 at most."`
}

// Run shows where a certificate comes from and what came of it.
func (c *caLineageCmd) Run(ctx context.Context, s streams, api *client) error {
	at := []string{"certificates", c.Serial, "lineage"}
	if print, err := verify.ParseThumbprint(c.Serial); err == nil {
		at = []string{"lineage", print.String()}
	}
	query := filters("issuer", c.Issuer)
	query.Set("limit", strconv.Itoa(c.Limit))
	got, err := api.do(ctx, call{method: http.MethodGet, at: at, query: query, next: "muster ca certs"})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printIndented(s.Out, got.body)
	}
	return printLineage(s, got.body)
}

// lineageOf reads the lineage of a thumbprint; nil if nothing here knows it.
func lineageOf(ctx context.Context, api *client, print string) (json.RawMessage, error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"lineage", print}})
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return got.body, err
}

// kin is a certificate as the API tells of it.
type kin struct {
	Depth                               int
	Relation, Thumbprint                string
	HeldBy                              []string
	Certificate                         *kin
	Serial, Status, NotAfter, RevokedAt string
}

func (k kin) String() string {
	if k.Certificate != nil {
		return k.Certificate.String()
	}
	if k.Serial == "" {
		return outsideCertificate(k.Thumbprint, k.HeldBy)
	}
	return fmt.Sprintf("%s  %s, to %s", printable(k.Serial), printable(k.Status), printable(k.NotAfter))
}

func outsideCertificate(print string, heldBy []string) string {
	if len(heldBy) == 0 {
		return "attested by " + printable(print) + ", issued elsewhere"
	}
	return "attested by " + printable(print) + ", issued elsewhere, held by " + printable(strings.Join(heldBy, ", "))
}

// printLineage draws a tree: what it came from above, what came of it below.
func printLineage(s streams, raw json.RawMessage) error {
	var l struct {
		Thumbprint    string
		Certificate   *kin
		HeldBy        []string
		Ancestors     []kin
		MoreAncestors bool
		Descendants   []kin
		Registrations []struct {
			RegistrationID, Status string
			Certificate            struct{ Serial string }
		}
		Next string
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	depth := 0
	if n := len(l.Ancestors); l.MoreAncestors {
		fmt.Fprintf(s.Err, "there are more above: muster ca lineage %s\n", printable(l.Ancestors[n-1].Thumbprint))
	} else if l.Certificate != nil && (n == 0 || l.Ancestors[n-1].Relation == "renewedFrom") {
		branch(s.Out, depth, "requested without a certificate: by a key or a one-time code")
		depth++
	}
	for i := range l.Ancestors {
		branch(s.Out, depth, l.Ancestors[len(l.Ancestors)-1-i].String())
		depth++
	}
	this := outsideCertificate(l.Thumbprint, l.HeldBy)
	if l.Certificate != nil {
		this = l.Certificate.String() + "  <- this one"
	}
	branch(s.Out, depth, this)
	for _, k := range l.Descendants {
		branch(s.Out, depth+k.Depth, k.String())
	}
	for _, r := range l.Registrations {
		line := printable(r.RegistrationID) + "  " + printable(r.Status)
		if r.Certificate.Serial != "" {
			line += ", certificate " + printable(r.Certificate.Serial)
		}
		branch(s.Out, depth+1, line)
	}
	if l.Next != "" {
		fmt.Fprintln(s.Err, "there are more: muster ca lineage --limit N")
	}
	return nil
}

// deepest is how far a tree is drawn to the right; a line of renewals may be long.
const deepest = 24

func branch(w io.Writer, depth int, text string) {
	if depth > 0 {
		text = strings.Repeat("  ", min(depth, deepest)-1) + "└ " + text
	}
	fmt.Fprintln(w, text)
}
