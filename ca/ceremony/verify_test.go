package ceremony_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/passmuster/muster/ca/ceremony"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

func TestATranscriptTellsWhatWasDoneToIt(t *testing.T) {
	r := newRoom(t, policies.KeyECP256)
	if err := r.issue("issue"); err != nil {
		t.Fatal(err)
	}
	whole := r.read("root/" + ceremony.TranscriptFile)
	root := r.certificate("root/root.pem")
	lines := func() [][]byte { return slices.Collect(bytes.Lines(bytes.Clone(whole))) }
	last := len(lines())
	replace := func(n int, old, new string) func() []byte {
		return func() []byte {
			all := lines()
			if !bytes.Contains(all[n-1], []byte(old)) {
				t.Fatalf("record %d does not hold %q", n, old)
			}
			all[n-1] = bytes.Replace(all[n-1], []byte(old), []byte(new), 1)
			return bytes.Join(all, nil)
		}
	}
	without := func(from, to int) func() []byte {
		return func() []byte { return bytes.Join(slices.Delete(lines(), from-1, to), nil) }
	}
	for name, c := range map[string]struct {
		text  func() []byte
		rules string // in the order found
		says  string
	}{
		"as it was":                      {func() []byte { return whole }, "", ""},
		"a witness renamed":              {replace(2, "Carl", "Karl"), "transcript-changed-record transcript-signature", "Record 2 was changed"},
		"a byte of the first record":     {replace(1, "test", "tess"), "transcript-changed-record transcript-signature", "Record 1 was changed"},
		"a byte of the last but one":     {replace(last-1, "CRL", "CRM"), "transcript-changed-record transcript-signature", "Record 9 was changed"},
		"a byte of the signature":        {replace(last, `signature":"M`, `signature":"N`), "transcript-signature", "not the root's"},
		"another algorithm":              {replace(last, "SHA256", "SHA384"), "transcript-signature", "not the root's"},
		"another time of the signature":  {replace(last, "2026", "2027"), "transcript-changed-record", "Record 10 was changed"},
		"the same time in another zone":  {replace(last, "12:00:00Z", "13:00:00+01:00"), "transcript-changed-record", "Record 10 was changed"},
		"a blank in the last record":     {replace(last, `"signature":"`, `"signature": "`), "transcript-malformed transcript-not-signed", "Record 10 was changed"},
		"a member more in the last one":  {replace(last, `"facts":{`, `"facts":{"x":1,`), "transcript-malformed", "Record 10 was changed"},
		"the last line feed":             {func() []byte { return whole[:len(whole)-1] }, "transcript-malformed transcript-not-signed", "Record 10 was changed"},
		"without its first record":       {without(1, 1), "transcript-missing-record transcript-signature", "Record 1 is missing"},
		"without a record in the middle": {without(4, 4), "transcript-missing-record transcript-signature", "Record 4 is missing"},
		"without some in the middle":     {without(4, 6), "transcript-missing-record transcript-signature", "Records 4 to 6 are missing"},
		"without its signature":          {without(last, last), "transcript-not-signed", "the end is missing"},
		"without its second half":        {without(6, last), "transcript-not-signed", "the end is missing"},
		"nothing":                        {func() []byte { return nil }, "transcript-not-signed", "the end is missing"},
		"a record twice":                 {func() []byte { all := lines(); return bytes.Join(slices.Insert(all, 3, all[2]), nil) }, "transcript-changed-record transcript-signature", "Record 3 stands where record 4 should"},
		"something after the signature":  {func() []byte { return append(bytes.Clone(whole), "{}\n"...) }, "transcript-changed-record", "after the signature"},
		"a line that is no record":       {replace(5, "{", "["), "transcript-malformed transcript-changed-record transcript-signature", "Record 5 was changed"},
		"an event nobody knows":          {replace(5, `"certificate"`, `"certificat0"`), "transcript-malformed transcript-changed-record transcript-signature", "Record 5 was changed"},
		"another session of the same":    {func() []byte { return r.read("issue/" + ceremony.TranscriptFile) }, "", ""},
		"another session's signature": {func() []byte {
			all := lines()
			other := slices.Collect(bytes.Lines(r.read("issue/" + ceremony.TranscriptFile)))
			all[last-1] = other[len(other)-1]
			return bytes.Join(all, nil)
		}, "transcript-changed-record transcript-signature", "not the root's"},
		"a chain that was made anew": {func() []byte { return rechained(t, replace(2, "Carl", "Karl")()) }, "transcript-signature", "not the root's"},
		"a chain made anew by half":  {func() []byte { return rechained(t, without(4, 4)()) }, "transcript-signature", "not the root's"},
	} {
		t.Run(name, func(t *testing.T) {
			v := ceremony.Verify(c.text(), root)
			if got := strings.Join(rules(v), " "); got != c.rules {
				t.Fatalf("rules %q, want %q\n%v", got, c.rules, v.Findings)
			}
			if c.says != "" && !slices.ContainsFunc(v.Findings, func(f *fault.Error) bool { return strings.Contains(f.Error(), c.says) }) {
				t.Errorf("nothing says %q: %v", c.says, v.Findings)
			}
		})
	}
}

