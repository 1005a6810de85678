//go:build google

package main

import (
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/upstream/google"
)

func openGoogle(s section) (ca.Upstream, error) {
	var c google.Config
	if err := s.into(&c); err != nil {
		return nil, err
	}
	return c.Open()
}
