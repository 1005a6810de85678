package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// auditCmd is `muster audit`: the ledger, and the log that nobody rewrites unseen.
type auditCmd struct {
	List       auditListCmd       `cmd:"" help:"List the ledger, newest first."`
	Verify     auditVerifyCmd     `cmd:"" help:"Compare the ledger and the issued certificates with the log. Exit 11 when something differs."`
	Export     auditExportCmd     `cmd:"" help:"Write what audit verify compares, NDJSON: it can be verified elsewhere and later."`
	Checkpoint auditCheckpointCmd `cmd:"" help:"Print the log's latest checkpoint, for a second party to keep."`
	Key        auditKeyCmd        `cmd:"" help:"Print the log's public key."`
	Proof      auditProofCmd      `cmd:"" help:"Prove that a certificate's issuing is in the log."`
}

var ledgerTable = table{
	{"SEQ", "seq", false}, {"AT", "at", false}, {"ACTOR", "actor", false}, {"ACTION", "action", false}, {"SUBJECT", "subject", false}, {"FACTS", "body", true},
}

type auditListCmd struct {
	connection
	listing
	Subject string `placeholder:"SUBJECT" help:"About this: registration:ID, group:ID, anchor:NAME …"`
	Actor   string `placeholder:"ACTOR" help:"By operator:NAME, device:ID or job:NAME."`
	Action  string `placeholder:"ACTION" help:"Of this kind: certificate.issued, enrollment.disabled …"`
}

// Run lists ledger rows.
func (c *auditListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, ledgerTable, "audit", filters("subject", c.Subject, "actor", c.Actor, "action", c.Action))
}

// evidenceFrom says where a command gets evidence: from the server, or on its host.
type evidenceFrom struct {
	connection
	anyScope
	Local bool `help:"On the server's host: read the database and the log's folder themselves. The server may run."`
}

// noLogKey is the rule word for a log whose key is not known.
const noLogKey = "log-key-unknown"

// open finds the source of the evidence.
func (f *evidenceFrom) open(ctx context.Context, s streams) (source, error) {
	if !f.Local {
		api, err := f.ProvideClient(s)
		return remote{api}, err
	}
	c, err := f.anyScope.config()
	if err != nil {
		return nil, err
	}
	st, err := openStoreReadOnly(ctx, c)
	if err != nil {
		return nil, err
	}
	inv := store.New(st).Log()
	key, err := inv.GivenKey(ctx)
	if err != nil {
		err = fault.New(fault.NotFound, noLogKey, "this ledger has no log yet: it begins when the server next starts").Because(err)
		return nil, errors.Join(err, st.Close())
	}
	return &local{st: st, inv: inv, log: ctlog.OpenLog(logFolder(c), key)}, nil
}

// source is where evidence comes from.
type source interface {
	key(context.Context) (string, error)
	each(context.Context, func([]ctlog.Evidence) error) error
	close() error
}

type local struct {
	st  store.Engine
	inv store.LedgerLog
	log *ctlog.Log
}

func (l *local) key(context.Context) (string, error) { return l.log.Key(), nil }
func (l *local) close() error                        { return l.st.Close() }

func (l *local) each(ctx context.Context, f func([]ctlog.Evidence) error) error {
	for at := (ctlog.Cursor{}); !at.Done; {
		page, next, err := ctlog.Page(ctx, l.inv, l.log, at)
		if err == nil {
			err = f(page)
		}
		if err != nil {
			return err
		}
		at = next
	}
	return nil
}

type remote struct{ api *client }

func (r remote) close() error { return nil }

func (r remote) key(ctx context.Context) (string, error) {
	about, err := logOf(ctx, r.api)
	return about.Key, err
}

