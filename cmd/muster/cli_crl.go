package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

type caCRLCmd struct {
	ID    string `arg:"" help:"The issuer's id."`
	Shard *int   `placeholder:"N" help:"One shard's list alone; 0 is that of CAs and servers."`
	Out   string `short:"o" placeholder:"FILE" type:"path" help:"Write to a file instead of the terminal: PEM, or DER of one shard."`
}

// Run fetches the lists from the PKI listener, as a relying party would. Shards are numbered
// without a gap.
func (c *caCRLCmd) Run(ctx context.Context, s streams, api *client) (err error) {
	if _, err := getIssuer(ctx, api, c.ID); err != nil {
		return err
	}
	if api.pki == "" {
		return fault.New(fault.Malformed, "pki-url", "say where CRLs are published: --pki-url or MUSTER_PKI_URL, the start of the address in the certificates")
	}
	if c.Shard != nil {
		der, err := c.fetch(ctx, s, api, *c.Shard)
		if err == nil && der == nil {
			err = c.none(api)
		}
		if err != nil {
			return err
		}
		if c.Out != "" {
			return os.WriteFile(c.Out, der, 0o644)
		}
		return encodeCRL(s.Out, der)
	}
	out := s.Out
	if c.Out != "" {
		file, err := os.Create(c.Out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	for shard := 0; ; shard++ {
		der, err := c.fetch(ctx, s, api, shard)
		switch {
		case err != nil:
			return err
		case der == nil && shard == 0:
			return c.none(api)
		case der == nil:
			return nil
		}
		if err := encodeCRL(out, der); err != nil {
			return err
		}
	}
}

func encodeCRL(w io.Writer, der []byte) error {
	return pem.Encode(w, &pem.Block{Type: "X509 CRL", Bytes: der})
}

func (c *caCRLCmd) none(api *client) error {
	return fault.New(fault.Unavailable, "no-crl", "%s has no such CRL of issuer %s", api.pki, c.ID)
}

// fetch gets one shard's list and says what it is; nil where there is none.
func (c *caCRLCmd) fetch(ctx context.Context, s streams, api *client, shard int) ([]byte, error) {
	address := fmt.Sprintf("%s/pki/%s/%d.crl", api.pki, url.PathEscape(c.ID), shard)
	status, der, err := api.raw(ctx, address)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, nil
	case status != http.StatusOK:
		return nil, fault.New(fault.Unavailable, "no-crl", "%s answered %d", address, status)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("what %s answered is no CRL: %w", address, err)
	}
	fmt.Fprintf(s.Err, "CRL %s of %s, shard %d: %d revoked, next update %s\n", list.Number, printable(list.Issuer.String()), shard,
		len(list.RevokedCertificateEntries), list.NextUpdate.UTC().Format(time.RFC3339))
	return der, nil
}
