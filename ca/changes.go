package ca

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.step.sm/crypto/x509util"
)

// Change is one field in which two certificates differ.
type Change struct{ Field, Old, New string }

// Changes lists in which fields two drafts for one request differ, but for the serial
// number; of the dates, the lifetime and how far notBefore lies before now.
func Changes(before, after *x509.Certificate, now time.Time) []Change {
	var out []Change
	was, is := describe(before, now), describe(after, now)
	for i, field := range described {
		if was[i] != is[i] {
			out = append(out, Change{Field: field, Old: was[i], New: is[i]})
		}
	}
	return out
}

var described = [...]string{
	"lifetime", "backdate", "subject", "dnsNames", "ipAddresses", "emailAddresses", "uris", "principals", "keyUsage", "extKeyUsage", "policyIdentifiers", "extensions",
}

func describe(t *x509.Certificate, now time.Time) [len(described)]string {
	names := fieldNames(t)
	var extensions, policyIDs []string
	for _, e := range t.ExtraExtensions {
		if e.Id.Equal(oidSubjectAltName) {
			names, _ = readAltNames(e.Value)
			continue
		}
		critical := ""
		if e.Critical {
			critical = " critical"
		}
		extensions = append(extensions, fmt.Sprintf("%s%s %s", e.Id, critical, hex.EncodeToString(e.Value)))
	}
	for _, p := range t.Policies {
		policyIDs = append(policyIDs, p.String())
	}
	return [...]string{
		t.NotAfter.Sub(t.NotBefore).String(), now.Sub(t.NotBefore).Truncate(time.Second).String(), t.Subject.String(),
		listed(names.dns, func(s string) string { return s }), listed(names.ips, net.IP.String), listed(names.emails, func(s string) string { return s }),
		listed(names.uris, (*url.URL).String), listed(names.principals, func(s string) string { return s }),
		words(x509util.KeyUsage(t.KeyUsage)), words(x509util.ExtKeyUsage(t.ExtKeyUsage)),
		listed(policyIDs, func(s string) string { return s }), listed(extensions, func(s string) string { return s }),
	}
}

func listed[T any](list []T, text func(T) string) string {
	var out []string
	for _, v := range list {
		out = append(out, text(v))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// words spells usages as templates do.
func words(usages json.Marshaler) string {
	raw, err := usages.MarshalJSON()
	var list []string
	if err != nil || json.Unmarshal(raw, &list) != nil {
		return ""
	}
	return strings.Join(list, ", ")
}
