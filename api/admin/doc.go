// Package admin is the admin REST API under /api/v1: it decodes, calls the engine,
// encodes, and decides nothing.
//
// What it promises:
//
//   - Every route names the scope it asks for, or is public by name; one without
//     either is refused (INV-L5). A refusal to a signed-in operator is on record (INV-L1).
//   - A write over something that exists needs its ETag (INV-V4); what a caller leaves
//     out of a get-change-put, keys above all, stays as it is.
//   - Bad input is a 400 that names the place; whatever goes wrong is an RFC 9457
//     problem with the rule that refused, and no secret or request text in it (INV-K4).
//   - Nothing larger than 1 MiB or nested deeper than 32 is looked at (INV-R1), and no
//     request is redirected.
//
// The JSON of enrollments and groups is that of the DPS service API; all else follows
// its spelling. The OpenAPI document is made of the Go types and checked in as
// openapi.yaml. cmd mounts [New] on the admin listener.
package admin

//go:generate go test -run OpenAPI . -update
