package main

import (
	"context"
	"encoding/json"
	"fmt"
	"github.com/passmuster/muster/api/admin"
	"github.com/passmuster/muster/ca"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/store"
)

// The log's key is a file beside the issuers', and like them it is made once.
const (
	logKeyName = "log-checkpoint"
	logKeyURI  = "softkms:" + logKeyName + ".pem"
)

func logFolder(c config) string { return filepath.Join(c.Data, "log", "ledger") }

// issuanceLog is the log of a house's ledger. Nothing that issues waits for it, and nothing
// of it keeps a server from starting.
type issuanceLog struct {
	*ctlog.Log
	inventory store.LedgerLog
	sequencer *ctlog.Sequencer // nil where the log cannot be written here
	problem   string           // why not
}

// openLog finds the log's key, or makes the log when the ledger has none yet.
func openLog(ctx context.Context, c config, db *store.DB, idScope string, folder *keys.Folder) (*issuanceLog, error) {
	ledger := db.Log()
	given, err := ledger.GivenKey(ctx)
	isNew := fault.Is(err, fault.NotFound)
	if err != nil && !isNew {
		return nil, err
	}
	l := &issuanceLog{Log: ctlog.OpenLog(logFolder(c), given), inventory: ledger}
	signer, err := folder.Open(ctx, logKeyURI)
	if fault.Is(err, fault.NotFound) && isNew {
		_, signer, err = folder.Create(ctx, logKeyName, policies.KeyEd25519)
	}
	if err != nil {
		if isNew {
			return nil, err
		}
		l.problem = fmt.Sprintf("the key that signs its checkpoints cannot be opened: %v", err)
		return l, nil
	}
	name, _, _ := strings.Cut(given, "+")
	if isNew {
		name = logOrigin(c.pkiURL(), idScope)
	}
	key, err := ctlog.NewKey(name, signer)
	if err != nil {
		return nil, err
	}
	if isNew {
		given, err = ledger.Key(ctx, key.Public(), audit.Event{At: time.Now(), Actor: "job:log", Action: audit.LogStarted, Subject: "log:" + name, Body: audit.Body(map[string]any{"key": key.Public()})})
		if err != nil {
			return nil, err
		}
	}
	if given != key.Public() {
		l.problem = "the key here is not the one that this ledger's log was begun with"
		return l, nil
	}
	l.sequencer = ctlog.NewSequencer(logFolder(c), key, ledger, time.Now)
	l.Log = l.sequencer.Log()
	return l, nil
}

// logOrigin is the name of a log: where it can be read, as C2SP asks. It stays when the
// address changes.
func logOrigin(pkiURL, idScope string) string {
	if u, err := url.Parse(pkiURL); err == nil {
		pkiURL = u.Host + u.Path
	}
	return strings.TrimRight(pkiURL, "/") + "/log/" + idScope
}

// Note is the latest checkpoint.
func (l *issuanceLog) Note() ([]byte, error) {
	c, err := l.Checkpoint()
	return c.Note, err
}

// logState is how the log does, seen from this process.
type logState struct {
	checkpoint ctlog.Checkpoint
	written    time.Time
	behind     int64
	problem    string
}

// state reads where the log stands. A process that does not write it sees what another
// wrote, if they share the folder.
func (l *issuanceLog) state(ctx context.Context) (st logState) {
	st.problem = l.problem
	if l.sequencer != nil {
		status := l.sequencer.Status()
		st.behind, st.problem = status.Behind, status.Problem
	}
	var err error
	if st.checkpoint, err = l.Checkpoint(); err == nil {
		st.written, err = l.Written()
	}
	if err == nil {
		var last int64
		if last, err = l.LastSeq(); err == nil {
			st.behind, err = l.inventory.Behind(ctx, last)
		}
	}
	if err != nil && st.problem == "" {
		st.problem = err.Error()
	}
	return st
}

// Status implements admin.Log.
func (l *issuanceLog) Status(ctx context.Context) (admin.LogStatus, error) {
	st := l.state(ctx)
	out := admin.LogStatus{Key: l.Key(), Checkpoint: string(st.checkpoint.Note), Size: st.checkpoint.Size, Behind: st.behind, Problem: st.problem}
	if !st.written.IsZero() {
		written := st.written.UTC()
		out.Written = &written
	}
	return out, nil
}

// Evidence implements admin.Log.
func (l *issuanceLog) Evidence(ctx context.Context, at string) ([]json.RawMessage, string, error) {
	return ctlog.PageText(ctx, l.inventory, l.Log, at)
}

// Proof implements admin.Log.
func (l *issuanceLog) Proof(ctx context.Context, c ca.Certificate) (admin.LogProof, error) {
	checkpoint, err := l.Checkpoint()
	if err != nil {
		return admin.LogProof{}, err
	}
	index, leaf, err := l.Find(ctx, checkpoint.Size, c.Issued, func(leaf ctlog.Leaf) bool {
		return leaf.Issues(string(c.Issuer), string(c.Serial), c.Thumbprint.String())
	})
	if err != nil {
		return admin.LogProof{}, err
	}
	hashes, err := l.Inclusion(ctx, index, checkpoint.Size)
	return admin.LogProof{Leaf: leaf, Index: index, Hashes: hashes, Checkpoint: string(checkpoint.Note)}, err
}
