// Package verify proves who is speaking and who may vouch for whom; it is the only
// maker of an [Identity] and of a verified [TrustAnchor].
//
// It keeps these promises. What a client sends is a hint and never an anchor
// (INV-C2). Matching is by whole certificate and by key, never by name alone
// (INV-C3). Work for a stranger is bounded (INV-C4). An identity carries the
// registration id that its evidence proves and no other (INV-P3, INV-T1). An anchor
// turns verified by a proof or by an operator's recorded word, never by a setter
// (INV-V1 to V5). Secrets never print themselves (INV-K4).
//
// Nothing here looks at a clock, a disk or the network: the time is passed in. A
// refusal is a fault with its own rule word, which is for the operator's explain; a
// device is told nothing but that it was refused. The package is called by
// provisioning (devices and anchors), by the doors (parsing), by store (restoring
// anchors) and by the command that checks a chain offline.
package verify
