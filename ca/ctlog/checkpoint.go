package ctlog

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/passmuster/muster/internal/fault"
)

// Checkpoint is the size and root of a tree that its log has signed (C2SP
// tlog-checkpoint). It carries no time: who keeps one knows when he got it.
type Checkpoint struct {
	Origin string // the name of the log
	Size   uint64
	Root   []byte
	Note   []byte // as signed: what a second party keeps
}

// Key is what signs the checkpoints of a log, and is at the same time its name.
type Key struct {
	origin string
	signer crypto.Signer
}

// algEd25519 is the signature type of C2SP signed-note.
const algEd25519 = 1

// NewKey makes the key of a log called origin (a host name and a path, without blanks or
// pluses) of an Ed25519 signer.
func NewKey(origin string, signer crypto.Signer) (Key, error) {
	k := Key{origin, signer}
	if _, ok := signer.Public().(ed25519.PublicKey); !ok {
		return Key{}, fault.New(fault.Malformed, "log-key", "Checkpoints are signed with an Ed25519 key.")
	}
	if _, err := note.NewVerifier(k.Public()); err != nil {
		return Key{}, fault.New(fault.Malformed, "log-key", "%q cannot be the name of a log.", origin).Because(err)
	}
	return k, nil
}

// Public is the verifier key as tools for signed notes take it: NAME+HASH+KEY.
func (k Key) Public() string {
	public := append([]byte{algEd25519}, k.signer.Public().(ed25519.PublicKey)...)
	return fmt.Sprintf("%s+%08x+%s", k.origin, k.KeyHash(), base64.StdEncoding.EncodeToString(public))
}

// Name implements note.Signer.
func (k Key) Name() string { return k.origin }

// KeyHash implements note.Signer.
func (k Key) KeyHash() uint32 {
	h := sha256.New()
	h.Write([]byte(k.origin + "\n"))
	h.Write([]byte{algEd25519})
	h.Write(k.signer.Public().(ed25519.PublicKey))
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// Sign implements note.Signer.
func (k Key) Sign(msg []byte) ([]byte, error) { return k.signer.Sign(nil, msg, crypto.Hash(0)) }

// sign makes the checkpoint of a tree.
func sign(signer note.Signer, size uint64, root []byte) (Checkpoint, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), size, base64.StdEncoding.EncodeToString(root))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	return Checkpoint{Origin: signer.Name(), Size: size, Root: root, Note: signed}, err
}

// ParseCheckpoint reads a checkpoint and checks its signature with the log's public key.
// Malformed, rule "log-key" or "checkpoint-signature".
func ParseCheckpoint(text []byte, public string) (Checkpoint, error) {
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return Checkpoint{}, fault.New(fault.Malformed, "log-key", "The log's key is not of the form NAME+HASH+KEY.").Because(err)
	}
	return openCheckpoint(text, verifier)
}

func openCheckpoint(text []byte, verifier note.Verifier) (Checkpoint, error) {
	read := func(context.Context) ([]byte, error) { return text, nil }
	c, raw, _, err := client.FetchCheckpoint(context.Background(), read, verifier, verifier.Name())
	if err != nil || len(c.Hash) != sha256.Size {
		return Checkpoint{}, fault.New(fault.Malformed, "checkpoint-signature", "It is no checkpoint that this log has signed.").Because(err)
	}
	return Checkpoint{Origin: c.Origin, Size: c.Size, Root: c.Hash, Note: raw}, nil
}

// Includes checks an inclusion proof against the checkpoint and reads the leaf that it
// proves. Malformed, rule "log-proof".
func (c Checkpoint) Includes(leaf []byte, index uint64, hashes [][]byte) (Leaf, error) {
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, c.Size, hashLeaf(leaf), hashes, c.Root)
	if err == nil {
		var l Leaf
		if l, err = parseLeaf(leaf); err == nil {
			return l, nil
		}
	}
	return Leaf{}, fault.New(fault.Malformed, "log-proof", "The proof does not lead from this leaf to the checkpoint.").Because(err)
}

// Extends checks a consistency proof from an earlier checkpoint of the log. Malformed,
// rule "log-proof".
func (c Checkpoint) Extends(earlier Checkpoint, hashes [][]byte) error {
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, earlier.Size, c.Size, hashes, earlier.Root, c.Root); err != nil {
		return fault.New(fault.Malformed, "log-proof", "The log does not extend the earlier checkpoint.").Because(err)
	}
	return nil
}
