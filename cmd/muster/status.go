package main

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/seal"
)

// crlConfig is about revocation lists.
type crlConfig struct {
	// Lifetime is from a CRL's thisUpdate to its nextUpdate; it is renewed at half of it.
	Lifetime time.Duration `yaml:"lifetime"`
	// Delta has revocations published in delta CRLs between the whole ones.
	Delta bool `yaml:"delta"`
}

// ocspConfig is about OCSP answers.
type ocspConfig struct {
	// Lifetime is from an answer's thisUpdate to its nextUpdate.
	Lifetime time.Duration `yaml:"lifetime"`
	// OmitAddress leaves the responder's address out of certificates.
	OmitAddress bool `yaml:"omitAddress"`
}

// authority is what the CA of an id scope is told.
func (c config) authority(box *seal.Box) ca.Config {
	return ca.Config{
		PKIURL: c.pkiURL(), CRLLifetime: c.CRL.Lifetime,
		StatusConfig: ca.StatusConfig{DeltaCRL: c.CRL.Delta, Box: box, OmitOCSP: c.OCSP.OmitAddress, OCSPLifetime: c.OCSP.Lifetime},
	}
}
