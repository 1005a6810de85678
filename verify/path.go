package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// CheckChain finds the longest path from the leaf over the certificates sent to one
// of anchors that is valid at now by RFC 5280, section 6 (INV-C1): signatures, dates,
// basic constraints, key usage, path length, name constraints, policies, critical
// extensions. What the leaf is for is not asked. An anchor need not be a root, need
// not have been sent, and must itself be within its dates. The path is leaf first,
// anchor last; memo may be nil. Names chain octet by octet, without the folding of
// section 7.1: a CA copies its name into what it issues. Refusals are Unauthenticated with rule "leaf-expired",
// "leaf-not-yet-valid" or "chain-…".
func CheckChain(chain Chain, anchors []Link, now time.Time, memo *Memo) (path []Link, err error) {
	if err := chain.check(); err != nil {
		return nil, err
	}
	now = wholeSecond(now)
	if err := checkLeafDates(chain.Leaf().Cert, now); err != nil {
		return nil, err
	}
	return findPath(chain, anchors, x509.ExtKeyUsageAny, now, memo)
}

// findPath wants a chain within bounds whose leaf is within its dates. The usage is
// asked of every certificate of the path that restricts its usages.
func findPath(chain Chain, anchors []Link, usage x509.ExtKeyUsage, now time.Time, memo *Memo) ([]Link, error) {
	anchors = named(chain, anchors)
	if memo == nil {
		return verifyPath(chain, anchors, usage, now)
	}
	key := keyOf(chain, anchors, usage)
	if path, ok := memo.recall(key, now); ok {
		return slices.Clone(path), nil
	}
	path, err := verifyPath(chain, anchors, usage, now)
	if err != nil {
		return nil, err
	}
	memo.remember(key, path)
	return slices.Clone(path), nil
}

// named leaves the anchors that some certificate sent names as its issuer, or that
// were sent as the leaf: no other can end a path, and a pool of hundreds would cost
// more than the signatures.
func named(chain Chain, anchors []Link) []Link {
	var met []Link
	for _, a := range anchors {
		if a.Thumbprint == chain[0].Thumbprint || slices.ContainsFunc(chain, func(l Link) bool {
			return bytes.Equal(l.Cert.RawIssuer, a.Cert.RawSubject)
		}) {
			met = append(met, a)
		}
	}
	return met
}

// verifyPath lets the standard library build and verify once, then asks of what it
// found the rest of RFC 5280.
func verifyPath(chain Chain, anchors []Link, usage x509.ExtKeyUsage, now time.Time) ([]Link, error) {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range anchors {
		roots.AddCert(relaxed(a.Cert))
	}
	for _, l := range chain[1:] {
		if leadsOn(l, chain, anchors) {
			others.AddCert(relaxed(l.Cert))
		}
	}
	found, err := relaxed(chain[0].Cert).Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return nil, diagnose(chain, anchors, now, err)
	}
	slices.SortStableFunc(found, func(a, b []*x509.Certificate) int { return len(b) - len(a) })
	var refusal error
	for _, certs := range found {
		path := links(certs, chain, anchors)
		err := checkShape(path)
		if err == nil {
			return path, nil
		}
		if refusal == nil {
			refusal = err
		}
	}
	return nil, refusal
}

// leadsOn reports whether l can stand between a leaf and an anchor. An anchor that
// was sent as well and leads no further would only have its children's signatures
// verified twice.
func leadsOn(l Link, chain Chain, anchors []Link) bool {
	if !slices.ContainsFunc(anchors, func(a Link) bool { return a.Thumbprint == l.Thumbprint }) {
		return true
	}
	above := func(other Link) bool {
		return other.Thumbprint != l.Thumbprint && bytes.Equal(l.Cert.RawIssuer, other.Cert.RawSubject)
	}
	return slices.ContainsFunc(anchors, above) || slices.ContainsFunc(chain[1:], above)
}

// relaxed hides from the standard library what it judges otherwise than RFC 5280 and
// checkShape judges in its place: it counts self-issued certificates against a path
// length, and it knows no directoryName constraints.
func relaxed(c *x509.Certificate) *x509.Certificate {
	limitsPath := c.BasicConstraintsValid && c.MaxPathLen >= 0
	if !limitsPath && !constrainsOnlyKnownNames(c) {
		return c
	}
	copied := *c
	if limitsPath {
		copied.MaxPathLen, copied.MaxPathLenZero = -1, false
	}
	if constrainsOnlyKnownNames(c) {
		copied.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions), oidNameConstraints.Equal)
	}
	return &copied
}

