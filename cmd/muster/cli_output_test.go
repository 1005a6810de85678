package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
)

func TestOneResourceInEveryForm(t *testing.T) {
	raw := json.RawMessage(`{"id":"a","on":true,"n":{"big":12345678901234567890,"list":["x","y"]},"odd":"1e3","none":null}`)
	shape := table{{"ID", "id", false}, {"ON", "on", false}, {"BIG", "n.big", true}, {"LIST", "n.list", false}, {"GONE", "n.no.where", false}}
	for form, want := range map[string]string{
		"table":  "id\ta\non\tyes\nlist\tx,y\ngone\t-\n",
		"wide":   "id\ta\non\tyes\nbig\t12345678901234567890\nlist\tx,y\ngone\t-\n",
		"name":   "a\n",
		"ndjson": string(raw) + "\n",
		"yaml":   "id: a\non: true\nn:\n  big: 12345678901234567890\n  list:\n    - x\n    - y\nodd: \"1e3\"\nnone: null\n",
	} {
		var b bytes.Buffer
		if err := (output{form}).one(&b, shape, raw); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v", form, b.String(), err)
		}
	}
	for _, form := range []string{"table", "json", "ndjson", "yaml", "name"} {
		if err := (output{form}).one(io.Discard, shape, json.RawMessage(`{"id":`)); err == nil {
			t.Errorf("%s: half an answer was printed", form)
		}
	}
}

// What a device or a certificate calls itself draws nothing on the operator's terminal.
func TestNamesCannotMoveTheCursor(t *testing.T) {
	var b bytes.Buffer
	raw := json.RawMessage(`{"id":"a\u001b[2J\nb\tc\u202ed ü"}`)
	if err := (output{"table"}).one(&b, table{{"ID", "id", false}}, raw); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != "id\ta\ufffd[2J\ufffdb\ufffdc\ufffdd ü\n" {
		t.Errorf("printed %q", got)
	}
}

func TestHarmIsDoneWhenTheNameIsTyped(t *testing.T) {
	for typing, meant := range map[string]bool{"dev-1\n": true, "dev-1": true, " dev-1 \n": true, "dev-2\n": false, "y\n": false, "\n": false, "": false} {
		var talk bytes.Buffer
		if err := typed(strings.NewReader(typing), &talk, "dev-1", "it will go"); (err == nil) != meant {
			t.Errorf("%q: %v", typing, err)
		}
		if talk.String() != "it will go.\nType dev-1 to go on: " {
			t.Errorf("asked %q", talk.String())
		}
	}
}

