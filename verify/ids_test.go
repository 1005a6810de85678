package verify_test

import (
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

func TestParseRegistrationID(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		ok       bool
	}{
		{"one letter will do", "a", true},
		{"letters, digits and all four marks", "Dev-1._:x", true},
		{"128 characters are the most", strings.Repeat("a", 128), true},
		{"a dash may be last", "dev-", true},
		{"query as a part is fine", "query-1", true},
		{"129 characters are too many", strings.Repeat("a", 129), false},
		{"empty", "", false},
		{"a space", "a b", false},
		{"a dot last", "dev.", false},
		{"an underscore last", "dev_", false},
		{"a colon last", "dev:", false},
		{"a path", "../x", false},
		{"a percent escape", "%00", false},
		{"a zero byte", "a\x00b", false},
		{"a new line last", "dev\n", false},
		{"a letter outside ASCII", "dévice", false},
		{"the Kelvin sign, which folds to k", "\u212a", false},
		{"the reserved word", "query", false},
		{"the reserved word in another case", "QuerY", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := verify.ParseRegistrationID(tc.in)
			switch {
			case tc.ok && (err != nil || id.String() != strings.ToLower(tc.in) || !id.Matches(tc.in)):
				t.Errorf("got %q, %v", id, err)
			case !tc.ok && (fault.RuleOf(err) != "registration-id" || !fault.Is(err, fault.Malformed) || !id.IsZero()):
				t.Errorf("got %q, %v", id, err)
			}
		})
	}
}

func TestRegistrationIDsAreComparedWithoutCase(t *testing.T) {
	a, b := mustID(t, "Dev-1"), mustID(t, "dEV-1")
	if a != b {
		t.Errorf("%v and %v differ", a, b)
	}
	if a.Matches("dev-2") || (verify.RegistrationID{}).Matches("") {
		t.Error("an id matches another device, or nobody matches the empty name")
	}
}

func TestParseThumbprint(t *testing.T) {
	want := verify.ThumbprintOf([]byte("x"))
	colons := strings.Join(strings.SplitAfterN(strings.ToUpper(want.String()), "", 64), "")
	for i := 62; i > 0; i -= 2 {
		colons = colons[:i] + ":" + colons[i:]
	}
	for name, in := range map[string]string{
		"lower case": want.String(), "upper case": strings.ToUpper(want.String()),
		"as openssl prints it": colons, "with spaces": " " + strings.ReplaceAll(colons, ":", " ") + " ",
	} {
		if got, err := verify.ParseThumbprint(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, in := range map[string]string{
		"empty": "", "SHA-1": strings.Repeat("ab", 20), "too long": want.String() + "00",
		"no hex": strings.Repeat("zz", 32), "very long": strings.Repeat(" ", 1<<20),
	} {
		if _, err := verify.ParseThumbprint(in); fault.RuleOf(err) != "thumbprint" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseRegistrationID(f *testing.F) {
	for _, s := range []string{"dev-1", "query", "a b", "", "x.", "\u212a", "A:B_c.D-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := verify.ParseRegistrationID(s)
		if err != nil {
			return
		}
		again, err := verify.ParseRegistrationID(id.String())
		if err != nil || again != id || !id.Matches(s) || len(s) > 128 {
			t.Errorf("%q became %q, then %q, %v", s, id, again, err)
		}
	})
}

func mustID(t testing.TB, s string) verify.RegistrationID {
	t.Helper()
	id, err := verify.ParseRegistrationID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
