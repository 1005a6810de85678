// Package azure holds the tests that run Azure's own published SDKs, as npm has them,
// against the real server: nothing but the host name, the id scope and the keys is
// Muster's.
//
// One server is shared by the tests; so is one Node process (client.js), which is told
// call by call what to do and reports what the SDK made of it and what went over the
// wire. Every call is evidence: docs/compatibility.md is written from it, and the tests
// fail when the page says anything else (-update writes it anew).
//
// Only its tests have code. The packages are pinned by package-lock.json; make test
// installs them.
package azure
