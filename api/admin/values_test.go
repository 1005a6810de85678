package admin

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"P90D": 90 * day, "PT24H": day, "P2W": 14 * day, "P1DT12H": 36 * time.Hour, "PT90M": 90 * time.Minute,
		"PT0S": 0, "P0D": 0, "PT1.5S": 1500 * time.Millisecond, "PT1H2M3.000000004S": time.Hour + 2*time.Minute + 3*time.Second + 4,
		"P106751D": 106751 * day,
	} {
		got, err := parseDuration(text, "/x")
		if err != nil || got != want {
			t.Errorf("%s is %v (%v), want %v", text, got, err, want)
			continue
		}
		if back, err := parseDuration(formatDuration(got), "/x"); err != nil || back != got {
			t.Errorf("%v is written %s, which is read %v (%v)", got, formatDuration(got), back, err)
		}
	}
	for _, text := range []string{
		"", "P", "PT", "P1DT", "90D", "P1Y", "P1M", "p1d", "P-1D", "-P1D", "P1.5D", "PT1.S", "PT.5S", "P1W1D", "PT1S ", " PT1S",
		"P106752D", "PT9223372037S", "P99999999999999999999D", "PT1.0000000001S", "PT1H1H", "PT1S1H", "24h",
	} {
		if got, err := parseDuration(text, "/x"); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{day: "P1D", 90 * day: "P90D", 5 * time.Minute: "PT5M", 36 * time.Hour: "P1DT12H", time.Second / 4: "PT0.25S"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"P90D", "PT24H", "P1DT2H3M4.5S", "P2W", "P", "PT9223372036.854775807S"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text, "/x")
		if err != nil {
			return
		}
		if back, err := parseDuration(formatDuration(d), "/x"); d < 0 || err != nil || back != d {
			t.Errorf("%q is %d, written %s, read %d (%v)", text, d, formatDuration(d), back, err)
		}
	})
}

// The examples of RFC 7396 appendix A.
func TestMergePatch(t *testing.T) {
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		target, patch := must(exactly([]byte(c[0]))), must(exactly([]byte(c[1])))
		if got := string(must(json.Marshal(merge(target, patch)))); got != c[2] {
			t.Errorf("%s patched with %s is %s, want %s", c[0], c[1], got, c[2])
		}
	}
}
