package verify

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"reflect"
	"slices"
	"strings"
)

// GeneralName tags (RFC 5280, section 4.2.1.6).
const (
	tagEmail         = 1
	tagDNS           = 2
	tagDirectoryName = 4
	tagURI           = 6
	tagIP            = 7
)

// nameConstraints is the extension of RFC 5280, section 4.2.1.10.
type nameConstraints struct {
	Permitted []generalSubtree `asn1:"optional,tag:0"`
	Excluded  []generalSubtree `asn1:"optional,tag:1"`
}

type generalSubtree struct {
	Base    asn1.RawValue
	Minimum int `asn1:"optional,tag:0"`
	Maximum int `asn1:"optional,tag:1,default:-1"`
}

// readNameConstraints is nil, true for a certificate without the extension. It is
// not ok when the extension holds what neither the standard library nor this package
// can judge.
func readNameConstraints(c *x509.Certificate) (_ *nameConstraints, ok bool) {
	e := extension(c, oidNameConstraints)
	if e == nil {
		return nil, true
	}
	var nc nameConstraints
	if rest, err := asn1.Unmarshal(e.Value, &nc); err != nil || len(rest) > 0 {
		return nil, false
	}
	known := []int{tagEmail, tagDNS, tagDirectoryName, tagURI, tagIP}
	for _, s := range slices.Concat(nc.Permitted, nc.Excluded) {
		if !slices.Contains(known, s.Base.Tag) || s.Minimum != 0 || s.Maximum != -1 {
			return nil, false
		}
	}
	return &nc, true
}

// constrainsOnlyKnownNames reports name constraints that are understood to the last.
func constrainsOnlyKnownNames(c *x509.Certificate) bool {
	nc, ok := readNameConstraints(c)
	return ok && nc != nil
}

// checkNameConstraints applies every CA's constraints to the certificates below it,
// but to a self-issued one only where it is the leaf (RFC 5280, section 6.1.3 b and
// c). Only directoryNames are judged here alone; the standard library has judged the
// other forms already, mail addresses and URIs too widely.
func checkNameConstraints(path []Link) error {
	for i := len(path) - 1; i > 0; i-- {
		nc, ok := readNameConstraints(path[i].Cert)
		switch {
		case !ok:
			return refuse("chain-name-constraints", "The name constraints of %s cannot be judged.", subjectOf(path[i]))
		case nc == nil:
			continue
		}
		for j, l := range path[:i] {
			if j > 0 && bytes.Equal(l.Cert.RawIssuer, l.Cert.RawSubject) {
				continue
			}
			if !nc.allowsDirectoryNames(l.Cert) || !nc.allowsHosts(l.Cert) {
				return refuse("chain-name-constraints", "%s is not allowed the name of %s.", subjectOf(path[i]), subjectOf(l))
			}
		}
	}
	return nil
}

func (nc *nameConstraints) allowsDirectoryNames(c *x509.Certificate) bool {
	permitted, ok1 := directorySubtrees(nc.Permitted)
	excluded, ok2 := directorySubtrees(nc.Excluded)
	names, ok3 := directoryNames(c)
	if !ok1 || !ok2 || !ok3 {
		return false
	}
	for _, name := range names {
		within := func(base pkix.RDNSequence) bool { return isWithin(name, base) }
		if len(permitted) > 0 && !slices.ContainsFunc(permitted, within) || slices.ContainsFunc(excluded, within) {
			return false
		}
	}
	return true
}

func directorySubtrees(subtrees []generalSubtree) (bases []pkix.RDNSequence, ok bool) {
	for _, s := range subtrees {
		if s.Base.Tag != tagDirectoryName {
			continue
		}
		base, ok := readName(s.Base.Bytes)
		if !ok {
			return nil, false
		}
		bases = append(bases, base)
	}
	return bases, true
}

// directoryNames are the subject, unless empty, and the directoryNames among the
// alternative names.
func directoryNames(c *x509.Certificate) (names []pkix.RDNSequence, ok bool) {
	if !emptyName(c.RawSubject) {
		subject, ok := readName(c.RawSubject)
		if !ok {
			return nil, false
		}
		names = append(names, subject)
	}
	e := extension(c, oidSubjectAltName)
	if e == nil {
		return names, true
	}
	var alternatives []asn1.RawValue
	if rest, err := asn1.Unmarshal(e.Value, &alternatives); err != nil || len(rest) > 0 {
		return nil, false
	}
	for _, a := range alternatives {
		if a.Tag != tagDirectoryName {
			continue
		}
		name, ok := readName(a.Bytes)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

func readName(der []byte) (pkix.RDNSequence, bool) {
	var name pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &name)
	return name, err == nil && len(rest) == 0
}

// isWithin reports whether name begins with base (RFC 5280, section 7.1).
func isWithin(name, base pkix.RDNSequence) bool {
	return len(name) >= len(base) && slices.EqualFunc(name[:len(base)], base, sameRDN)
}

func sameRDN(a, b pkix.RelativeDistinguishedNameSET) bool {
	if len(a) != len(b) {
		return false
	}
	for _, wanted := range a {
		if !slices.ContainsFunc(b, func(has pkix.AttributeTypeAndValue) bool { return sameAttribute(wanted, has) }) {
			return false
		}
	}
	return true
}

// sameAttribute compares text without regard to case, to its encoding and to the
// amount of white space, or an excluded name could be had by spelling it otherwise.
func sameAttribute(a, b pkix.AttributeTypeAndValue) bool {
	if !a.Type.Equal(b.Type) {
		return false
	}
	x, ok1 := a.Value.(string)
	y, ok2 := b.Value.(string)
	if ok1 && ok2 {
		return strings.EqualFold(strings.Join(strings.Fields(x), " "), strings.Join(strings.Fields(y), " "))
	}
	return reflect.DeepEqual(a.Value, b.Value)
}
