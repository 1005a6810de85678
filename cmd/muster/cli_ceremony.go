package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ceremony"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// ceremonyCmd is `muster ca ceremony`: a root on a machine without network, server or
// database.
type ceremonyCmd struct {
	Root   ceremonyRootCmd   `cmd:"" help:"Make a root: key, certificate and first CRL, as files."`
	Sign   ceremonySignCmd   `cmd:"" help:"Sign an issuing CA's request, or the root's next CRL."`
	Verify ceremonyVerifyCmd `cmd:"" help:"Check a ceremony's transcript, and its files."`
}

// sitting is what both kinds of session are told.
type sitting struct {
	Out            string   `required:"" type:"path" placeholder:"DIR" help:"Folder for what is made; nothing in it is replaced."`
	Holder         []string `required:"" sep:"none" placeholder:"NAME" help:"Who enters the key's passphrase. Given twice, each enters a half and both are needed, always in this order."`
	Witness        []string `sep:"none" placeholder:"NAME" help:"Who watches. Repeatable."`
	PassphraseFile []string `sep:"none" type:"path" placeholder:"FILE" help:"A holder's passphrase, in the holders' order (default: each is asked on the terminal)."`
	harm
}

// session shows the clock and has it confirmed, with what will be done.
func (c *sitting) session(s streams, what string) (ceremony.Session, error) {
	host, err := ceremony.ThisHost(version)
	if err != nil {
		return ceremony.Session{}, err
	}
	if len(host.Network) > 0 {
		fmt.Fprintf(s.Err, "note: this machine has network interfaces up (%s), and the transcript will say so\n", strings.Join(host.Network, ", "))
	}
	now := time.Now().UTC()
	shown := fmt.Sprintf("%s; this machine's clock says %s", what, now.Format(time.RFC3339))
	if c.Yes {
		fmt.Fprintln(s.Err, shown)
	}
	return ceremony.Session{
		Out: c.Out, Host: host, People: ceremony.People{Holders: c.Holder, Witnesses: c.Witness}, Now: time.Now,
	}, c.confirmed(s, now.Format(time.DateOnly), shown)
}

// passphrase is what the holders enter, together. A new one is entered twice.
func (c *sitting) passphrase(s streams, isNew bool) ([]byte, error) {
	if n := len(c.PassphraseFile); n > 0 && n != len(c.Holder) {
		return nil, fault.New(fault.Malformed, "ceremony-people", "there are %d holders and %d passphrase files: each has one", len(c.Holder), n)
	}
	entered := make([][]byte, len(c.Holder))
	for i, name := range c.Holder {
		var err error
		if len(c.PassphraseFile) > 0 {
			entered[i], err = readPassphrase(c.PassphraseFile[i])
		} else {
			entered[i], err = askPassphrase(s, name, isNew)
		}
		if err != nil {
			return nil, err
		}
	}
	return ceremony.JoinPassphrases(entered)
}

// askPassphrase asks one person, without an echo.
func askPassphrase(s streams, name string, isNew bool) ([]byte, error) {
	if !isTerminal(s.In) {
		return nil, fault.New(fault.Malformed, "needs-passphrase", "nobody can be asked for a passphrase here: add --passphrase-file for each holder")
	}
	terminal := int(s.In.(*os.File).Fd())
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprintf(s.Err, prompt, printable(name))
		defer fmt.Fprintln(s.Err)
		return term.ReadPassword(terminal)
	}
	first, err := ask("%s, enter your passphrase: ")
	if err != nil || !isNew {
		return first, err
	}
	again, err := ask("%s, enter it again: ")
	if err == nil && string(first) != string(again) {
		return nil, fault.New(fault.Malformed, "passphrase", "the two entries differ")
	}
	return first, err
}

