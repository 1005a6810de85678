//go:build stepca

package main

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/upstream/stepca"
)

func openStepCA(s section) (ca.Upstream, error) {
	var c stepca.Config
	if err := s.into(&c); err != nil {
		return nil, err
	}
	return c.Open()
}
