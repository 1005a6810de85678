package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
)

// tree is a Merkle tree being appended to (RFC 6962 §2.1), kept in tiles of 256 hashes and
// bundles of 256 entries. What it holds in memory is its right edge.
type tree struct {
	dir     folder
	bundles bundles

	size   uint64
	nodes  [][]byte          // of the compact range from 0 to size
	edge   map[uint64][]byte // the hashes of the last, unfinished tile of a level
	bundle []byte            // the last, unfinished bundle

	// finished are files whose unfinished versions nobody needs any more once a checkpoint
	// covers them.
	finished []string
}

// bundles is where entries lie, and how one ends.
type bundles struct {
	path func(index uint64, partial uint8) string
	// entry is the length of the first entry of what is left of a bundle.
	entry func(rest []byte) (int, error)
}

// ledgerBundles are those of C2SP tlog-tiles: each entry behind its length in two bytes.
var ledgerBundles = bundles{path: layout.EntriesPath, entry: func(rest []byte) (int, error) {
	if len(rest) < 2 {
		return 0, io.ErrUnexpectedEOF
	}
	return 2 + int(binary.BigEndian.Uint16(rest)), nil
}}

// read returns the entries of a bundle as they stand there; of an unfinished one also
// from the finished.
func (b bundles) read(f folder, index uint64, partial uint8) ([][]byte, error) {
	rest, err := f.read(b.path(index, partial))
	if errors.Is(err, fs.ErrNotExist) && partial > 0 {
		rest, err = f.read(b.path(index, 0))
	}
	width := int(partial)
	if partial == 0 {
		width = layout.EntryBundleWidth
	}
	all := make([][]byte, 0, width)
	for err == nil && len(all) < width {
		var n int
		if n, err = b.entry(rest); err == nil && n > len(rest) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			all, rest = append(all, rest[:n]), rest[n:]
		}
	}
	if err != nil {
		return nil, damaged(b.path(index, partial)).Because(err)
	}
	return all, nil
}

// entry is a leaf that is to be appended: as a bundle has it, and its hash.
type entry struct {
	data []byte
	hash []byte
}

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// openTree reads the edge of a tree of a known size, and checks it against its root.
func openTree(ctx context.Context, dir folder, b bundles, size uint64, root []byte) (*tree, error) {
	t := &tree{dir: dir, bundles: b, size: size, edge: map[uint64][]byte{}}
	if size == 0 {
		return t, nil
	}
	var err error
	if t.nodes, err = client.FetchRangeNodes(ctx, size, dir.tile); err != nil {
		return nil, fmt.Errorf("reading the tree: %w", err)
	}
	if got, err := t.root(); err != nil || !bytes.Equal(got, root) {
		return nil, fmt.Errorf("the tiles in %s are not those of its checkpoint", dir)
	}
	for level := uint64(0); size>>(layout.TileHeight*level) > 0; level++ {
		index := size >> (layout.TileHeight * level) / layout.TileWidth
		partial := layout.PartialTileSize(level, index, size)
		if partial == 0 {
			continue
		}
		if t.edge[level], err = dir.tile(ctx, level, index, partial); err != nil {
			return nil, err
		}
	}
	if partial := uint8(size % layout.EntryBundleWidth); partial > 0 {
		entries, err := b.read(dir, size/layout.EntryBundleWidth, partial)
		if err != nil {
			return nil, err
		}
		t.bundle = bytes.Join(entries, nil)
	}
	return t, nil
}

// tile reads the hashes of a tile; of an unfinished one also from the finished.
func (f folder) tile(_ context.Context, level, index uint64, partial uint8) ([]byte, error) {
	width := int(partial)
	if partial == 0 {
		width = layout.TileWidth
	}
	data, err := f.read(layout.TilePath(level, index, partial))
	if err != nil && partial > 0 {
		if whole, wholeErr := f.read(layout.TilePath(level, index, 0)); wholeErr == nil {
			data, err = whole, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if len(data) < width*sha256.Size {
		return nil, fmt.Errorf("the tile %s is too short", layout.TilePath(level, index, partial))
	}
	return data[:width*sha256.Size], nil
}

// grow appends entries. When it fails the tree is as it was, and what lies in its folder
// beyond its size means nothing.
func (t *tree) grow(added []entry) error {
	next := tree{dir: t.dir, bundles: t.bundles, size: t.size, edge: map[uint64][]byte{}, bundle: slices.Clone(t.bundle), finished: t.finished}
	for level, hashes := range t.edge {
		next.edge[level] = slices.Clone(hashes)
	}
	span, err := ranges.NewRange(0, t.size, slices.Clone(t.nodes))
	if err != nil {
		return fmt.Errorf("internal error: the edge of a tree: %w", err)
	}
	var files []file
	touched := map[uint64]bool{}
	visit := func(id compact.NodeID, hash []byte) {
		if id.Level%layout.TileHeight != 0 {
			return
		}
		level := uint64(id.Level / layout.TileHeight)
		next.edge[level] = append(next.edge[level], hash...)
		touched[level] = true
		if len(next.edge[level]) == layout.TileWidth*sha256.Size {
			name := layout.TilePath(level, id.Index/layout.TileWidth, 0)
			files, next.finished = append(files, file{name, next.edge[level]}), append(next.finished, name)
			next.edge[level], touched[level] = nil, false
		}
	}
	for _, e := range added {
		next.bundle = append(next.bundle, e.data...)
		if err := span.Append(e.hash, visit); err != nil {
			return fmt.Errorf("internal error: appending to a tree: %w", err)
		}
		if next.size++; next.size%layout.EntryBundleWidth == 0 {
			name := t.bundles.path(next.size/layout.EntryBundleWidth-1, 0)
			files, next.finished = append(files, file{name, next.bundle}), append(next.finished, name)
			next.bundle = nil
		}
	}
	for level := range touched {
		if !touched[level] {
			continue
		}
		index := next.size >> (layout.TileHeight * level) / layout.TileWidth
		files = append(files, file{layout.TilePath(level, index, layout.PartialTileSize(level, index, next.size)), next.edge[level]})
	}
	if partial := uint8(next.size % layout.EntryBundleWidth); partial > 0 {
		files = append(files, file{t.bundles.path(next.size/layout.EntryBundleWidth, partial), next.bundle})
	}
	if err := t.dir.write(files...); err != nil {
		return err
	}
	next.nodes = span.Hashes()
	*t = next
	return nil
}

// tidy removes what the checkpoint that was just published made superfluous.
func (t *tree) tidy() {
	for _, name := range t.finished {
		_ = os.RemoveAll(t.dir.path(name + ".p")) // readers fall back to the finished one
	}
	t.finished = nil
}

// root is the hash of the tree.
func (t *tree) root() ([]byte, error) {
	if t.size == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	span, err := ranges.NewRange(0, t.size, slices.Clone(t.nodes))
	if err != nil {
		return nil, err
	}
	return span.GetRootHash(nil)
}
