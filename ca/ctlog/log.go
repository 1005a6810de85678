package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sort"
	"time"

	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/passmuster/muster/internal/fault"
)

// checkpointFile is the name C2SP tlog-tiles gives it. It is written last: what it does
// not cover is not in the log.
const checkpointFile = layout.CheckpointPath

// Log reads the log of a ledger from its folder, whoever writes it.
type Log struct {
	dir    folder
	public string
}

// OpenLog names the folder of a log and its public key; nothing is read yet.
func OpenLog(dir, public string) *Log { return &Log{folder(dir), public} }

// Key is the log's public key: NAME+HASH+KEY.
func (l *Log) Key() string { return l.public }

// Checkpoint is the latest one. Unavailable, rule "log-not-here", where the folder has
// none; Internal where it is not the log's own.
func (l *Log) Checkpoint() (Checkpoint, error) {
	text, err := l.dir.read(checkpointFile)
	if err != nil {
		return Checkpoint{}, notHere(err)
	}
	c, err := ParseCheckpoint(text, l.public)
	if err != nil {
		return Checkpoint{}, damaged("its checkpoint").Because(err)
	}
	return c, nil
}

// Written is when the latest checkpoint was.
func (l *Log) Written() (time.Time, error) {
	info, err := l.dir.stat(checkpointFile)
	if err != nil {
		return time.Time{}, notHere(err)
	}
	return info.ModTime(), nil
}

func notHere(err error) error {
	return fault.New(fault.Unavailable, "log-not-here", "The log is not on this host, or cannot be read.").Because(err)
}

func damaged(what string) *fault.Error {
	return fault.New(fault.Internal, "log-damaged", "A file of the log is not as it was written: %s.", what)
}

// Tile is a tile of hashes as C2SP tlog-tiles has it; partial 0 is a whole one. NotFound,
// rule "no-tile", for what the latest checkpoint does not cover.
func (l *Log) Tile(ctx context.Context, level, index uint64, partial uint8) ([]byte, error) {
	c, err := l.Checkpoint()
	if err != nil {
		return nil, err
	}
	width := uint64(partial)
	if partial == 0 {
		width = layout.TileWidth
	}
	if level > 63/layout.TileHeight || index > 1<<40 || index*layout.TileWidth+width > c.Size>>(layout.TileHeight*level) {
		return nil, fault.New(fault.NotFound, "no-tile", "The log has no such tile.")
	}
	data, err := l.tiles(c.Size)(ctx, level, index, partial)
	if err != nil {
		return nil, damaged(layout.TilePath(level, index, partial)).Because(err)
	}
	return data, nil
}

// tiles reads the tiles of any tree up to that of a checkpoint's size: one in between, of
// which there is no file, begins the one that the checkpoint has.
func (l *Log) tiles(size uint64) client.TileFetcherFunc {
	return func(ctx context.Context, level, index uint64, partial uint8) ([]byte, error) {
		data, err := l.dir.tile(ctx, level, index, layout.PartialTileSize(level, index, size))
		if err == nil && partial > 0 {
			if len(data) < int(partial)*sha256.Size {
				return nil, fmt.Errorf("the tile %s is too short", layout.TilePath(level, index, partial))
			}
			data = data[:int(partial)*sha256.Size]
		}
		return data, err
	}
}

// bundle reads the leaves of one bundle as a tree of size has it.
func (l *Log) bundle(index, size uint64) ([][]byte, error) {
	entries, err := ledgerBundles.read(l.dir, index, layout.PartialTileSize(0, index, size))
	for i := range entries {
		entries[i] = entries[i][2:]
	}
	return entries, err
}

// leaf reads one leaf of a tree of size.
func (l *Log) leaf(index, size uint64) ([]byte, error) {
	if index >= size {
		return nil, noLeaf()
	}
	b, err := l.bundle(index/layout.EntryBundleWidth, size)
	if err != nil {
		return nil, err
	}
	return b[index%layout.EntryBundleWidth], nil
}

