package wire

import "context"

// Log is what anybody may read of the log of a tenant's ledger: what is signed, and hashes.
// The leaves name devices and operators, and are not among it.
type Log interface {
	// Key is NAME+HASH+KEY of the key that signs checkpoints (C2SP signed-note).
	Key() string
	// Note is the latest checkpoint (C2SP tlog-checkpoint).
	Note() ([]byte, error)
	// Tile is a tile of 256 hashes, or of partial ones (C2SP tlog-tiles).
	Tile(ctx context.Context, level, index uint64, partial uint8) ([]byte, error)
	// Inclusion and Consistency are the proofs of RFC 6962 §2.1.1 and §2.1.2.
	Inclusion(ctx context.Context, index, size uint64) ([][]byte, error)
	Consistency(ctx context.Context, from, to uint64) ([][]byte, error)
}
