// Package provisioning matches an identity to its enrollment and brings
// registration, certificate and hub into agreement.
//
// The [Engine] has one method per use case, named as an operator says it. Register
// is the main road: one View reads all [Facts], match.go decides from them who is
// speaking for which entry, assign.go plans the outcome, ca signs, and one Update
// writes certificate, ledger row and registration together — if the facts have not
// moved meanwhile; else the decision is made anew. So the answer that counts is the
// one read in the transaction that writes (architecture §6, INV-D1), no decision is
// cached, and no certificate leaves unrecorded.
//
// It is called by the doors (api/*) and knows nothing of their protocols.
package provisioning
