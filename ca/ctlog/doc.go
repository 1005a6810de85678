// Package ctlog keeps the ledger in a log that cannot be rewritten unseen: a Merkle tree
// whose leaf is a ledger row, in the files of C2SP's tlog-tiles, under signed checkpoints.
//
// What it promises: the leaves are the settled rows in the order of their seq, each once,
// none left out (INV-L3), so that the tree follows from the ledger alone and a lost folder
// is made anew as it was; a published checkpoint is never followed by one that does not
// extend it (INV-L2); nothing that issues or revokes waits for it. [Verifier] finds what an
// administrator of the database, or of the folder, has changed (INV-L4).
//
// cmd runs one [Sequencer] for each id scope, in the process that leads; api/log serves a
// [Log], which reads the files and may be in any process that sees them.
package ctlog