type ceremonyRootCmd struct {
	sitting
	Name        string           `required:"" help:"The root's common name."`
	Key         policies.KeyType `default:"EC-P384" help:"Its key type."`
	Lifetime    span             `default:"7300d" placeholder:"7300d" help:"How long it lives."`
	CRLLifetime span             `name:"crl-lifetime" default:"365d" placeholder:"365d" help:"From its first CRL to the next."`
}

// Run makes a root.
func (c *ceremonyRootCmd) Run(ctx context.Context, s streams) error {
	session, err := c.session(s, fmt.Sprintf("a root named %s will be made in %s", printable(c.Name), c.Out))
	if err != nil {
		return err
	}
	passphrase, err := c.passphrase(s, true)
	if err != nil {
		return err
	}
	key, err := keys.HandOut(filepath.Join(c.Out, ceremony.RootKeyFile), passphrase)
	if err != nil {
		return err
	}
	err = session.Root(ctx, key, ca.RootRequest{Name: c.Name, KeyType: c.Key, Lifetime: time.Duration(c.Lifetime)}, time.Duration(c.CRLLifetime))
	return c.tell(s, err)
}

// tell names the files that a session left.
func (c *sitting) tell(s streams, err error) error {
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(c.Out)
	for _, e := range entries {
		fmt.Fprintln(s.Out, filepath.Join(c.Out, e.Name()))
	}
	return err
}

type ceremonySignCmd struct {
	sitting
	Root        string `required:"" type:"existingfile" placeholder:"FILE" help:"The root's certificate."`
	RootKey     string `required:"" type:"existingfile" placeholder:"FILE" help:"The root's key, as ceremony root wrote it."`
	CSR         string `name:"csr" type:"existingfile" placeholder:"FILE" help:"Sign this issuing CA's request (PKCS#10)."`
	PublishURL  string `name:"publish-url" placeholder:"URL" help:"With --csr: where root.crt and root.crl are published, or with --root-id the address of Muster's PKI listener."`
	RootID      string `name:"root-id" placeholder:"ID" help:"The root's id on that Muster (muster ca list)."`
	Lifetime    span   `default:"1825d" placeholder:"1825d" help:"How long the issuing CA lives, within the root's life."`
	CRL         bool   `name:"crl" help:"Sign the root's next CRL."`
	Revoke      string `placeholder:"SERIAL" help:"Revoke this issuing CA, in the root's next CRL."`
	Reason      string `help:"With --revoke: unspecified, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn or keyCompromise."`
	PreviousCRL string `name:"previous-crl" type:"existingfile" placeholder:"FILE" help:"With --crl and --revoke: the root's latest CRL; its entries and number go on."`
	CRLLifetime span   `name:"crl-lifetime" default:"365d" placeholder:"365d" help:"From this CRL to the next."`
}

// Validate wants one act, and what belongs to it.
func (c *ceremonySignCmd) Validate() error {
	acts := 0
	for _, asked := range []bool{c.CSR != "", c.CRL, c.Revoke != ""} {
		if asked {
			acts++
		}
	}
	switch {
	case acts != 1:
		return errors.New("give one of --csr FILE, --crl and --revoke SERIAL")
	case c.CSR != "" && c.PublishURL == "":
		return errors.New("--csr needs --publish-url: it is written into the certificate")
	case c.CSR != "" && c.PreviousCRL != "":
		return errors.New("--previous-crl goes with --crl and --revoke")
	case c.CSR == "" && (c.PublishURL != "" || c.RootID != ""):
		return errors.New("--publish-url and --root-id go with --csr")
	case c.CSR == "" && c.PreviousCRL == "":
		return errors.New("--crl and --revoke need --previous-crl: CRL numbers only grow, and entries stay")
	case (c.Revoke == "") != (c.Reason == ""):
		return errors.New("--revoke and --reason go together")
	}
	return nil
}

// addresses are those of Muster's own PKI listener, or of files beside each other.
func (c *ceremonySignCmd) addresses() ca.Addresses {
	base := strings.TrimRight(c.PublishURL, "/")
	if c.RootID != "" {
		base += "/pki/" + c.RootID
	} else {
		base += "/root"
	}
	return ca.Addresses{Certificate: base + ".crt", CRL: base + ".crl"}
}

