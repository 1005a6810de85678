package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// findCmd takes whatever is at hand and says what it is here.
type findCmd struct {
	connection
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
	What   string `arg:"" help:"Registration id, group, anchor, issuer, serial, SHA-256 thumbprint, or a certificate: a file, or pasted."`
}

// hit is one thing that was found.
type hit struct {
	Kind   string          `json:"kind"`
	Name   string          `json:"name"`
	About  string          `json:"about"`
	Next   string          `json:"next"`
	Object json.RawMessage `json:"object"`
	// Lineage is where a certificate comes from and what came of it.
	Lineage json.RawMessage `json:"lineage,omitempty"`
}

// Run looks everywhere the words could belong to.
func (c *findCmd) Run(ctx context.Context, s streams, api *client) error {
	hits, err := c.find(ctx, api)
	if err != nil {
		return err
	}
	if len(hits) == 0 {
		return &apiError{fault: fault.New(fault.NotFound, "nothing-found", "nothing here is called %q", c.What), next: "muster explain ID says what a device that never registered would meet"}
	}
	if c.Output == "json" {
		return printJSON(s.Out, hits)
	}
	rows := make([][]string, len(hits))
	for i, h := range hits {
		rows[i] = []string{h.Kind, h.Name, h.About, h.Next}
	}
	if err := printRows(s.Out, rows); err != nil {
		return err
	}
	for _, h := range hits {
		if h.Lineage != nil {
			fmt.Fprintln(s.Out)
			if err := printLineage(s, h.Lineage); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *findCmd) find(ctx context.Context, api *client) ([]hit, error) {
	if certs, err := verify.ParseCertificates([]byte(c.What)); err == nil {
		return findCertificate(ctx, api, certs[0])
	}
	if info, err := os.Stat(c.What); err == nil && info.Mode().IsRegular() { // a device's folder is called as the device
		certs, err := readCertificates(c.What)
		if err != nil {
			return nil, err
		}
		return findCertificate(ctx, api, certs[0])
	}
	what := strings.TrimSpace(c.What)
	if print, err := verify.ParseThumbprint(what); err == nil {
		return findThumbprint(ctx, api, print)
	}
	hits, err := findNamed(ctx, api, what)
	if err != nil {
		return nil, err
	}
	if _, err := ca.ParseSerial(what); err == nil {
		issued, err := findIssued(ctx, api, filters("serial", what))
		if err != nil {
			return nil, err
		}
		hits = append(hits, issued...)
	}
	return hits, nil
}

// places are the resources that have names, and how a hit in one is told.
var places = []struct {
	resource, kind, name, about, next string
}{
	{"enrollments", "enrollment", "registrationId", "provisioningStatus", "muster enroll show "},
	{"groups", "group", "enrollmentGroupId", "provisioningStatus", "muster group show "},
	{"registrations", "registration", "registrationId", "status", "muster reg show "},
	{"anchors", "anchor", "name", "subject", "muster verify show "},
	{"issuers", "issuer", "id", "subject", "muster ca show "},
}

func findNamed(ctx context.Context, api *client, what string) (hits []hit, err error) {
	for _, p := range places {
		got, err := api.do(ctx, call{method: http.MethodGet, at: []string{p.resource, what}})
		switch {
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Malformed):
			continue // not there, or could not be called that
		case err != nil:
			return nil, err
		}
		r, err := decode(got.body)
		if err != nil {
			return nil, err
		}
		name := value(r, p.name)
		hits = append(hits, hit{Kind: p.kind, Name: name, About: value(r, p.about), Next: p.next + shellWord(name), Object: got.body})
	}
	return hits, nil
}

func findIssued(ctx context.Context, api *client, query url.Values) (hits []hit, err error) {
	items, _, err := listing{Limit: 10}.fetch(ctx, api, "certificates", query)
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		r, err := decode(item)
		if err != nil {
			return nil, err
		}
		serial := value(r, "serial")
		line, err := lineageOf(ctx, api, value(r, "thumbprint"))
		if err != nil {
			return nil, err
		}
		about := fmt.Sprintf("%s, of device %s, to %s", value(r, "status"), value(r, "registrationId"), value(r, "notAfter"))
		if value(r, "keyAttestation") == "tpm" {
			about += ", key in its TPM"
		}
		hits = append(hits, hit{
			Kind: "certificate", Name: serial, Object: item, Lineage: line, Next: "muster ca certs --serial " + serial,
			About: about,
		})
	}
	return hits, nil
}

// findOutside looks for a certificate of others that an entry holds or that has attested a
// device.
func findOutside(ctx context.Context, api *client, print verify.Thumbprint) ([]hit, error) {
	line, err := lineageOf(ctx, api, print.String())
	if err != nil || line == nil {
		return nil, err
	}
	r, err := decode(line)
	if err != nil {
		return nil, err
	}
	return []hit{{
		Kind: "outside certificate", Name: print.String(), Object: line, Lineage: line, Next: "muster ca lineage " + print.String(),
		About: "held by " + value(r, "heldBy"),
	}}, nil
}

// findThumbprint looks among what we issued and, as both lists are short, among
// anchors and issuers.
func findThumbprint(ctx context.Context, api *client, print verify.Thumbprint) ([]hit, error) {
	hits, err := findIssued(ctx, api, filters("thumbprint", print.String()))
	if err != nil {
		return nil, err
	}
	if len(hits) == 0 {
		if hits, err = findOutside(ctx, api, print); err != nil {
			return nil, err
		}
	}
	for _, p := range places {
		if p.resource != "anchors" && p.resource != "issuers" {
			continue
		}
		items, _, err := listing{All: true}.fetch(ctx, api, p.resource, nil)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			r, err := decode(item)
			if err != nil {
				return nil, err
			}
			if value(r, "thumbprint") != print.String() {
				continue
			}
			name := value(r, p.name)
			hits = append(hits, hit{Kind: p.kind, Name: name, About: value(r, p.about), Next: p.next + shellWord(name), Object: item})
		}
	}
	return hits, nil
}

// findCertificate looks for the certificate itself, then for what its CN may name.
func findCertificate(ctx context.Context, api *client, cert *x509.Certificate) ([]hit, error) {
	hits, err := findThumbprint(ctx, api, verify.ThumbprintOf(cert.Raw))
	if err != nil || strings.Trim(cert.Subject.CommonName, ".") == "" {
		return hits, err
	}
	named, err := findNamed(ctx, api, cert.Subject.CommonName)
	return append(hits, named...), err
}
