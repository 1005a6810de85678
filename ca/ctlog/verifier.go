package ctlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/passmuster/muster/internal/audit"
)

// Kind is the stable word of a finding.
type Kind string

// What a Verifier finds.
const (
	BadSignature         Kind = "checkpoint-signature"   // the checkpoint is not signed by the log's key
	TreeDiffers          Kind = "tree-differs"           // the leaves do not hash to the checkpoint's root
	LeafChanged          Kind = "leaf-changed"           // the leaf on disk is not the one in the tree
	RowChanged           Kind = "row-changed"            // the ledger row is not the one that was logged
	RowMissing           Kind = "row-missing"            // the log tells of a row that the ledger does not have
	RowNotLogged         Kind = "row-not-logged"         // a row among logged ones that the log does not tell of
	CertificateNotLogged Kind = "certificate-not-logged" // in the inventory, its issuing is not in the log
	CertificateMissing   Kind = "certificate-missing"    // the log tells of its issuing, the inventory does not have it
	CertificateChanged   Kind = "certificate-changed"    // the inventory has other bytes than were logged
	RolledBack           Kind = "log-rolled-back"        // the log is shorter than the checkpoint that was kept
	Forked               Kind = "log-forked"             // the log does not extend the checkpoint that was kept
)

// Finding is one thing that is not as the log says it was.
type Finding struct {
	Kind   Kind
	Object string // "ledger row 17", "certificate 0123…/00ff…", "checkpoint"
	Detail string
}

// Report is what came of a verification.
type Report struct {
	Checkpoint   Checkpoint // zero when it is not signed by the log's key
	Leaves       uint64
	Certificates int
	// Behind counts rows that have no leaf yet; Oldest is the time of the first.
	Behind int
	Oldest time.Time
	// Findings are at most 1000 of Found.
	Findings []Finding
	Found    int
}

// maxFindings ends the list for a ledger that is changed throughout.
const maxFindings = 1000

// Verifier compares the ledger and the inventory with the log, from evidence alone: it
// computes every leaf and the root itself and trusts the log's key, and a checkpoint that
// somebody else kept. Its memory grows with what differs, not with the log.
type Verifier struct {
	public string
	kept   *Checkpoint
	report Report

	signed bool
	root   []byte // of the checkpoint
	size   uint64
	span   *compact.Range

	// What only one side has told of so far, by issuer and serial.
	listed, issued map[string]told
}

type told struct {
	sha256 string
	recent bool
}

// NewVerifier makes a Verifier that trusts a log's public key. kept is an earlier
// checkpoint of the log that a second party kept; nil for none.
func NewVerifier(public string, kept *Checkpoint) *Verifier {
	return &Verifier{public: public, kept: kept, span: ranges.NewEmptyRange(0), listed: map[string]told{}, issued: map[string]told{}}
}

func (v *Verifier) find(k Kind, object, format string, args ...any) {
	if v.report.Found++; len(v.report.Findings) < maxFindings {
		v.report.Findings = append(v.report.Findings, Finding{k, object, fmt.Sprintf(format, args...)})
	}
}

// Add looks at the next piece of evidence.
func (v *Verifier) Add(e Evidence) {
	switch {
	case e.Checkpoint != nil:
		v.checkpoint(e.Checkpoint)
	case e.Certificate != nil:
		v.certificate(*e.Certificate)
	case e.LeafHash != nil:
		v.leaf(e)
	case e.Row != nil && v.span.End() < v.size:
		v.find(RowNotLogged, row(e.Row.Seq), "it was put among rows that had been logged without it: %s", about(*e.Row))
	case e.Row != nil:
		v.late(*e.Row)
	}
}

func (v *Verifier) checkpoint(note []byte) {
	c, err := ParseCheckpoint(note, v.public)
	if err != nil {
		v.find(BadSignature, "checkpoint", "it is not signed by the key %s", v.public)
		return
	}
	v.signed, v.report.Checkpoint, v.size, v.root = true, c, c.Size, c.Root
	if v.kept != nil && v.kept.Size > c.Size {
		v.find(RolledBack, "checkpoint", "the log has %d leaves, and had %d when the checkpoint was kept", c.Size, v.kept.Size)
	}
	v.extends()
}

// extends compares the tree so far with the kept checkpoint's.
func (v *Verifier) extends() {
	if v.kept == nil || v.kept.Size != v.span.End() {
		return
	}
	if root, err := v.treeRoot(); err != nil || !bytes.Equal(root, v.kept.Root) {
		v.find(Forked, "checkpoint", "the first %d leaves are not those of the checkpoint that was kept", v.kept.Size)
	}
}

