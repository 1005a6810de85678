package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
)

// Evidence is one piece of what a Verifier compares: exactly one of a checkpoint, a row
// and its leaf (either may be missing), or a certificate. Pieces come in this order: the
// checkpoint, then rows and leaves as they stand, with certificates anywhere between.
type Evidence struct {
	Checkpoint []byte // the signed note, as the log has it

	Row *audit.Entry
	// LeafHash is the hash of the leaf in the tree; nil for a row that has none.
	LeafHash []byte
	// Leaf is the leaf itself as its folder has it; nil where the encoding of Row hashes to LeafHash.
	Leaf []byte

	Certificate *Listed
}

// Listed is a certificate of the inventory.
type Listed struct {
	Issuer ca.IssuerID
	Serial ca.Serial
	SHA256 [sha256.Size]byte // of its bytes as they stand there
	// Recent is one that may have been issued after the last row of the evidence.
	Recent bool
}

// Inventory is what the log is compared with. See [Ledger] for its promises.
type Inventory interface {
	Ledger
	// LastPosition is a position up to which the certificates are settled.
	LastPosition(ctx context.Context) (int64, error)
	// Certificates lists those with position > after, oldest first, at most limit.
	Certificates(ctx context.Context, after int64, limit int) ([]ca.Certificate, error)
}

// Cursor is a place in the evidence; the zero one is its beginning.
type Cursor struct {
	Size          uint64 // of the tree
	Horizon, Seq  int64
	Leaf          uint64
	Settled, Cert int64 // positions
	Begun, Done   bool
}

const (
	pageLeaves = 8 * layout.EntryBundleWidth
	pageRows   = pageLeaves
)

// Page collects a page of evidence. It reads and decides nothing; the memory it takes
// does not grow with the log.
func Page(ctx context.Context, inv Inventory, log *Log, at Cursor) (page []Evidence, next Cursor, err error) {
	if at.Done {
		return nil, at, nil
	}
	if !at.Begun {
		// What the checkpoint covers is below the horizon, and so are the rows of the settled
		// certificates.
		note, size, err := log.unverified()
		if err != nil {
			return nil, at, err
		}
		at.Size, at.Begun, at.Seq = size, true, math.MinInt64
		if at.Settled, err = inv.LastPosition(ctx); err != nil {
			return nil, at, err
		}
		if at.Horizon, err = inv.Horizon(ctx); err != nil {
			return nil, at, err
		}
		page = append(page, Evidence{Checkpoint: note})
	}
	p := pager{log: log, inv: inv, Cursor: at, page: page}
	if err := p.rows(ctx); err != nil {
		return nil, at, err
	}
	if err := p.certificates(ctx); err != nil {
		return nil, at, err
	}
	return p.page, p.Cursor, nil
}

type pager struct {
	Cursor
	log  *Log
	inv  Inventory
	page []Evidence
}

// logged is a leaf as its folder has it.
type logged struct {
	data, hash []byte
	seq        int64
}

// rows merges a page of rows with a page of leaves by their seq.
func (p *pager) rows(ctx context.Context) error {
	rows, err := p.inv.Rows(ctx, p.Seq, p.Horizon, pageRows)
	if err != nil {
		return err
	}
	leaves, err := p.leaves(ctx)
	if err != nil {
		return err
	}
	allRows, allLeaves := len(rows) < pageRows, p.Leaf+uint64(len(leaves)) == p.Size
	for {
		switch {
		case len(rows) > 0 && len(leaves) > 0:
			r, l := rows[0], leaves[0]
			switch {
			case r.Seq == l.seq:
				p.page = append(p.page, both(r, l))
				rows, leaves = rows[1:], leaves[1:]
				p.Seq, p.Leaf = r.Seq, p.Leaf+1
			case r.Seq < l.seq:
				p.page, rows, p.Seq = append(p.page, Evidence{Row: &r}), rows[1:], r.Seq
			default:
				p.page, leaves, p.Leaf = append(p.page, Evidence{LeafHash: l.hash, Leaf: l.data}), leaves[1:], p.Leaf+1
			}
		case len(rows) > 0 && allLeaves:
			p.page, p.Seq = append(p.page, Evidence{Row: &rows[0]}), rows[0].Seq
			rows = rows[1:]
		case len(leaves) > 0 && allRows:
			p.page, p.Leaf = append(p.page, Evidence{LeafHash: leaves[0].hash, Leaf: leaves[0].data}), p.Leaf+1
			leaves = leaves[1:]
		default:
			p.Done = allRows && allLeaves && len(rows) == 0 && len(leaves) == 0
			return nil
		}
	}
}

func both(r audit.Entry, l logged) Evidence {
	e := Evidence{Row: &r, LeafHash: l.hash}
	if again, err := encodeLeaf(r); err != nil || !bytes.Equal(again, l.data) || !bytes.Equal(hashLeaf(again), l.hash) {
		e.Leaf = l.data
	}
	return e
}

// leaves reads up to a page of leaves with their hashes in the tree.
func (p *pager) leaves(ctx context.Context) (all []logged, err error) {
	for at := p.Leaf; at < p.Size && len(all)+layout.EntryBundleWidth <= pageLeaves; {
		index := at / layout.EntryBundleWidth
		data, err := p.log.bundle(index, p.Size)
		if err != nil {
			return nil, err
		}
		hashes, err := p.log.dir.tile(ctx, 0, index, layout.PartialTileSize(0, index, p.Size))
		if err != nil {
			return nil, damaged(layout.TilePath(0, index, 0)).Because(err)
		}
		for n := at % layout.EntryBundleWidth; n < uint64(len(data)); n++ {
			l := logged{data: data[n], hash: hashes[n*sha256.Size : (n+1)*sha256.Size]}
			if parsed, err := parseLeaf(l.data); err == nil {
				l.seq = parsed.Seq
			}
			all = append(all, l)
			at++
		}
	}
	return all, nil
}

// certificates adds a page of certificates, so that they keep up with the rows.
func (p *pager) certificates(ctx context.Context) error {
	certs, err := p.inv.Certificates(ctx, p.Cert, pageRows)
	if err != nil {
		return err
	}
	for _, c := range certs {
		p.page = append(p.page, Evidence{Certificate: &Listed{Issuer: c.Issuer, Serial: c.Serial, SHA256: sha256.Sum256(c.DER), Recent: c.Position > p.Settled}})
		p.Cert = c.Position
	}
	p.Done = p.Done && len(certs) < pageRows
	return nil
}

// unverified is the checkpoint as it lies there: whether it is signed is for a Verifier
// to say.
func (l *Log) unverified() (note []byte, size uint64, err error) {
	if note, err = l.dir.read(checkpointFile); err != nil {
		return nil, 0, notHere(err)
	}
	var origin, root string
	if _, err := fmt.Sscanf(string(note), "%s\n%d\n%s\n", &origin, &size, &root); err != nil {
		return nil, 0, damaged("its checkpoint").Because(err)
	}
	return note, size, nil
}
