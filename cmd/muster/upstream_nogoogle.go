//go:build !google

package main

import "github.com/passmuster/muster/ca"

func openGoogle(section) (ca.Upstream, error) { return leftOut("google", "with -tags google") }