// rechained numbers and links records as if they had been written so, under the old
// signature.
func rechained(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	previous, n := strings.Repeat("0", 64), 0
	for line := range bytes.Lines(text) {
		n++
		var rec struct {
			Record   int             `json:"record"`
			Time     json.RawMessage `json:"time"`
			Previous string          `json:"previous"`
			Event    string          `json:"event"`
			Facts    json.RawMessage `json:"facts"`
		}
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatal(err)
		}
		rec.Record, rec.Previous = n, previous
		again, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, '\n')
		out.Write(again)
		sum := sha256.Sum256(again)
		previous = hex.EncodeToString(sum[:])
	}
	return out.Bytes()
}

func TestATranscriptIsHeldAgainstTheRootItsReaderTrusts(t *testing.T) {
	r, other := newRoom(t, policies.KeyECP256), newRoom(t, policies.KeyECP384)
	transcript := r.read("root/" + ceremony.TranscriptFile)
	if v := ceremony.Verify(transcript, r.certificate("root/root.pem")); len(v.Findings) > 0 {
		t.Fatal(v.Findings)
	}
	if got := rules(ceremony.Verify(transcript, other.certificate("root/root.pem"))); !slices.Equal(got, []string{"transcript-other-root"}) {
		t.Fatal(got)
	}
}

func TestFilesAreHeldAgainstTheTranscript(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *room, dir string)
		rules  string
		says   string
	}{
		"as they were":            {func(*room, string) {}, "", ""},
		"the key taken elsewhere": {func(r *room, dir string) { remove(r, dir+"/root-key.pem") }, "", ""},
		"a file gone":             {func(r *room, dir string) { remove(r, dir+"/root.crl") }, "file-missing", "root.crl"},
		"a byte changed":          {func(r *room, dir string) { d := r.read(dir + "/root.crt"); d[100] ^= 1; r.write(dir+"/root.crt", d) }, "file-changed", "root.crt"},
		"a key swapped":           {func(r *room, dir string) { r.write(dir+"/root-key.pem", []byte("other")) }, "file-changed", "root-key.pem"},
		"two files swapped": {func(r *room, dir string) {
			a, b := r.read(dir+"/root.crt"), r.read(dir+"/root.crl")
			r.write(dir+"/root.crt", b)
			r.write(dir+"/root.crl", a)
		}, "file-changed", "root.crl"},
		"a file that is no output": {func(r *room, dir string) { r.write(dir+"/notes.txt", nil) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, policies.KeyECP256)
			c.change(r, "root")
			v := r.verdict("root")
			if got := strings.Join(rules(v), " "); got != c.rules {
				t.Fatalf("rules %q, want %q", got, c.rules)
			}
			if c.says != "" && !slices.ContainsFunc(v.Findings, func(f *fault.Error) bool { return f.Object == c.says }) {
				t.Errorf("nothing is about %q: %v", c.says, v.Findings)
			}
		})
	}
}

func remove(r *room, name string) {
	r.t.Helper()
	if err := os.Remove(r.path(name)); err != nil {
		r.t.Fatal(err)
	}
}

func FuzzVerify(f *testing.F) {
	r := newRoom(f, policies.KeyECP256)
	root := r.certificate("root/root.pem")
	whole := r.read("root/" + ceremony.TranscriptFile)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"record":1}` + "\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if v := ceremony.Verify(text, root); len(v.Findings) == 0 && !bytes.Equal(text, whole) {
			t.Errorf("accepted: %s", text)
		}
	})
}
