package ctlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/passmuster/muster/internal/audit"
)

// Ledger is what a Sequencer reads. Rows are in the order of their seq.
type Ledger interface {
	// Horizon is a seq up to which the ledger is settled: every row at or below it that
	// will ever be, can be read now. It waits for writers at work, and holds nobody up.
	Horizon(ctx context.Context) (int64, error)
	// Rows lists rows with after < seq ≤ upTo, at most limit.
	Rows(ctx context.Context, after, upTo int64, limit int) ([]audit.Entry, error)
}

// Sequencer is the one writer of a ledger's log. Where the log stands is what its folder
// says, never a note of its own: a crash at any moment repeats nothing and leaves nothing
// out.
type Sequencer struct {
	log    *Log
	ledger Ledger
	key    Key
	now    func() time.Time

	// Of the goroutine that calls Step. tree is nil until its folder is open, and again
	// after every failure: what is on disk then decides anew.
	tree      *tree
	lock      *os.File
	last      int64  // seq of the last leaf; 0: none
	lastLeaf  []byte // that leaf
	published bool   // the checkpoint on disk is of this tree

	mu     sync.Mutex
	status Status
}

// Status is how the log does, for those who watch.
type Status struct {
	Size        uint64
	Behind      int64     // rows that are settled and not in the log yet, at most
	Checkpoint  time.Time // when the latest checkpoint was written; zero: not since the start
	Problem     string    // why it does not go on; "" if it does
	ProblemFrom time.Time
}

// NewSequencer makes the writer of a log; nothing is opened until the first Step.
func NewSequencer(dir string, key Key, ledger Ledger, now func() time.Time) *Sequencer {
	return &Sequencer{log: OpenLog(dir, key.Public()), ledger: ledger, key: key, now: now}
}

// Log reads what the Sequencer writes.
func (s *Sequencer) Log() *Log { return s.log }

// Status is as of the last Step.
func (s *Sequencer) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// batch bounds what one Step appends, and so the memory it takes.
const batch = 16 * layout.EntryBundleWidth

// Step appends the next settled rows under a new checkpoint, and says whether more wait.
// After an error it may be called again: the log is as its checkpoint says.
func (s *Sequencer) Step(ctx context.Context) (more bool, err error) {
	behind := int64(0)
	defer func() {
		if err != nil {
			s.Close()
		}
		s.note(behind, err)
	}()
	horizon, err := s.ledger.Horizon(ctx)
	if err != nil {
		return false, err
	}
	if s.tree == nil {
		if err := s.open(ctx); err != nil {
			behind = horizon - s.last
			return false, err
		}
	}
	behind = max(0, horizon-s.last)
	added, err := s.read(ctx, horizon)
	if err != nil {
		return false, err
	}
	if err := s.append(added); err != nil {
		return false, err
	}
	if len(added) > 0 {
		behind = max(0, horizon-s.last)
	}
	if more = len(added) == batch; !more {
		behind = 0
	}
	return more, nil
}

// open takes the folder and finds where the log stands in it.
func (s *Sequencer) open(ctx context.Context) (err error) {
	dir := s.log.dir
	if s.lock, err = dir.lock(); err != nil {
		return err
	}
	if _, err := dir.stat(checkpointFile); errors.Is(err, os.ErrNotExist) {
		s.tree, err = openTree(ctx, dir, ledgerBundles, 0, nil)
		s.last, s.lastLeaf, s.published = 0, nil, false
		return err
	}
	c, err := s.log.Checkpoint()
	if err != nil {
		return err
	}
	if s.tree, err = openTree(ctx, dir, ledgerBundles, c.Size, c.Root); err != nil {
		return damaged("a tile").Because(err)
	}
	s.last, s.lastLeaf, s.published = 0, nil, true
	if c.Size == 0 {
		return nil
	}
	if s.lastLeaf, err = s.log.leaf(c.Size-1, c.Size); err != nil {
		return err
	}
	l, err := parseLeaf(s.lastLeaf)
	if err != nil {
		return damaged("its last leaf").Because(err)
	}
	s.last = l.Seq
	return nil
}

