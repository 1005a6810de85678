// Package authority holds the tests that show the authority of the real server to programs that
// others wrote: what Muster publishes must mean to openssl, GnuTLS and curl what it means here.
//
// Only its tests have code.
package authority
