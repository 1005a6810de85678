// Package jobs wakes the sweeps: the domain's tables say what is due, River says who looks
// now.
//
// A sweep is a plain function that finds in an id scope's tables what is due and does it.
// River makes one process of several the leader, which enqueues each sweep once a period;
// any process works it. What this package keeps:
//
//   - Nothing in River's tables is truth. Lost, emptied or full of a dead process' jobs,
//     they cost the time until the next period and nothing else (ADR 0022).
//   - A sweep runs once at a time in a process, and in several processes at once only when
//     one of them is held up: sweeps claim what they move in their own transactions.
//   - A sweep that fails or panics is logged, counted and tried in its next period.
//   - No registration enqueues anything: a nudge is a flag, and at most one insert each
//     250 ms carries all that were set (store design §6).
//
// On SQLite the jobs are in a file of their own, made anew at each start; on PostgreSQL
// they are in the schema of the installation's own id scope. Called by cmd, which migrates
// the domain's schema first.
package jobs
