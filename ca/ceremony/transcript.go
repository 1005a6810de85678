package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// TranscriptFile is the name of a session's transcript in its folder.
const TranscriptFile = "transcript.jsonl"

// record is one line of a transcript: compact JSON as encoding/json writes it, and a
// line feed. Previous is the SHA-256 of the line before, line feed and all, in hex.
type record struct {
	Record   int             `json:"record"` // from 1
	Time     time.Time       `json:"time"`
	Previous string          `json:"previous"`
	Event    event           `json:"event"`
	Facts    json.RawMessage `json:"facts"`
}

// event says what a record's facts are.
type event string

const (
	begun       event = "begun"       // begunFacts
	attended    event = "people"      // People
	asked       event = "parameters"  // of the session's kind
	read        event = "input"       // fileFacts
	certified   event = "certificate" // certificateFacts
	listed      event = "crl"         // crlFacts
	wrote       event = "output"      // fileFacts
	attestation event = "signature"   // signatureFacts, the last
)

// before is what the first record has for a line before it.
var before = strings.Repeat("0", 2*sha256.Size)

// transcript is the records so far.
type transcript struct {
	now      func() time.Time
	lines    bytes.Buffer
	records  int
	previous string
	last     time.Time // of the last record
}

func newTranscript(now func() time.Time) *transcript {
	return &transcript{now: now, previous: before}
}

func (t *transcript) add(e event, facts any) error {
	t.last = t.now().UTC().Truncate(time.Second)
	return t.put(e, facts)
}

func (t *transcript) put(e event, facts any) error {
	raw, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	line, err := record{
		Record: t.records + 1, Time: t.last, Previous: t.previous, Event: e, Facts: raw,
	}.line()
	if err != nil {
		return err
	}
	t.lines.Write(line)
	t.records++
	t.previous = hashOf(line)
	return nil
}

// signed adds the signature over all lines so far and returns the whole. Its record is
// under no signature itself, so nothing in it is free: its time is the last record's.
func (t *transcript) signed(algorithm, root string, sign func([]byte) ([]byte, error)) ([]byte, error) {
	signature, err := sign(t.lines.Bytes())
	if err != nil {
		return nil, err
	}
	if err := t.put(attestation, signatureFacts{Algorithm: algorithm, Root: root, Signature: signature}); err != nil {
		return nil, err
	}
	return t.lines.Bytes(), nil
}

func (r record) line() ([]byte, error) {
	raw, err := json.Marshal(r)
	return append(raw, '\n'), err
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
