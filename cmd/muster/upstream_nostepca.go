//go:build !stepca

package main

import "github.com/passmuster/muster/ca"

func openStepCA(section) (ca.Upstream, error) { return leftOut("stepca", "with -tags stepca") }