func (r remote) each(ctx context.Context, f func([]ctlog.Evidence) error) error {
	for next := ""; ; {
		got, err := r.api.do(ctx, call{method: http.MethodGet, at: []string{"log", "evidence"}, query: filters("cursor", next)})
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage
			Next  string
		}
		if err := json.Unmarshal(got.body, &page); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		var pieces []ctlog.Evidence
		for _, item := range page.Items {
			if err := ctlog.DecodeEvidence(bytes.NewReader(item), func(e ctlog.Evidence) { pieces = append(pieces, e) }); err != nil {
				return err
			}
		}
		if err := f(pieces); err != nil {
			return err
		}
		if next = page.Next; next == "" {
			return nil
		}
	}
}

type auditVerifyCmd struct {
	evidenceFrom
	From string `placeholder:"FILE" type:"path" help:"Verify an export instead (- for standard input); needs --key."`
	Key  string `placeholder:"KEY" help:"The log's public key, as you noted it earlier (muster audit key). Without it the server's word is taken for it."`
	Kept string `placeholder:"FILE" type:"path" help:"A checkpoint that a second party kept: the log must extend it."`
}

// Run verifies and says what differs.
func (c *auditVerifyCmd) Run(ctx context.Context, s streams) (err error) {
	if c.From != "" && c.Key == "" {
		return fault.New(fault.Malformed, noLogKey, "an export is verified against a key you know: --key, from muster audit key")
	}
	var from source
	key := c.Key
	if c.From == "" {
		if from, err = c.open(ctx, s); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.close()) }()
		if key == "" {
			if key, err = from.key(ctx); err != nil {
				return err
			}
		}
	}
	kept, err := readKept(c.Kept, key)
	if err != nil {
		return err
	}
	v := ctlog.NewVerifier(key, kept)
	if from == nil {
		err = verifyFile(c.From, s.In, v)
	} else {
		err = from.each(ctx, func(page []ctlog.Evidence) error {
			for _, e := range page {
				v.Add(e)
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	return tellVerified(s, v.Report(), kept, time.Now())
}

func readKept(file, key string) (*ctlog.Checkpoint, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	kept, err := ctlog.ParseCheckpoint(raw, key)
	return &kept, err
}

func verifyFile(name string, in io.Reader, v *ctlog.Verifier) error {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return ctlog.DecodeEvidence(in, v.Add)
}

// logPatience is how long rows may wait for their place in the log before that is a
// warning: the log takes them within seconds.
const logPatience = 5 * time.Minute

func tellVerified(s streams, r ctlog.Report, kept *ctlog.Checkpoint, now time.Time) error {
	for _, f := range r.Findings {
		fmt.Fprintf(s.Out, "%s\t%s\t%s\n", f.Kind, printable(f.Object), printable(f.Detail))
	}
	if r.Found > len(r.Findings) {
		fmt.Fprintf(s.Err, "… and %d more\n", r.Found-len(r.Findings))
	}
	if r.Found > 0 {
		fmt.Fprintf(s.Err, "muster: %d findings in %d leaves and %d certificates\n", r.Found, r.Leaves, r.Certificates)
		return quietExit{exitCritical}
	}
	extends := ""
	if kept != nil {
		extends = fmt.Sprintf(", and extends the checkpoint of %d leaves that was kept", kept.Size)
	}
	fmt.Fprintf(s.Out, "the log of %d leaves has every row and %d certificates%s\n", r.Leaves, r.Certificates, extends)
	if r.Behind > 0 {
		fmt.Fprintf(s.Err, "%d rows wait for their place in the log, the first since %s\n", r.Behind, r.Oldest.Format(time.RFC3339))
		if now.Sub(r.Oldest) > logPatience {
			return quietExit{exitWarning}
		}
	}
	return nil
}

type auditExportCmd struct{ evidenceFrom }

// Run writes the evidence to standard output.
func (c *auditExportCmd) Run(ctx context.Context, s streams) error {
	from, err := c.open(ctx, s)
	if err != nil {
		return err
	}
	err = from.each(ctx, func(page []ctlog.Evidence) error { return ctlog.EncodeEvidence(s.Out, page) })
	return errors.Join(err, from.close())
}

// aboutLog is what the server says of its log.
type aboutLog struct {
	Key, Checkpoint, Problem string
	Size                     uint64
	Written                  time.Time
	Behind                   int64
}

func logOf(ctx context.Context, api *client) (l aboutLog, err error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"log"}})
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(got.body, &l); err != nil {
		return l, fmt.Errorf("reading the answer: %w", err)
	}
	return l, nil
}

