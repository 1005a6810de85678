//go:build !vault

package main

import "github.com/passmuster/muster/ca"

func openVault(section) (ca.Upstream, error) { return leftOut("vault", "with -tags vault") }
