package device

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
)

// maxChain bounds a chain, as the server's own rule does (INV-C4).
const maxChain = 10

// answers checks that the chain's leaf certifies the request's key: anything else
// would replace a working credential by one that cannot be used.
func answers(chain []*x509.Certificate, csr *x509.CertificateRequest) error {
	switch {
	case len(chain) == 0:
		return fmt.Errorf("%w: a certificate was asked for and none came", ErrBadAnswer)
	case len(chain) > maxChain:
		return fmt.Errorf("%w: a chain of %d certificates", ErrBadAnswer, len(chain))
	case !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo):
		return fmt.Errorf("%w: the certificate is for another key", ErrBadAnswer)
	}
	return nil
}

// leafFirst orders the loose certificates of a PKCS#7 answer: the one for the
// request's key, then issuer after issuer. What does not belong is left out.
func leafFirst(certs []*x509.Certificate, csr *x509.CertificateRequest) []*x509.Certificate {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo)
	})
	if i < 0 {
		return certs
	}
	return extend(certs[i:i+1], certs)
}

// extend continues a chain upwards with issuers found in the pool.
func extend(chain, pool []*x509.Certificate) []*x509.Certificate {
	chain = slices.Clone(chain)
	for len(chain) > 0 && len(chain) < maxChain {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(pool, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil
		})
		if i < 0 || pool[i].Equal(last) {
			break
		}
		chain = append(chain, pool[i])
	}
	return chain
}
