// Package store runs a domain's function in one transaction on SQLite or PostgreSQL,
// and keeps the invariants of architecture §7 that rows can hold.
//
// One concrete tx implements provisioning.Tx, and with it ca.Tx, in SQL that both
// engines share; what differs between them (transactions, commits, locks) lies behind
// [Engine]. It decides nothing: a rule about devices belongs a floor below.
//
// What it promises:
//   - A View reads one snapshot. When an Update returns nil its commit is durable (INV-S1).
//   - A function that fails leaves nothing behind, and no trace in its neighbours.
//   - The first statement that fails ends the transaction: later calls answer the same
//     error, and so does Update if the function swallowed it.
//   - An Update function may be run again: results are assigned, never appended to
//     what was there before it began. A View function is run once.
//   - Constraint violations come back as the faults that the interfaces promise.
//
// Called by cmd (which opens an engine and hands out [DB.CA] and [DB.Provisioning]);
// [Check] is also what the doctor runs on a live database.
package store
