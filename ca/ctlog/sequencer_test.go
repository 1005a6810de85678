package ctlog_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/internal/fault"
)

// whole holds the log to what it promises after every step: tessera's own checker reads
// all its files, the verifier compares it with the ledger, and it extends what was kept.
func (w *world) whole(kept *ctlog.Checkpoint) {
	w.Helper()
	files := client.FileFetcher{Root: w.dir}
	checker := fsck.New(origin, must(note.NewVerifier(w.key.Public())), files, func(bundle []byte) (hashes [][]byte, err error) {
		var b api.EntryBundle
		err = b.UnmarshalText(bundle)
		for _, e := range b.Entries {
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return hashes, err
	}, fsck.Opts{N: 1})
	if err := checker.Check(w.Context()); err != nil {
		w.Fatalf("tessera's fsck: %v", err)
	}
	r := w.verify(kept)
	if r.Found != 0 || r.Behind != 0 || int(r.Leaves) != w.issued {
		w.Fatalf("verified: %+v", r)
	}
	if kept != nil && kept.Size > 0 {
		now := must(w.log().Checkpoint())
		p := must(w.log().Consistency(w.Context(), kept.Size, now.Size))
		w.check(proof.VerifyConsistency(rfc6962.DefaultHasher, kept.Size, now.Size, p, kept.Root, now.Root))
	}
}

func TestTheLogGrowsAsTheLedgerDoes(t *testing.T) {
	w := newWorld(t)
	w.step()
	w.seq.Close()
	var kept *ctlog.Checkpoint
	for _, n := range []int{1, 2, 253, 1, 256, 511, 5000, 1} {
		w.issue(n)
		if n%2 == 1 {
			w.seq = nil // another process
		}
		if w.seq == nil {
			w.seq = w.sequencer()
		}
		w.step()
		w.seq.Close()
		w.whole(kept)
		c := must(w.log().Checkpoint())
		kept = &c
	}
}

func TestEveryLeafIsFoundAndProved(t *testing.T) {
	w := newWorld(t)
	w.issue(700)
	w.step()
	c := must(w.log().Checkpoint())
	for _, i := range []int{0, 1, 255, 256, 511, 512, 699} {
		want := "registration:" + w.certificate(i).RegistrationID.String()
		index, leaf, err := w.log().Find(t.Context(), c.Size, w.now, func(l ctlog.Leaf) bool { return l.Subject == want })
		if err != nil || index != uint64(i) {
			t.Fatalf("%s: leaf %d, %v", want, index, err)
		}
		p := must(w.log().Inclusion(t.Context(), index, c.Size))
		w.check(proof.VerifyInclusion(rfc6962.DefaultHasher, index, c.Size, rfc6962.DefaultHasher.HashLeaf(leaf), p, c.Root))
	}
	for name, err := range map[string]error{
		"a leaf that is not there":   errOf(w.log().Find(t.Context(), c.Size, w.now, func(ctlog.Leaf) bool { return false })),
		"a leaf beyond the tree":     second(w.log().Inclusion(t.Context(), 700, 700)),
		"a tree larger than the log": second(w.log().Inclusion(t.Context(), 1, 701)),
		"growth beyond the log":      second(w.log().Consistency(t.Context(), 5, 701)),
	} {
		if !fault.Is(err, fault.NotFound) || fault.RuleOf(err) != "no-leaf" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Sizes between two checkpoints: no files are of just those.
	hash := func(index uint64) []byte {
		tile := must(w.log().Tile(t.Context(), 0, index/256, uint8(index%256+1))) // of 256: a whole one
		return tile[index%256*32:][:32]
	}
	for _, size := range []uint64{1, 2, 10, 256, 257, 300, 512, 699} {
		span := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
		for i := range size {
			w.check(span.Append(hash(i), nil))
		}
		root := must(span.GetRootHash(nil))
		p := must(w.log().Inclusion(t.Context(), size/2, size))
		w.check(proof.VerifyInclusion(rfc6962.DefaultHasher, size/2, size, hash(size/2), p, root))
		p = must(w.log().Consistency(t.Context(), size, c.Size))
		w.check(proof.VerifyConsistency(rfc6962.DefaultHasher, size, c.Size, p, root, c.Root))
		if half := size/2 + 1; half < size {
			must(w.log().Consistency(t.Context(), half, size))
		}
	}
	if _, err := w.log().Consistency(t.Context(), 9, 5); fault.RuleOf(err) != "log-size" {
		t.Errorf("backwards: %v", err)
	}
	for _, tile := range []struct {
		level, index uint64
		partial      uint8
		there        bool
	}{{0, 0, 0, true}, {0, 1, 7, true}, {0, 2, 188, true}, {0, 2, 3, true}, {1, 0, 1, true}, {1, 0, 2, true}, {0, 2, 189, false}, {0, 2, 0, false}, {1, 0, 3, false}, {9, 0, 1, false}, {0, 1 << 60, 1, false}} {
		if _, err := w.log().Tile(t.Context(), tile.level, tile.index, tile.partial); (err == nil) != tile.there {
			t.Errorf("tile %+v: %v", tile, err)
		}
	}
}

func second[T any](_ T, err error) error        { return err }
func errOf[A, B any](_ A, _ B, err error) error { return err }

func TestACrashRepeatsNothingAndSkipsNothing(t *testing.T) {
	// Each moment at which a step may end: what it had written by then is there, what comes
	// after is not.
	moments := map[string]func(w *world, before map[string][]byte){
		"before the first file": func(w *world, before map[string][]byte) { w.restore(before, "") },
		"with the tiles and without the checkpoint": func(w *world, before map[string][]byte) {
			w.restore(before, "checkpoint")
		},
		"with a file half written beside the others": func(w *world, before map[string][]byte) {
			w.restore(before, "checkpoint")
			w.check(os.WriteFile(w.file("tile/0/000.new"), []byte("half"), 0o600))
			w.check(os.WriteFile(w.file("checkpoint.new"), []byte("half"), 0o600))
		},
		"after the checkpoint":          func(*world, map[string][]byte) {},
		"with the whole folder lost":    func(w *world, _ map[string][]byte) { w.check(os.RemoveAll(w.dir)) },
		"with an older folder put back": func(w *world, before map[string][]byte) { w.restore(before, "") },
	}
	for name, crash := range moments {
		for _, n := range []int{3, 300} {
			t.Run(fmt.Sprintf("%s, %d rows", name, n), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.issue(250)
				w.step()
				kept := must(w.log().Checkpoint())
				before := w.files()
				w.issue(n)
				w.step()
				published := must(w.log().Checkpoint())
				w.seq.Close()
				crash(w, before)
				w.seq = w.sequencer()
				w.step()
				w.whole(&kept)
				w.issue(300)
				w.step()
				w.whole(&published)
			})
		}
	}
}

func (w *world) files() map[string][]byte {
	all := map[string][]byte{}
	w.check(filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all[path] = must(os.ReadFile(path))
		}
		return err
	}))
	return all
}