func TestThresholds(t *testing.T) {
	at := func(s string) time.Time {
		moment, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return moment
	}
	cert := testkit.SelfSigned(t, "dev-1", testkit.WithDates(at("2026-01-01T00:00:00Z"), at("2026-04-11T00:00:00Z"))).Cert // 100 days
	for _, c := range []struct {
		threshold, at string
		reached       bool
	}{
		{"66%", "2026-03-07T23:59:59Z", false},
		{"66%", "2026-03-08T00:00:00Z", true},
		{"30d", "2026-03-11T23:59:59Z", false},
		{"30d", "2026-03-12T00:00:00Z", true},
		{"12h", "2026-04-10T11:00:00Z", false},
		{"12h", "2026-04-10T13:00:00Z", true},
		{"0d", "2026-04-10T23:59:59Z", false},
	} {
		var limit threshold
		if err := limit.UnmarshalText([]byte(c.threshold)); err != nil {
			t.Fatal(err)
		}
		if limit.reached(cert, at(c.at)) != c.reached {
			t.Errorf("%s at %s: want %v", c.threshold, c.at, c.reached)
		}
	}
	for _, bad := range []string{"", "%", "0%", "101%", "NaN%", "-1d", "1.5d", "99999d", "d", "-1h", "soon"} {
		if err := new(threshold).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// The clocks an operator watches, each just before and just after its limit.
func TestStatusOfClocks(t *testing.T) {
	now := testkit.Now()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		life, left time.Duration
		state      string
	}{
		"ten years, 61 days left":        {3650 * day, 61 * day, stateOK},
		"ten years, 59 days left":        {3650 * day, 59 * day, stateWarning},
		"thirty days, 8 left":            {30 * day, 8 * day, stateOK},
		"thirty days, 7 left":            {30 * day, 7 * day, stateWarning},
		"thirty days, ended this moment": {30 * day, 0, stateCritical},
	} {
		i := issuerClock{ID: "i", State: "active", NotBefore: now.Add(c.left - c.life), NotAfter: now.Add(c.left)}
		if got := i.checks(now, false)[0].State; got != c.state {
			t.Errorf("%s: %s, want %s", name, got, c.state)
		}
	}
	end := issuerClock{ID: "i", Role: "issuing", State: "active", NotBefore: now.Add(-300 * day), NotAfter: now.Add(30 * day)}
	for name, c := range map[string]struct {
		beside issuerClock
		want   int
	}{
		"a successor is prepared":          {issuerClock{ID: "j", Role: "issuing", State: "prepared"}, exitDone},
		"one is prepared of another role":  {issuerClock{ID: "j", Role: "root", State: "prepared"}, exitWarning},
		"one is prepared for a profile":    {issuerClock{ID: "j", Role: "issuing", State: "prepared", Profile: "gate"}, exitWarning},
		"what followed another is no help": {issuerClock{ID: "j", Role: "issuing", State: "retired"}, exitWarning},
	} {
		if code := worst(end.checks(now, end.followed([]issuerClock{end, c.beside}))); code != c.want {
			t.Errorf("30 days left, %s: %d, want %d", name, code, c.want)
		}
	}
	old := issuerClock{State: "retired", NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)}
	if code := worst(old.checks(now, false)); code != exitDone {
		t.Errorf("a retired issuer's end alarms: %d", code)
	}
	for left, want := range map[time.Duration]int{31 * day: exitDone, 29 * day: exitWarning, 0: exitCritical} {
		root := issuerClock{State: "active", NotBefore: now.Add(-day), NotAfter: now.Add(3650 * day)}
		if err := json.Unmarshal([]byte(`{"crl":{"number":1,"nextUpdate":"`+now.Add(left).Format(time.RFC3339)+`"}}`), &root); err != nil {
			t.Fatal(err)
		}
		if code := worst(root.checks(now, false)); code != want {
			t.Errorf("the CRL of a root whose key is elsewhere with %v left: %d, want %d", left, code, want)
		}
	}
	for left, want := range map[time.Duration]int{7 * time.Hour: exitDone, 5 * time.Hour: exitWarning, -time.Second: exitCritical} {
		raw, err := json.Marshal(map[string]any{
			"keyHere": true, "state": "active", "notBefore": now.Add(-day), "notAfter": now.Add(3650 * day), "crl": map[string]any{"number": 1, "nextUpdate": now.Add(left), "isCurrent": false},
		})
		if err != nil {
			t.Fatal(err)
		}
		var i issuerClock
		if err := json.Unmarshal(raw, &i); err != nil {
			t.Fatal(err)
		}
		if code := worst(i.checks(now, false)); code != want {
			t.Errorf("a CRL with %v left: %d, want %d", left, code, want)
		}
	}
}

func FuzzImportedCSV(f *testing.F) {
	f.Add("registrationId,primaryKey\na,b\n")
	f.Add("\ufeffregistrationId,certificate\n\"a,\nb\n")
	f.Add("registrationId\n\n\"")
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := newCSVLines(strings.NewReader(text), folder, "default")
		if err != nil {
			return
		}
		drain(t, lines, len(text))
	})
}

func FuzzImportedNDJSON(f *testing.F) {
	f.Add(`{"registrationId":"a","attestation":{"type":"symmetricKey"}}` + "\n\nnull\n[]")
	f.Fuzz(func(t *testing.T, text string) { drain(t, newJSONLines(strings.NewReader(text)), len(text)) })
}

// drain reads to the end, which has to come.
func drain(t *testing.T, lines lineReader, bound int) {
	for range bound + 2 {
		line, id, body, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			if alone := (lineError{}); !errors.As(err, &alone) {
				return
			}
		case line < 1 || body == nil:
			t.Fatalf("line %d of %q has the body %v", line, id, body)
		}
	}
	t.Fatal("the file does not end")
}