func noLeaf() error {
	return fault.New(fault.NotFound, "no-leaf", "The log has no such leaf yet.")
}

// Inclusion proves that the leaf at index is in the tree of a size (RFC 6962 §2.1.1).
// NotFound, rule "no-leaf", beyond the latest checkpoint.
func (l *Log) Inclusion(ctx context.Context, index, size uint64) ([][]byte, error) {
	tiles, err := l.covers(size)
	if err != nil {
		return nil, err
	}
	if index >= size {
		return nil, noLeaf()
	}
	b, err := client.NewProofBuilder(ctx, size, tiles)
	if err != nil {
		return nil, err
	}
	proof, err := b.InclusionProof(ctx, index)
	if err != nil {
		return nil, damaged("a tile").Because(err)
	}
	return proof, nil
}

// Consistency proves that the tree of size to extends that of size from (RFC 6962 §2.1.2).
// Malformed, rule "log-size", when from is larger or 0.
func (l *Log) Consistency(ctx context.Context, from, to uint64) ([][]byte, error) {
	if from == 0 || from > to {
		return nil, fault.New(fault.Malformed, "log-size", "A proof leads from a tree with leaves to one that is as large, or larger.")
	}
	tiles, err := l.covers(to)
	if err != nil {
		return nil, err
	}
	b, err := client.NewProofBuilder(ctx, to, tiles)
	if err != nil {
		return nil, err
	}
	proof, err := b.ConsistencyProof(ctx, from, to)
	if err != nil {
		return nil, damaged("a tile").Because(err)
	}
	return proof, nil
}

// covers gives the tiles of a tree that the latest checkpoint covers.
func (l *Log) covers(size uint64) (client.TileFetcherFunc, error) {
	c, err := l.Checkpoint()
	if err == nil && size > c.Size {
		err = noLeaf()
	}
	return l.tiles(c.Size), err
}

// clocks is how far apart the times of neighbouring rows may be out of order: an event is
// stamped when its request begins, by one of several processes.
const clocks = 5 * time.Minute

// Find looks for the leaf of an event stamped at, in the tree of a size. Leaves stand in
// the order of their rows, which is nearly that of time. NotFound, rule "no-leaf".
func (l *Log) Find(ctx context.Context, size uint64, at time.Time, is func(Leaf) bool) (index uint64, data []byte, err error) {
	bundles := int((size + layout.EntryBundleWidth - 1) / layout.EntryBundleWidth)
	first := sort.Search(bundles, func(i int) bool {
		if err != nil {
			return true
		}
		var b [][]byte
		if b, err = l.bundle(uint64(i), size); err != nil {
			return true
		}
		last, parseErr := parseLeaf(b[len(b)-1])
		return parseErr != nil || !last.At.Before(at.Add(-clocks))
	})
	for i := first; i < bundles && err == nil; i++ {
		if err = ctx.Err(); err != nil {
			break
		}
		var b [][]byte
		if b, err = l.bundle(uint64(i), size); err != nil {
			break
		}
		late := true
		for n, data := range b {
			leaf, parseErr := parseLeaf(data)
			if parseErr != nil {
				continue
			}
			if is(leaf) {
				return uint64(i)*layout.EntryBundleWidth + uint64(n), bytes.Clone(data), nil
			}
			late = late && leaf.At.After(at.Add(clocks))
		}
		if late {
			break
		}
	}
	if err == nil {
		err = noLeaf()
	}
	return 0, nil, err
}

// LastSeq is the seq of the last leaf; 0 for a log without leaves.
func (l *Log) LastSeq() (int64, error) {
	c, err := l.Checkpoint()
	if err != nil || c.Size == 0 {
		return 0, err
	}
	data, err := l.leaf(c.Size-1, c.Size)
	if err != nil {
		return 0, err
	}
	last, err := parseLeaf(data)
	if err != nil {
		return 0, damaged("its last leaf").Because(err)
	}
	return last.Seq, nil
}
