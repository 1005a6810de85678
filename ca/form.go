package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
)

// formOf is what the linter's verdict on a refined certificate rests on beside its plain
// shape (INV-P6): the template's text, which attributes the subject has, which kinds of
// names, the usages and policies, and each extension with its criticality and value. Names,
// key, serial number and dates are left out: they differ from device to device. But an
// attribute of the subject that linters may judge by what it says is there, as a device may
// have written it.
func formOf(t *x509.Certificate, names altNames, r *recipe) string {
	h := sha256.New()
	h.Write(r.digest[:])
	for _, rdn := range t.Subject.ToRDNSequence() {
		for _, attribute := range rdn {
			writeText(h, attribute.Type.String())
			if text, ok := attribute.Value.(string); !attribute.Type.Equal(oidCommonName) && (!ok || !plainText(text)) {
				writeText(h, fmt.Sprint(attribute.Value))
			}
		}
	}
	kinds := byte(0)
	for i, some := range []bool{len(names.dns) > 0, len(names.emails) > 0, len(names.ips) > 0, len(names.uris) > 0, len(names.principals) > 0} {
		if some {
			kinds |= 1 << i
		}
	}
	h.Write([]byte{'|', kinds})
	writeNumber(h, int(t.KeyUsage))
	for _, u := range t.ExtKeyUsage {
		writeNumber(h, int(u))
	}
	h.Write([]byte{'|'})
	for _, p := range t.Policies {
		writeText(h, p.String())
	}
	h.Write([]byte{'|'})
	for _, e := range t.ExtraExtensions {
		if e.Id.Equal(oidSubjectAltName) {
			continue
		}
		writeText(h, e.Id.String())
		if e.Critical {
			h.Write([]byte{'!'})
		}
		writeText(h, string(e.Value))
	}
	return string(h.Sum(nil))
}

// maxPlain is the least bound of RFC 5280 appendix A.1 on an attribute, the postal code.
const maxPlain = 16

// plainText says that an attribute of the subject is like any other to a linter: short, of
// the letters of PrintableString, with no space at an end.
func plainText(s string) bool {
	return len(s) <= maxPlain && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(" '()+,-./:=?", r)
	})
}

func writeText(h hash.Hash, s string) {
	writeNumber(h, len(s))
	h.Write([]byte(s))
}

func writeNumber(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}
