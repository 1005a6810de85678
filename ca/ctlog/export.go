package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// record is a piece of evidence as a line of an export.
type record struct {
	Checkpoint  string       `json:"checkpoint,omitempty"`
	Row         *ledgerRow   `json:"row,omitempty"`
	LeafHash    []byte       `json:"leafHash,omitempty"`
	Leaf        []byte       `json:"leaf,omitempty"`
	Certificate *certificate `json:"certificate,omitempty"`
}

type ledgerRow struct {
	Seq     int64  `json:"seq"`
	At      int64  `json:"at"` // microseconds since 1970; 0: none
	Actor   string `json:"actor"`
	Action  string `json:"action"`
	Subject string `json:"subject"`
	Body    string `json:"body"` // a text, to the byte: it is hashed
}

type certificate struct {
	Issuer string `json:"issuer"`
	Serial string `json:"serial"`
	SHA256 string `json:"sha256"`
	Recent bool   `json:"recent,omitempty"`
}

// EncodeEvidence writes evidence as NDJSON, a piece on each line.
func EncodeEvidence(w io.Writer, pieces []Evidence) error {
	out := json.NewEncoder(w)
	for _, e := range pieces {
		r := record{Checkpoint: string(e.Checkpoint), LeafHash: e.LeafHash, Leaf: e.Leaf}
		if e.Row != nil {
			r.Row = &ledgerRow{e.Row.Seq, micros(e.Row.At), e.Row.Actor, string(e.Row.Action), e.Row.Subject, string(e.Row.Body)}
		}
		if c := e.Certificate; c != nil {
			r.Certificate = &certificate{string(c.Issuer), string(c.Serial), hex.EncodeToString(c.SHA256[:]), c.Recent}
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// DecodeEvidence reads what EncodeEvidence wrote and hands on each piece. Malformed, rule
// "log-evidence".
func DecodeEvidence(r io.Reader, each func(Evidence)) error {
	in := json.NewDecoder(r)
	for {
		var x record
		if err := in.Decode(&x); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return notEvidence(err)
		}
		e, err := x.evidence()
		if err != nil {
			return notEvidence(err)
		}
		each(e)
	}
}

func notEvidence(err error) error {
	return fault.New(fault.Malformed, "log-evidence", "It is not an export of a log.").Because(err)
}

func (x record) evidence() (Evidence, error) {
	e := Evidence{LeafHash: x.LeafHash, Leaf: x.Leaf}
	if x.Checkpoint != "" {
		e.Checkpoint = []byte(x.Checkpoint)
	}
	if x.LeafHash != nil && len(x.LeafHash) != sha256.Size {
		return e, errors.New("a hash of another length")
	}
	if r := x.Row; r != nil {
		e.Row = &audit.Entry{Seq: r.Seq, Event: audit.Event{Actor: r.Actor, Action: audit.Action(r.Action), Subject: r.Subject, Body: []byte(r.Body)}}
		if r.At != 0 {
			e.Row.At = time.UnixMicro(r.At).UTC()
		}
	}
	if c := x.Certificate; c != nil {
		e.Certificate = &Listed{Issuer: ca.IssuerID(c.Issuer), Serial: ca.Serial(c.Serial), Recent: c.Recent}
		if n, err := hex.Decode(e.Certificate.SHA256[:], []byte(c.SHA256[:min(len(c.SHA256), 2*sha256.Size)])); err != nil || n != sha256.Size {
			return e, errors.New("a thumbprint of another length")
		}
	}
	return e, nil
}

// PageText is Page for somebody elsewhere: the lines of EncodeEvidence, and where it goes
// on; "" at its end. Malformed, rule "log-cursor".
func PageText(ctx context.Context, inv Inventory, log *Log, at string) (lines []json.RawMessage, next string, err error) {
	var from Cursor
	if at != "" {
		raw, err := base64.RawURLEncoding.DecodeString(at)
		if err == nil {
			err = json.Unmarshal(raw, &from)
		}
		if err != nil {
			return nil, "", fault.New(fault.Malformed, "log-cursor", "It is no place in the evidence of a log.").Because(err)
		}
	}
	if c, err := log.Checkpoint(); err == nil && from.Size > c.Size {
		return nil, "", fault.New(fault.Malformed, "log-cursor", "The log is shorter than when this began; begin anew.")
	}
	pieces, to, err := Page(ctx, inv, log, from)
	if err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	if err := EncodeEvidence(&b, pieces); err != nil {
		return nil, "", err
	}
	lines = make([]json.RawMessage, 0, len(pieces))
	for line := range bytes.Lines(b.Bytes()) {
		lines = append(lines, line)
	}
	if to.Done {
		return lines, "", nil
	}
	raw, err := json.Marshal(to)
	return lines, base64.RawURLEncoding.EncodeToString(raw), err
}