// ErrLedgerBehind is a ledger that no longer has what the log says it had: the database
// was put back to an earlier time, or its last row was changed. Nothing is appended to
// such a log, as it would tell two stories.
var ErrLedgerBehind = errors.New("the ledger does not have the last row of the log as it was logged; was the database restored? muster audit verify says more")

// read fetches the rows behind the last leaf. The row of that leaf comes with them and
// must be as it was.
func (s *Sequencer) read(ctx context.Context, horizon int64) ([]audit.Entry, error) {
	rows, err := s.ledger.Rows(ctx, max(0, s.last-1), max(horizon, s.last), batch+1)
	if err != nil {
		return nil, err
	}
	if s.last == 0 {
		return rows[:min(len(rows), batch)], nil
	}
	if len(rows) == 0 || rows[0].Seq != s.last {
		return nil, ErrLedgerBehind
	}
	if again, err := encodeLeaf(rows[0]); err != nil || !bytes.Equal(again, s.lastLeaf) {
		return nil, errors.Join(ErrLedgerBehind, err)
	}
	return rows[1:], nil
}

// append grows the tree, then publishes it: the checkpoint is what makes the leaves count.
func (s *Sequencer) append(rows []audit.Entry) error {
	if len(rows) == 0 && s.published {
		return nil
	}
	added := make([]entry, len(rows))
	var leaf []byte
	for i, row := range rows {
		var err error
		if leaf, err = encodeLeaf(row); err != nil {
			return fmt.Errorf("ledger row %d: %w", row.Seq, err)
		}
		added[i] = entry{append(binary.BigEndian.AppendUint16(make([]byte, 0, len(leaf)+2), uint16(len(leaf))), leaf...), hashLeaf(leaf)}
	}
	if err := s.tree.grow(added); err != nil {
		return err
	}
	root, err := s.tree.root()
	if err != nil {
		return err
	}
	c, err := sign(s.key, s.tree.size, root)
	if err != nil {
		return fmt.Errorf("signing a checkpoint: %w", err)
	}
	if err := s.log.dir.write(file{checkpointFile, c.Note}); err != nil {
		return err
	}
	s.published = true
	s.tree.tidy()
	if len(rows) > 0 {
		s.last, s.lastLeaf = rows[len(rows)-1].Seq, leaf
	}
	s.mu.Lock()
	s.status.Checkpoint = s.now()
	s.mu.Unlock()
	return nil
}

// Close lets go of the folder; a Step takes it again.
func (s *Sequencer) Close() {
	s.tree = nil
	if s.lock != nil {
		_ = s.lock.Close() // lets go of the lock in any case
		s.lock = nil
	}
}

func (s *Sequencer) note(behind int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Behind = behind
	if s.tree != nil {
		s.status.Size = s.tree.size
	}
	switch {
	case err == nil:
		s.status.Problem, s.status.ProblemFrom = "", time.Time{}
	case s.status.Problem == "":
		s.status.Problem, s.status.ProblemFrom = err.Error(), s.now()
	default:
		s.status.Problem = err.Error()
	}
}

const (
	every   = time.Second      // how long a row waits for its place at most, when all is well
	patient = 30 * time.Second // between tries while the log cannot be written
)

// Run keeps the log up with the ledger until ctx ends. A log that cannot be written is
// tried again for ever, and stops nothing else.
func (s *Sequencer) Run(ctx context.Context, log *slog.Logger) {
	defer s.Close()
	wait := every
	for {
		more, err := s.Step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if wait == every || wait == patient {
				log.Error("the log of issuance is not written", "origin", s.key.origin, "behind", s.Status().Behind, "problem", err)
			}
			wait = min(2*wait, patient)
		default:
			wait = every
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
