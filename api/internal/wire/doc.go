// Package wire holds what every protocol's door needs before and after its own work.
//
// A [Door] is a router with the same guard in front of it, whatever it speaks:
//
//   - Each request gets a trace id, a time limit, and one line in the log at debug level.
//   - A panic is caught, counted, logged with its stack, and answered 500 (INV-R2).
//   - Paths match without regard to case and with one trailing slash; ids keep their
//     spelling; nothing is ever redirected (protocols/dps.md §10, trap 3).
//   - Bodies are read up to a limit, plain, and of the media type asked for (INV-R1).
//   - No header names a client: evidence is the TLS connection and what the request
//     itself proves (threat model, trust lines).
//
// Called by the packages of folder api, each of which maps faults to its protocol in
// one table of its own.
package wire