// Run signs.
func (c *ceremonySignCmd) Run(ctx context.Context, s streams) error {
	crl := ceremony.CRL{Previous: c.PreviousCRL, Lifetime: time.Duration(c.CRLLifetime)}
	what := fmt.Sprintf("the next CRL of the root in %s will be signed", c.Root)
	var err error
	switch {
	case c.CSR != "":
		what = fmt.Sprintf("the request in %s will be signed by the root in %s", c.CSR, c.Root)
	case c.Revoke != "":
		if crl.Serial, err = ca.ParseSerial(c.Revoke); err != nil {
			return err
		}
		if crl.Reason, err = ca.ParseReason(c.Reason); err != nil {
			return err
		}
		what = fmt.Sprintf("the certificate %s will be revoked for good by the root in %s", crl.Serial, c.Root)
	}
	session, err := c.session(s, what)
	if err != nil {
		return err
	}
	passphrase, err := c.passphrase(s, false)
	if err != nil {
		return err
	}
	folder, err := keys.OpenFolder(filepath.Dir(c.RootKey), passphrase)
	if err != nil {
		return err
	}
	root := ceremony.RootFiles{Certificate: c.Root, Key: c.RootKey, Keys: folder, KeyURI: "softkms:" + filepath.Base(c.RootKey)}
	if c.CSR != "" {
		err = session.Issue(ctx, root, ceremony.Issue{CSR: c.CSR, Lifetime: time.Duration(c.Lifetime), Addresses: c.addresses()})
	} else {
		err = session.Publish(ctx, root, crl)
	}
	return c.tell(s, err)
}

type ceremonyVerifyCmd struct {
	Transcript string `arg:"" type:"existingfile" help:"The transcript."`
	Root       string `required:"" type:"existingfile" placeholder:"FILE" help:"The root's certificate, from where you trust it."`
	Files      string `type:"existingdir" placeholder:"DIR" help:"Check the files in this folder too."`
}

// Run checks: exit 0 when all holds, 6 when anything does not.
func (c *ceremonyVerifyCmd) Run(s streams) error {
	roots, err := readCertificates(c.Root)
	if err != nil {
		return err
	}
	if len(roots) != 1 {
		return fault.New(fault.Malformed, "certificate-file", "%s holds %d certificates: give the root alone", c.Root, len(roots))
	}
	verdict, err := c.verdict(roots[0])
	if err != nil {
		return err
	}
	if verdict.Ceremony != "" {
		fmt.Fprintf(s.Out, "ceremony %s, %s, by %s", printable(verdict.Ceremony), verdict.Begun.UTC().Format(time.RFC3339), printable(strings.Join(verdict.People.Holders, ", ")))
		if len(verdict.People.Witnesses) > 0 {
			fmt.Fprintf(s.Out, ", witnessed by %s", printable(strings.Join(verdict.People.Witnesses, ", ")))
		}
		fmt.Fprintln(s.Out)
	}
	for _, f := range verdict.Findings {
		fmt.Fprintf(s.Out, "✗ %s (rule %s)\n", printable(f.Error()), f.Rule)
	}
	if len(verdict.Findings) > 0 {
		return quietExit{exitRefused}
	}
	fmt.Fprintf(s.Out, "✓ %d records, signed by %s\n", verdict.Records, printable(roots[0].Subject.String()))
	return nil
}

func (c *ceremonyVerifyCmd) verdict(root *x509.Certificate) (ceremony.Verdict, error) {
	transcript, err := os.ReadFile(c.Transcript)
	if err != nil {
		return ceremony.Verdict{}, err
	}
	verdict := ceremony.Verify(transcript, root)
	if c.Files == "" {
		return verdict, nil
	}
	return verdict, verdict.CheckFiles(func(name string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(c.Files, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return data, err
	})
}
