// Package testkit makes certificates, requests and tokens for tests in one line each.
//
// A family of certificates is written as it hangs together, the issuer on the left:
//
//	f := testkit.Chain(t, "root > mid > dev-1; mid > dev-2 [expired]")
//	f.Get("dev-1").Chain() // dev-1, mid: what a client sends
//	f.Get("root").Cert
//
// Everything is valid from 2020 to 2090, so that a test may run at [Now] or at the
// real time. Any failure ends the test. Only tests import this package.
package testkit

import "time"

// Now is the moment at which tests stand still: 1 March 2026, 08:00 UTC.
func Now() time.Time { return time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC) }

func always() (notBefore, notAfter time.Time) {
	return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
}
