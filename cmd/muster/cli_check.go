package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// verifyCheckCmd looks at certificates in files, without a server. With a FILE it asks
// when they end; with --root and --leaf whether Muster would accept the chain from a
// device.
type verifyCheckCmd struct {
	File          string    `arg:"" optional:"" type:"existingfile" help:"Certificates, PEM or DER: exit 0 well, 10 due, 11 expired."`
	ExpiresIn     threshold `default:"66%" placeholder:"30d|66%" help:"Due when so little time is left, or so much of the life is over."`
	Root          []string  `type:"existingfile" sep:"none" placeholder:"FILE" help:"Trust anchors: roots, or intermediates that stand for one. Repeatable."`
	Intermediates []string  `type:"existingfile" sep:"none" placeholder:"FILE" help:"Certificates sent along with the leaf. Repeatable."`
	Leaf          string    `type:"existingfile" placeholder:"FILE" help:"The device's certificate; more in the file count as intermediates. Exit 0 accepted, 6 refused."`
	At            time.Time `placeholder:"RFC3339" help:"Check as of this moment (default: now)."`
	Output        string    `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// Validate wants one of the two questions.
func (c *verifyCheckCmd) Validate() error {
	switch chain := c.Leaf != "" || len(c.Root) > 0 || len(c.Intermediates) > 0; {
	case chain && c.File != "":
		return fmt.Errorf("give either a FILE or a chain with --root and --leaf")
	case chain && (c.Leaf == "" || len(c.Root) == 0):
		return fmt.Errorf("a chain needs --root and --leaf")
	case !chain && c.File == "":
		return fmt.Errorf("give a FILE, or a chain with --root and --leaf")
	}
	return nil
}

// Run answers.
func (c *verifyCheckCmd) Run(s streams) error {
	if c.At.IsZero() {
		c.At = time.Now()
	}
	if c.File != "" {
		return c.checkFile(s.Out)
	}
	path, err := c.checkChain()
	if err != nil && fault.As(err) == nil {
		return err
	}
	return c.printVerdict(s.Out, path, err)
}

// certificateAge is one certificate's line.
type certificateAge struct {
	Subject    string    `json:"subject"`
	State      string    `json:"state"` // ok, due, expired, not-yet-valid
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	Thumbprint string    `json:"thumbprint"`
}

// checkFile tells the age of every certificate; the worst one decides the exit code.
func (c *verifyCheckCmd) checkFile(w io.Writer) error {
	certs, err := readCertificates(c.File)
	if err != nil {
		return err
	}
	worst := exitDone
	ages := make([]certificateAge, len(certs))
	for i, cert := range certs {
		state, code := c.age(cert)
		worst = max(worst, code)
		ages[i] = certificateAge{
			Subject: cert.Subject.String(), State: state, NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
			Thumbprint: verify.ThumbprintOf(cert.Raw).String(),
		}
	}
	if err := c.printAges(w, ages); err != nil || worst == exitDone {
		return err
	}
	return quietExit{worst}
}

func (c *verifyCheckCmd) age(cert *x509.Certificate) (string, int) {
	switch {
	case c.At.Before(cert.NotBefore):
		return "not-yet-valid", exitCritical
	case c.At.After(cert.NotAfter):
		return "expired", exitCritical
	case c.ExpiresIn.reached(cert, c.At):
		return "due", exitWarning
	}
	return "ok", exitDone
}

func (c *verifyCheckCmd) printAges(w io.Writer, ages []certificateAge) error {
	if c.Output == "json" {
		return printJSON(w, ages)
	}
	rows := make([][]string, len(ages))
	for i, a := range ages {
		rows[i] = []string{a.State, printable(a.Subject), a.NotAfter.Format(time.RFC3339), a.Thumbprint}
	}
	return printRows(w, rows)
}

// checkChain asks of the chain what a device's door asks, but for the device's name.
func (c *verifyCheckCmd) checkChain() ([]verify.Link, error) {
	var anchors []verify.Link
	for _, file := range c.Root {
		certs, err := readCertificates(file)
		if err != nil {
			return nil, err
		}
		for _, cert := range certs {
			anchors = append(anchors, verify.NewLink(cert))
		}
	}
	var sent []*x509.Certificate
	for _, file := range append([]string{c.Leaf}, c.Intermediates...) {
		certs, err := readCertificates(file)
		if err != nil {
			return nil, err
		}
		sent = append(sent, certs...)
	}
	chain, err := verify.ReadChain(sent)
	if err != nil {
		return nil, err
	}
	return verify.CheckDeviceChain(chain, anchors, c.At, nil)
}

// pathLink is one certificate of a verified path.
type pathLink struct {
	Subject    string    `json:"subject"`
	NotAfter   time.Time `json:"notAfter"`
	Thumbprint string    `json:"thumbprint"`
}

func (c *verifyCheckCmd) printVerdict(w io.Writer, path []verify.Link, refused error) error {
	verdict := struct {
		Accepted bool       `json:"accepted"`
		Rule     string     `json:"rule,omitempty"`
		Detail   string     `json:"detail,omitempty"`
		Path     []pathLink `json:"path,omitempty"`
	}{Accepted: refused == nil, Rule: fault.RuleOf(refused)}
	if refused != nil {
		verdict.Detail = fault.As(refused).Detail
	}
	for _, l := range path {
		verdict.Path = append(verdict.Path, pathLink{l.Cert.Subject.String(), l.Cert.NotAfter.UTC(), l.Thumbprint.String()})
	}
	if c.Output == "json" {
		if err := printJSON(w, verdict); err != nil {
			return err
		}
	} else if refused != nil {
		fmt.Fprintf(w, "✗ refused: %s (rule %s)\n", printable(verdict.Detail), verdict.Rule)
	} else {
		fmt.Fprintln(w, "✓ accepted from a device")
		rows := make([][]string, len(verdict.Path))
		for i, l := range verdict.Path {
			rows[i] = []string{"  " + printable(l.Subject), l.NotAfter.Format(time.RFC3339), l.Thumbprint}
		}
		if err := printRows(w, rows); err != nil {
			return err
		}
	}
	if refused != nil {
		return quietExit{exitRefused}
	}
	return nil
}

func readCertificates(file string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := verify.ParseCertificates(raw)
	if f := fault.As(err); f != nil {
		return nil, f.About(file)
	}
	return certs, err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
