package testkit

import (
	"crypto/x509"
	"strconv"
	"strings"
	"testing"
)

// Family is the certificates of one notation, by the names used there.
type Family struct {
	t       testing.TB
	members map[string]*Entity
	last    *Entity
}

// Chain makes the certificates of a notation. ">" reads "issued"; ";" or a new line
// begins another line, which goes on from a name already made; the first of a line
// is otherwise a self-signed CA. Whatever issues is a CA, whatever ends a line is a
// device's leaf, and each is named CN = its name. Attributes stand in brackets:
//
//	cn=TEXT       another CN ("cn=" none)     rsa, rsa=1024, p224, p384, ed25519   the key
//	ca, leaf      the kind, whatever its place  key=NAME     the same key as NAME
//	pathlen=N     a path length               expired, future  dates beside Now
//	serial=N      a serial number             eku=client+server+any+none  purposes
//	selfsigned    begins anew though something issued stands to its left
//
// An edit of the same name is applied to the template before it is signed.
func Chain(t testing.TB, notation string, edits ...EditOf) *Family {
	t.Helper()
	f := &Family{t: t, members: map[string]*Entity{}}
	for line := range strings.FieldsFuncSeq(notation, func(r rune) bool { return r == ';' || r == '\n' }) {
		if strings.TrimSpace(line) != "" {
			f.line(line, edits)
		}
	}
	return f
}

// EditOf changes the template of one member of a family.
type EditOf struct {
	Name string
	Edit func(*x509.Certificate)
}

// Edit says how to change the template of the member called name.
func Edit(name string, edit func(*x509.Certificate)) EditOf { return EditOf{name, edit} }

// Get is the member of that name.
func (f *Family) Get(name string) *Entity {
	f.t.Helper()
	e, ok := f.members[name]
	if !ok {
		f.t.Fatalf("testkit: nobody is called %q", name)
	}
	return e
}

// Leaf is the member written last.
func (f *Family) Leaf() *Entity { return f.last }

func (f *Family) line(line string, edits []EditOf) {
	f.t.Helper()
	words := strings.Split(line, ">")
	var issuer *Entity
	for i, word := range words {
		name, attributes, _ := strings.Cut(word, "[")
		name = strings.TrimSpace(name)
		if known, ok := f.members[name]; ok {
			issuer = known
			continue
		}
		var opts []Option
		if i < len(words)-1 || len(words) == 1 {
			opts = append(opts, AsCA())
		}
		parent := issuer
		for attribute := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(attributes), "]"), ",") {
			attribute = strings.TrimSpace(attribute)
			if attribute == "selfsigned" {
				parent = nil
			} else if attribute != "" {
				opts = append(opts, f.option(attribute))
			}
		}
		for _, e := range edits {
			if e.Name == name {
				opts = append(opts, WithTemplate(e.Edit))
			}
		}
		issuer = issue(f.t, parent, name, opts)
		f.members[name], f.last = issuer, issuer
	}
}

func (f *Family) option(attribute string) Option {
	f.t.Helper()
	word, value, _ := strings.Cut(attribute, "=")
	switch word {
	case "cn":
		return WithCommonName(value)
	case "ca":
		return AsCA()
	case "leaf":
		return AsLeaf()
	case "key":
		return WithKey(f.Get(value).Key)
	case "rsa", "p224", "p384", "ed25519":
		return WithKey(NewKey(f.t, attribute))
	case "pathlen":
		return WithPathLen(f.number(value))
	case "serial":
		return WithSerial(int64(f.number(value)))
	case "expired":
		return WithDates(Now().AddDate(-1, 0, 0), Now().AddDate(0, 0, -1))
	case "future":
		return WithDates(Now().AddDate(0, 0, 1), Now().AddDate(1, 0, 0))
	case "eku":
		return WithPurposes(f.purposes(value)...)
	}
	f.t.Fatalf("testkit: unknown attribute %q", attribute)
	return nil
}

func (f *Family) number(s string) int {
	f.t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		f.t.Fatalf("testkit: %q is no number", s)
	}
	return n
}

func (f *Family) purposes(s string) (purposes []x509.ExtKeyUsage) {
	f.t.Helper()
	for word := range strings.SplitSeq(s, "+") {
		switch word {
		case "client":
			purposes = append(purposes, x509.ExtKeyUsageClientAuth)
		case "server":
			purposes = append(purposes, x509.ExtKeyUsageServerAuth)
		case "any":
			purposes = append(purposes, x509.ExtKeyUsageAny)
		case "none":
		default:
			f.t.Fatalf("testkit: unknown purpose %q", word)
		}
	}
	return purposes
}