// links finds the hashed, unaltered certificates of a path again.
func links(certs []*x509.Certificate, chain Chain, anchors []Link) []Link {
	path := make([]Link, len(certs))
	for i, c := range certs {
		same := func(l Link) bool { return bytes.Equal(l.Cert.Raw, c.Raw) }
		if at := slices.IndexFunc(chain, same); at >= 0 {
			path[i] = chain[at]
		} else if at := slices.IndexFunc(anchors, same); at >= 0 {
			path[i] = anchors[at]
		}
	}
	return path
}

// diagnose says why no path verified, in the words of explain. It runs only on the
// way to a refusal and follows the best path there is, one signature a step.
func diagnose(chain Chain, anchors []Link, now time.Time, cause error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(cause, &invalid) {
		switch invalid.Reason {
		case x509.IncompatibleUsage:
			return refuse("chain-eku", "A CA above the client certificate is restricted to usages other than clientAuth.")
		case x509.CANotAuthorizedForThisName:
			return refuse("chain-name-constraints", "A CA above the client certificate is not allowed its names.")
		case x509.NoValidChains:
			return refuse("chain-policy", "The certificate policies of the chain do not hold together.")
		}
	}
	if len(relaxed(chain[0].Cert).UnhandledCriticalExtensions) > 0 {
		return unhandledCritical(chain[0])
	}
	return fault.As(walk(chain, anchors, now)).Because(cause)
}

// walk climbs from the leaf and returns the first refusal it meets.
func walk(chain Chain, anchors []Link, now time.Time) error {
	at := chain[0]
	seen := []Thumbprint{at.Thumbprint}
	for {
		next, err := climb(at, chain, anchors, seen, now)
		if err != nil {
			return err
		}
		at = next
		seen = append(seen, at.Thumbprint)
	}
}

// climb finds the certificate above at, or says why none will do.
func climb(at Link, chain Chain, anchors []Link, seen []Thumbprint, now time.Time) (Link, error) {
	var refusal error
	for _, l := range slices.Concat(anchors, chain[1:]) {
		if !bytes.Equal(at.Cert.RawIssuer, l.Cert.RawSubject) || slices.Contains(seen, l.Thumbprint) {
			continue
		}
		err := checkParent(at, l, now)
		if err == nil {
			return l, nil
		}
		if refusal == nil || fault.RuleOf(refusal) == "chain-bad-signature" {
			refusal = err
		}
	}
	switch selfIssued := bytes.Equal(at.Cert.RawIssuer, at.Cert.RawSubject); {
	case refusal != nil && !selfIssued:
		return Link{}, refusal
	case slices.ContainsFunc(anchors, func(a Link) bool { return slices.Contains(seen, a.Thumbprint) }):
		return Link{}, refuse("chain-too-complex", "The certificates sent allow too many paths to try them all.")
	case selfIssued:
		return Link{}, refuse("chain-not-trusted", "The chain ends at %s, which no verified anchor vouches for.", subjectOf(at))
	}
	return Link{}, refuse("chain-incomplete", "The issuer of %s was not sent and is no verified anchor.", subjectOf(at))
}

// checkParent asks of one step what a verifier asks of it.
func checkParent(child, parent Link, now time.Time) error {
	p := parent.Cert
	switch {
	case !isCA(p):
		return refuse("chain-not-a-ca", "%s has issued a certificate but is no CA.", subjectOf(parent))
	case child.Cert.CheckSignatureFrom(p) != nil:
		return refuse("chain-bad-signature", "The key of %s did not sign what names it as its issuer, or signed it with a weak algorithm.", subjectOf(parent))
	case now.Before(p.NotBefore):
		return refuse("chain-not-yet-valid", "%s is valid only from %s.", subjectOf(parent), stamp(p.NotBefore))
	case now.After(p.NotAfter):
		return refuse("chain-expired", "%s expired at %s.", subjectOf(parent), stamp(p.NotAfter))
	case len(relaxed(p).UnhandledCriticalExtensions) > 0:
		return unhandledCritical(parent)
	}
	return nil
}

func unhandledCritical(l Link) error {
	return refuse("chain-critical-extension", "%s has a critical extension that is not understood.", subjectOf(l))
}

// subjectOf names a certificate in a sentence, short and with nothing unprintable.
func subjectOf(l Link) string {
	const longest = 64
	name := l.Cert.Subject.CommonName
	if name == "" {
		name = l.Cert.Subject.String()
	}
	if len(name) > longest {
		name = name[:longest]
	}
	return quoted(name)
}
