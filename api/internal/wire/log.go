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

// CT is a log of a tenant's certificates (RFC 6962, C2SP static-ct-api).
type CT interface {
	// Add logs a chain and answers with the SCT as JSON.
	Add(ctx context.Context, chain [][]byte, pre bool) ([]byte, error)
	// Roots are the certificates that chains may end with, in DER.
	Roots() [][]byte
	// Public is the log's key, a SubjectPublicKeyInfo.
	Public() []byte
	Note() ([]byte, error)
	Tile(ctx context.Context, level, index uint64, partial uint8) ([]byte, error)
	// Data is a bundle of entries, whole certificates; NotFound where they are not public.
	Data(ctx context.Context, index uint64, partial uint8) ([]byte, error)
	// Issuer is a certificate above an entry, by its SHA-256 in hex.
	Issuer(fingerprint string) ([]byte, error)
}
