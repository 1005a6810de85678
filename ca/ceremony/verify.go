package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// Verdict is what a transcript says of itself, and what is wrong with it.
type Verdict struct {
	Ceremony string // "root" or "sign"
	Begun    time.Time
	People   People
	Records  int
	Files    []File
	Findings []*fault.Error // none: the transcript holds
}

// File is a file of a session, as its last record of that name says.
type File struct {
	Name   string
	What   string
	SHA256 string
	Output bool
	Secret bool // kept elsewhere: nobody misses it
}

// Verify checks a transcript with the root that its reader trusts: that every record
// follows from the one before, that the last is the root's signature over all others,
// and nothing else is there. Findings name the record. Their rules are
// "transcript-malformed", "transcript-missing-record", "transcript-changed-record",
// "transcript-not-signed", "transcript-other-root" and "transcript-signature".
func Verify(transcript []byte, root *x509.Certificate) Verdict {
	r := reader{root: root, previous: before}
	for line := range bytes.Lines(transcript) {
		r.line(line)
	}
	if !r.signed {
		r.find("transcript-not-signed", "The last record is no signature: the end is missing.")
	}
	return r.verdict
}

// reader goes through a transcript.
type reader struct {
	root     *x509.Certificate
	verdict  Verdict
	seen     []byte // the lines before the one read now
	number   int    // of the last record
	previous string // the hash of the last line
	time     time.Time
	signed   bool
}

func (r *reader) find(rule, format string, args ...any) {
	r.verdict.Findings = append(r.verdict.Findings, fault.New(fault.Malformed, rule, format, args...).About("transcript"))
}

func (r *reader) line(line []byte) {
	if r.signed {
		r.find("transcript-changed-record", "Something stands after the signature.")
		return
	}
	var rec record
	defer func() {
		r.seen = append(r.seen, line...)
		r.previous = hashOf(line)
		r.time = rec.Time
		r.verdict.Records++
	}()
	if !exactly(line, &rec) {
		r.number++
		r.find("transcript-malformed", "Record %d was changed: it does not read as a record.", r.number)
		return
	}
	r.follow(rec)
	if err := r.take(rec); err != nil {
		r.find("transcript-malformed", "Record %d was changed: its facts do not read.", r.number)
	}
}

// exactly reads a record and wants it spelled as a ceremony spells it: the last line is
// under no hash.
func exactly(line []byte, rec *record) bool {
	if err := json.Unmarshal(line, rec); err != nil {
		return false
	}
	again, err := rec.line()
	return err == nil && bytes.Equal(again, line)
}

// follow checks a record's place.
func (r *reader) follow(rec record) {
	want := r.number + 1
	switch {
	case rec.Record == want+1:
		r.find("transcript-missing-record", "Record %d is missing.", want)
	case rec.Record > want:
		r.find("transcript-missing-record", "Records %d to %d are missing.", want, rec.Record-1)
	case rec.Record < want:
		r.find("transcript-changed-record", "Record %d stands where record %d should.", rec.Record, want)
	case rec.Previous != r.previous && want == 1:
		r.find("transcript-changed-record", "Record 1 was changed: it follows another.")
	case rec.Previous != r.previous:
		r.find("transcript-changed-record", "Record %d was changed, or the link of record %d to it.", want-1, want)
	}
	r.number = max(rec.Record, want)
}

// take reads a record's facts.
func (r *reader) take(rec record) error {
	switch rec.Event {
	case begun:
		var f begunFacts
		if err := json.Unmarshal(rec.Facts, &f); err != nil {
			return err
		}
		r.verdict.Ceremony, r.verdict.Begun = f.Ceremony, rec.Time
	case attended:
		return json.Unmarshal(rec.Facts, &r.verdict.People)
	case read, wrote:
		var f fileFacts
		if err := json.Unmarshal(rec.Facts, &f); err != nil {
			return err
		}
		r.file(File{Name: f.File, What: f.What, SHA256: f.SHA256, Output: rec.Event == wrote, Secret: f.Secret})
	case attestation:
		if rec.Time != r.time { // not Equal: the same moment in another zone is another spelling
			r.find("transcript-changed-record", "Record %d was changed: a signature has the time of the record before.", rec.Record)
		}
		return r.signature(rec.Facts)
	case asked, certified, listed: // for people
	default:
		return fmt.Errorf("there is no event %q", rec.Event)
	}
	return nil
}

// file notes a file; an output takes the place of an input of the same name.
func (r *reader) file(f File) {
	for i, other := range r.verdict.Files {
		if other.Name == f.Name {
			r.verdict.Files[i] = f
			return
		}
	}
	r.verdict.Files = append(r.verdict.Files, f)
}

func (r *reader) signature(facts json.RawMessage) error {
	r.signed = true
	var f signatureFacts
	if err := json.Unmarshal(facts, &f); err != nil {
		return err
	}
	if again, err := json.Marshal(f); err != nil || !bytes.Equal(again, facts) {
		return errors.New("the signature is not spelled as a ceremony spells it")
	}
	if f.Root != hashOf(r.root.Raw) {
		r.find("transcript-other-root", "It is signed by another root, whose certificate has the SHA-256 %s.", f.Root)
		return nil
	}
	if f.Algorithm != r.root.SignatureAlgorithm.String() || ca.CheckStatement(r.root, r.seen, f.Signature) != nil {
		r.find("transcript-signature", "The signature is not the root's over these records.")
	}
	return nil
}

// CheckFiles holds files to their hashes. read answers with the bytes of a file, nil
// for one that is not there. Rules: "file-changed" and "file-missing"; inputs and what
// is kept elsewhere may be missing.
func (v *Verdict) CheckFiles(read func(name string) ([]byte, error)) error {
	for _, f := range v.Files {
		if strings.ContainsAny(f.Name, `/\`) || f.Name == "" || f.Name == "." || f.Name == ".." {
			v.Findings = append(v.Findings, fault.New(fault.Malformed, "transcript-malformed", "A file is named by a path.").About("transcript"))
			continue
		}
		data, err := read(f.Name)
		switch {
		case err != nil:
			return err
		case data == nil && f.Output && !f.Secret:
			v.Findings = append(v.Findings, fault.New(fault.NotFound, "file-missing", "The file is not there.").About(f.Name))
		case data != nil && hashOf(data) != f.SHA256:
			v.Findings = append(v.Findings, fault.New(fault.Conflict, "file-changed", "The file is not the one of the ceremony (%s).", f.What).About(f.Name))
		}
	}
	return nil
}