// check says whether the log keeps up. One that does not stops nothing: what it misses is
// on record and comes later.
func (l aboutLog) check(now time.Time) check {
	k := check{"log", stateOK, fmt.Sprintf("%d leaves", l.Size)}
	if l.Behind > 0 {
		k.Detail += fmt.Sprintf(", behind by %d", l.Behind)
	}
	if l.Problem != "" {
		k.Detail += ": " + l.Problem
	}
	if l.Problem != "" || l.Behind > 0 && now.Sub(l.Written) > logPatience {
		k.State = stateWarning
	}
	return k
}

type auditCheckpointCmd struct{ connection }

// Run prints the checkpoint as it was signed.
func (c *auditCheckpointCmd) Run(ctx context.Context, s streams, api *client) error {
	l, err := logOf(ctx, api)
	if err != nil {
		return err
	}
	if _, err := ctlog.ParseCheckpoint([]byte(l.Checkpoint), l.Key); err != nil {
		return err
	}
	_, err = io.WriteString(s.Out, l.Checkpoint)
	return err
}

type auditKeyCmd struct{ connection }

// Run prints the key.
func (c *auditKeyCmd) Run(ctx context.Context, s streams, api *client) error {
	l, err := logOf(ctx, api)
	if err == nil {
		_, err = fmt.Fprintln(s.Out, l.Key)
	}
	return err
}

type auditProofCmd struct {
	connection
	Serial string `arg:"" help:"The certificate's serial number, hex."`
	Issuer string `placeholder:"ID" help:"Its issuer, where two issuers have the serial."`
	Key    string `placeholder:"KEY" help:"The log's public key, as you noted it earlier. Without it the server's word is taken for it."`
}

// Run fetches the leaf and its proof, and checks them here.
func (c *auditProofCmd) Run(ctx context.Context, s streams, api *client) error {
	key := c.Key
	if key == "" {
		l, err := logOf(ctx, api)
		if err != nil {
			return err
		}
		key = l.Key
	}
	query := filters("issuer", c.Issuer)
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"certificates", c.Serial}, query: query, next: "muster ca certs"})
	if err != nil {
		return err
	}
	var cert struct{ Issuer, Serial, Thumbprint string }
	if err := json.Unmarshal(got.body, &cert); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if got, err = api.do(ctx, call{method: http.MethodGet, at: []string{"certificates", c.Serial, "proof"}, query: query, next: "muster audit verify"}); err != nil {
		return err
	}
	var p struct {
		Leaf       []byte
		Index      uint64
		Hashes     [][]byte
		Checkpoint string
	}
	if err := json.Unmarshal(got.body, &p); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	checkpoint, err := ctlog.ParseCheckpoint([]byte(p.Checkpoint), key)
	if err != nil {
		return err
	}
	leaf, err := checkpoint.Includes(p.Leaf, p.Index, p.Hashes)
	if err != nil {
		return err
	}
	if !leaf.Issues(cert.Issuer, cert.Serial, cert.Thumbprint) {
		return fault.New(fault.Malformed, "log-proof", "the leaf that was proved tells of something else: %s of %s", leaf.Action, printable(leaf.Subject))
	}
	fmt.Fprintf(s.Out, "leaf %d of %d: %s of %s by %s at %s\n%s\n", p.Index, checkpoint.Size, leaf.Action, printable(leaf.Subject), printable(leaf.Actor), leaf.At.Format(time.RFC3339), printable(string(leaf.Body)))
	return nil
}
