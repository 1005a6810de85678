package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Log is the log of an id scope's ledger.
type Log interface {
	Status(ctx context.Context) (LogStatus, error)
	// Evidence is a page of what is compared with the log; next is "" at its end.
	Evidence(ctx context.Context, at string) (items []json.RawMessage, next string, err error)
	// Proof is where a certificate's issuing stands in the log. NotFound, rule "no-leaf".
	Proof(ctx context.Context, c ca.Certificate) (LogProof, error)
}

// LogStatus says how the log does.
type LogStatus struct {
	Key        string     `json:"key" doc:"The key that signs checkpoints: NAME+HASH+KEY, as tools for C2SP signed notes take it."`
	Checkpoint string     `json:"checkpoint,omitempty" doc:"The latest checkpoint, a C2SP signed note: keep it, and a log that does not extend it is exposed."`
	Size       uint64     `json:"size" doc:"Leaves under the latest checkpoint."`
	Written    *time.Time `json:"written,omitempty" doc:"When the latest checkpoint was written."`
	Behind     int64      `json:"behind" doc:"Ledger rows that have no leaf yet, at most."`
	Problem    string     `json:"problem,omitempty" doc:"Why the log does not go on."`
}

// LogProof is the leaf of an issuing and its proof of inclusion.
type LogProof struct {
	Leaf       []byte   `json:"leaf" doc:"The leaf; docs/reference/log.md has its form."`
	Index      uint64   `json:"index"`
	Hashes     [][]byte `json:"hashes" doc:"The audit path of RFC 6962 §2.1.1 in the checkpoint's tree."`
	Checkpoint string   `json:"checkpoint"`
}

type evidencePage struct {
	Cursor string `query:"cursor" maxLength:"512" doc:"The next of the page before."`
}

type evidence struct {
	Body struct {
		Items []json.RawMessage `json:"items" nullable:"false"`
		Next  string            `json:"next,omitempty" doc:"The cursor of the next page; absent at the end."`
	}
}

func (d *door) addLog() {
	const tag = "log"
	add(d, route{"get-log", http.MethodGet, "/log", policies.ScopeRead, tag, "How the log of the ledger does, with its key and latest checkpoint", false}, d.getLog)
	add(d, route{"list-log-evidence", http.MethodGet, "/log/evidence", policies.ScopeRead, tag, "What muster audit verify compares: the checkpoint, ledger rows with their leaves' hashes, and certificates", false}, d.listEvidence)
	add(d, route{"get-certificate-proof", http.MethodGet, "/certificates/{serial}/proof", policies.ScopeRead, tag, "Prove that a certificate's issuing is in the log", false}, d.getProof)
}

func (d *door) log() (Log, error) {
	if d.IssuanceLog == nil {
		return nil, fault.New(fault.Unavailable, "log-not-here", "there is no log on this host")
	}
	return d.IssuanceLog, nil
}

func (d *door) getLog(ctx context.Context, _ *struct{}) (*struct{ Body LogStatus }, error) {
	l, err := d.log()
	if err != nil {
		return nil, err
	}
	s, err := l.Status(ctx)
	return &struct{ Body LogStatus }{s}, err
}

func (d *door) listEvidence(ctx context.Context, in *evidencePage) (*evidence, error) {
	l, err := d.log()
	if err != nil {
		return nil, err
	}
	out := new(evidence)
	out.Body.Items, out.Body.Next, err = l.Evidence(ctx, in.Cursor)
	return out, err
}

func (d *door) getProof(ctx context.Context, in *Serial) (*struct{ Body LogProof }, error) {
	l, err := d.log()
	if err != nil {
		return nil, err
	}
	issuer, serial, err := in.parse()
	if err != nil {
		return nil, err
	}
	c, err := d.Engine.Certificate(ctx, issuer, serial)
	if err != nil {
		return nil, err
	}
	p, err := l.Proof(ctx, c)
	return &struct{ Body LogProof }{p}, err
}
