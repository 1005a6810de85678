package ctlog_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/passmuster/muster/ca/ctlog"
)

// What is shown to a verifier comes from whoever is under suspicion: it is read without
// harm, and what was read is written again as it was.
func FuzzEvidence(f *testing.F) {
	f.Add([]byte(`{"checkpoint":"x"}`))
	f.Add([]byte(`{"row":{"seq":1,"at":2,"actor":"operator:o","action":"certificate.issued","subject":"registration:d","body":"{}"},"leafHash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{"leafHash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","leaf":"AQAAAAAAAAABAAAAAAAAAAIAAWEAAWIAAWMAAAACe30="}`))
	f.Add([]byte(`{"certificate":{"issuer":"0123456789abcdef","serial":"00ff","sha256":"0000000000000000000000000000000000000000000000000000000000000000"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := ctlog.NewVerifier("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8", nil)
		var pieces []ctlog.Evidence
		err := ctlog.DecodeEvidence(bytes.NewReader(text), func(e ctlog.Evidence) {
			v.Add(e)
			pieces = append(pieces, e)
		})
		v.Report()
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := ctlog.EncodeEvidence(&again, pieces); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := ctlog.DecodeEvidence(&again, func(ctlog.Evidence) { n++ }); err != nil || n != len(pieces) {
			t.Fatalf("%d pieces of %d, %v", n, len(pieces), err)
		}
	})
}

// A stranger may submit what he likes to the log of certificates.
func FuzzSubmission(f *testing.F) {
	a := newAuthority(f)
	l := a.closedLog(f.TempDir(), a.key)
	chain := a.precert()
	f.Add(chain[0], chain[1], true)
	f.Add(chain[1], chain[1], false)
	f.Add([]byte{}, chain[1], false)
	f.Fuzz(func(t *testing.T, leaf, issuer []byte, pre bool) {
		if answer, err := l.Add(context.Background(), [][]byte{leaf, issuer}, pre); err == nil || answer != nil {
			t.Fatal("a log that does not run gave an SCT")
		}
	})
}