// restore puts the folder, or one file of it, back to what it was.
func (w *world) restore(before map[string][]byte, only string) {
	if only != "" {
		w.check(os.WriteFile(w.file(only), before[w.file(only)], 0o600))
		return
	}
	w.check(os.RemoveAll(w.dir))
	for path, data := range before {
		w.check(os.MkdirAll(filepath.Dir(path), 0o700))
		w.check(os.WriteFile(path, data, 0o600))
	}
}

func TestAFolderThatCannotBeWrittenStopsNothingElse(t *testing.T) {
	w := newWorld(t)
	w.issue(10)
	// A file stands where the folder should be, as a full or lost disk would refuse it.
	w.check(os.WriteFile(w.dir, nil, 0o600))
	if _, err := w.seq.Step(t.Context()); err == nil {
		t.Fatal("it was written")
	}
	w.issue(10)
	_, _ = w.seq.Step(t.Context())
	if s := w.seq.Status(); s.Behind != 20 || s.Problem == "" || s.ProblemFrom.IsZero() {
		t.Fatalf("%+v", s)
	}
	if _, err := w.log().Checkpoint(); fault.RuleOf(err) != "log-not-here" {
		t.Fatal(err)
	}
	w.check(os.Remove(w.dir))
	w.step()
	if s := w.seq.Status(); s.Behind != 0 || s.Problem != "" || s.Size != 20 {
		t.Fatalf("%+v", s)
	}
	// It goes away while at work.
	w.issue(300)
	w.check(os.Rename(w.dir, w.dir+"-away"))
	w.check(os.WriteFile(w.dir, nil, 0o600))
	if _, err := w.seq.Step(t.Context()); err == nil {
		t.Fatal("it was written")
	}
	w.check(os.Remove(w.dir))
	w.check(os.Rename(w.dir+"-away", w.dir))
	w.step()
	w.whole(nil)
}

func TestALogTellsNoSecondStory(t *testing.T) {
	tests := map[string]func(*world){
		"the database was put back to an earlier time": func(w *world) { w.byHand("DELETE FROM ledger WHERE seq > 90") },
		"it was put back, and went on": func(w *world) {
			w.byHand("DELETE FROM ledger WHERE seq > 90")
			w.byHand("DELETE FROM certificates WHERE position > 90")
			w.issued = 1000
			w.issue(50)
		},
		"the last row was changed": func(w *world) { w.byHand("UPDATE ledger SET actor = 'x' WHERE seq = 100") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.issue(100)
			w.step()
			before := must(w.log().Checkpoint())
			change(w)
			if _, err := w.seq.Step(t.Context()); !errors.Is(err, ctlog.ErrLedgerBehind) {
				t.Fatal(err)
			}
			if after := must(w.log().Checkpoint()); !bytes.Equal(before.Note, after.Note) {
				t.Fatal("the log went on")
			}
		})
	}
}

func TestADamagedFolderIsNotBuiltUpon(t *testing.T) {
	for _, name := range []string{"checkpoint", "tile/0/000.p/100"} {
		w := newWorld(t)
		w.issue(100)
		w.step()
		w.seq.Close()
		w.edit(name, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		w.seq = w.sequencer()
		w.issue(1)
		if _, err := w.seq.Step(t.Context()); fault.RuleOf(err) != "log-damaged" {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestTwoProcessesDoNotWriteOneLog(t *testing.T) {
	w := newWorld(t)
	w.issue(1)
	w.step()
	other := w.sequencer()
	if _, err := other.Step(t.Context()); err == nil {
		t.Fatal("the folder has two writers")
	}
	w.seq.Close()
	if _, err := other.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.Close()
}

func TestTheTreeFollowsFromTheLedgerAlone(t *testing.T) {
	w := newWorld(t)
	for range 7 {
		w.issue(111)
		w.step()
	}
	w.seq.Close()
	step := must(w.log().Checkpoint())
	w.check(os.RemoveAll(w.dir))
	w.seq = w.sequencer()
	w.step()
	if again := must(w.log().Checkpoint()); !bytes.Equal(again.Note, step.Note) || len(again.Root) != sha256.Size {
		t.Fatalf("made anew it says %s, and said %s", again.Note, step.Note)
	}
}