func (v *Verifier) treeRoot() ([]byte, error) {
	if v.span.End() == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	return v.span.GetRootHash(nil)
}

// late counts a row that waits for its leaf.
func (v *Verifier) late(e audit.Entry) {
	if v.report.Behind++; v.report.Behind == 1 {
		v.report.Oldest = e.At
	}
	v.tells(e)
}

func row(seq int64) string { return fmt.Sprintf("ledger row %d", seq) }

func about(e audit.Entry) string {
	return fmt.Sprintf("%s of %s by %s at %s", e.Action, e.Subject, e.Actor, e.At.Format(time.RFC3339))
}

// leaf appends a leaf to the tree and compares it with its row.
func (v *Verifier) leaf(e Evidence) {
	index := v.span.End()
	if err := v.span.Append(e.LeafHash, nil); err != nil {
		v.find(TreeDiffers, fmt.Sprintf("leaf %d", index), "it cannot be appended: %v", err)
		return
	}
	v.report.Leaves++
	defer v.extends()

	var logged Leaf
	whole := false
	if e.Leaf != nil {
		if !bytes.Equal(hashLeaf(e.Leaf), e.LeafHash) {
			v.find(LeafChanged, fmt.Sprintf("leaf %d", index), "what lies in the log's folder is not what its tree was made of")
		} else if l, err := parseLeaf(e.Leaf); err == nil {
			logged, whole = l, true
		}
	}
	if e.Row == nil {
		if whole {
			v.find(RowMissing, row(logged.Seq), "the log has it: %s", about(logged.Entry))
			v.tells(logged.Entry)
		} else {
			v.find(RowMissing, fmt.Sprintf("leaf %d", index), "no row of the ledger stands for it")
		}
		return
	}
	mine, err := encodeLeaf(*e.Row)
	if err == nil && (bytes.Equal(hashLeaf(mine), e.LeafHash) || bytes.Equal(mine, e.Leaf)) {
		v.tells(*e.Row)
		return
	}
	if !whole {
		v.find(RowChanged, row(e.Row.Seq), "it is not what was logged; it now says %s", about(*e.Row))
		v.tells(*e.Row)
		return
	}
	v.find(RowChanged, row(e.Row.Seq), "logged was %s; it now says %s%s", about(logged.Entry), about(*e.Row), inBody(logged, *e.Row))
	v.tells(logged.Entry)
}

func inBody(was Leaf, is audit.Entry) string {
	if was.BodyHash == [sha256.Size]byte{} && !bytes.Equal(was.Body, is.Body) || was.BodyHash != [sha256.Size]byte{} && was.BodyHash != sha256.Sum256(is.Body) {
		return ", with other facts"
	}
	return ""
}

// tells notes an issuing that is on record.
func (v *Verifier) tells(e audit.Entry) {
	if e.Action != audit.Issued {
		return
	}
	facts, is := issuingOf(e)
	if !is {
		v.find(CertificateMissing, row(e.Seq), "it tells of an issuing and does not say of which certificate")
		return
	}
	match(v, v.issued, v.listed, facts.Issuer+"/"+facts.Serial, told{sha256: facts.SHA256})
}

func (v *Verifier) certificate(c Listed) {
	v.report.Certificates++
	match(v, v.listed, v.issued, string(c.Issuer)+"/"+string(c.Serial), told{hex.EncodeToString(c.SHA256[:]), c.Recent})
}

// match strikes out what both sides tell of.
func match(v *Verifier, mine, theirs map[string]told, name string, t told) {
	other, is := theirs[name]
	if !is {
		mine[name] = t
		return
	}
	delete(theirs, name)
	if other.sha256 != t.sha256 {
		v.find(CertificateChanged, "certificate "+name, "the inventory and the log have different bytes for it")
	}
}

// Report ends the verification.
func (v *Verifier) Report() Report {
	if root, err := v.treeRoot(); v.signed && (err != nil || v.span.End() != v.size || !bytes.Equal(root, v.root)) {
		v.find(TreeDiffers, "checkpoint", "%d leaves hash to another root than the checkpoint of %d has", v.span.End(), v.size)
	}
	for _, name := range slices.Sorted(maps.Keys(v.issued)) {
		v.find(CertificateMissing, "certificate "+name, "the log tells of its issuing and the inventory does not have it")
	}
	for _, name := range slices.Sorted(maps.Keys(v.listed)) {
		if !v.listed[name].recent {
			v.find(CertificateNotLogged, "certificate "+name, "the inventory has it and no leaf tells of its issuing")
		}
	}
	v.issued, v.listed = map[string]told{}, map[string]told{}
	return v.report
}
