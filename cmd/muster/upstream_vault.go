//go:build vault

package main

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/upstream/vault"
)

func openVault(s section) (ca.Upstream, error) {
	var c vault.Config
	if err := s.into(&c); err != nil {
		return nil, err
	}
	return c.Open()
}
