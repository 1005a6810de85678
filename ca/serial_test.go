package ca

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

func TestSerialNumbersArePositiveOrderedByTimeAndOfTwentyOctets(t *testing.T) {
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	seen := map[Serial]bool{}
	for _, at := range []time.Time{time.Unix(-1, 0), time.Unix(0, 0), noon, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)} {
		for range 100 {
			n := newSerial(at)
			if n.Sign() <= 0 || n.BitLen() > 8*maxSerial-1 {
				t.Fatalf("at %v: %x", at, n)
			}
			if seen[SerialOf(n)] {
				t.Fatal("the same number twice")
			}
			seen[SerialOf(n)] = true
		}
	}
	if newSerial(noon).Cmp(newSerial(noon.Add(time.Minute))) >= 0 {
		t.Error("a later minute has no larger number")
	}
	if got := len(SerialOf(newSerial(noon))); got != 40 {
		t.Errorf("%d digits", got)
	}
}

func TestASerialIsReadAsPeopleWriteIt(t *testing.T) {
	tests := map[string]Serial{
		"01c4":                               "01c4",
		"1C4":                                "01c4",
		"00:01:C4":                           "01c4",
		"00" + strings.Repeat("f", 40):       Serial(strings.Repeat("f", 40)),
		strings.Repeat("0f", 20):             Serial(strings.Repeat("0f", 20)),
		"":                                   "",
		"0":                                  "",
		"00:00":                              "",
		"-1":                                 "",
		"0x12":                               "",
		"12 34":                              "",
		strings.Repeat("f", 42):              "",
		strings.Repeat("0", 10_000) + "1":    "",
		strings.Repeat("f:", 19) + "f" + "g": "",
	}
	for text, want := range tests {
		got, err := ParseSerial(text)
		if got != want || (want == "") != (fault.RuleOf(err) == "serial") {
			t.Errorf("%.50q: %q, %v", text, got, err)
		}
	}
}

func FuzzParseSerial(f *testing.F) {
	f.Add("01c4")
	f.Add("00:ff")
	f.Add("zz")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSerial(text)
		if err != nil {
			return
		}
		n, err := s.number()
		if err != nil || n.Cmp(new(big.Int)) <= 0 || SerialOf(n) != s {
			t.Fatalf("%q became %q", text, s)
		}
	})
}
