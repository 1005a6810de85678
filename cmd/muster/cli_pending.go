package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/verify"
)

var pendingTable = table{
	{"ID", "registrationId", false}, {"SERIAL", "serial", false}, {"EXPIRES", "notAfter", false}, {"ISSUED", "issued", false},
	{"ISSUER", "issuer", true}, {"THUMBPRINT", "thumbprint", true},
}

type regPendingCmd struct {
	output
	ID  string `arg:"" optional:"" help:"Registration id (default: all devices)."`
	Out string `type:"path" help:"Folder to write ID.pem into for each device: the certificate and those above it but the root."`
}

// Run lists what waits for devices, or writes it into files.
func (c *regPendingCmd) Run(ctx context.Context, s streams, api *client) error {
	var items []json.RawMessage
	if c.ID != "" {
		got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"registrations", c.ID, "certificates", "pending"}, next: "muster reg show " + c.ID})
		if err != nil {
			return err
		}
		if c.Out == "" {
			return c.one(s.Out, pendingTable, got.body)
		}
		return c.write(s, []json.RawMessage{got.body})
	}
	if c.Out == "" {
		err := eachPending(ctx, api, func(page []json.RawMessage) error { items = append(items, page...); return nil })
		if err != nil {
			return err
		}
		return c.many(s.Out, pendingTable, items, "")
	}
	return eachPending(ctx, api, func(page []json.RawMessage) error { return c.write(s, page) })
}

// eachPending reads the list page by page, from the last line of the page before.
func eachPending(ctx context.Context, api *client, each func([]json.RawMessage) error) error {
	query := url.Values{}
	for {
		got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"certificates", "pending"}, query: query})
		if err != nil {
			return err
		}
		var page []json.RawMessage
		for line := range bytes.Lines(got.body) {
			page = append(page, json.RawMessage(line))
		}
		if len(page) == 0 {
			return nil
		}
		if err := each(page); err != nil {
			return err
		}
		last, err := pendingOf(page[len(page)-1])
		if err != nil {
			return err
		}
		query.Set("after", last.RegistrationID)
	}
}

// pendingFile is what is written of a pending certificate.
type pendingFile struct{ RegistrationID, Pem, Chain string }

func pendingOf(raw json.RawMessage) (p pendingFile, err error) {
	if err = json.Unmarshal(raw, &p); err == nil {
		// The name becomes a file's.
		_, err = verify.ParseRegistrationID(p.RegistrationID)
	}
	if err != nil {
		return p, fmt.Errorf("reading the answer: %w", err)
	}
	return p, nil
}

func (c *regPendingCmd) write(s streams, items []json.RawMessage) error {
	if err := os.Mkdir(c.Out, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, item := range items {
		p, err := pendingOf(item)
		if err != nil {
			return err
		}
		above, err := verify.ParseCertificates([]byte(p.Chain))
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		text := p.Pem
		for _, ca := range above[:max(0, len(above)-1)] {
			text += pemText(ca)
		}
		file := filepath.Join(c.Out, p.RegistrationID+".pem")
		if err := seal.ReplaceFile(file, []byte(text)); err != nil {
			return err
		}
		fmt.Fprintln(s.Out, file)
	}
	return nil
}

type regResignCmd struct {
	output
	ID     string `arg:"" help:"Registration id."`
	Reason string `default:"superseded" help:"Why, as RFC 5280 spells it. keyCompromise is refused: the key would be the same."`
}

// Run has a device's request on record signed again.
func (c *regResignCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", c.ID, "resign"}, body: map[string]string{"reason": c.Reason}, next: "muster explain " + c.ID})
	if err != nil {
		return err
	}
	return c.one(s.Out, pendingTable, got.body)
}
