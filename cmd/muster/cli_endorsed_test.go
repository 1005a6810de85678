package main

import (
	"crypto/x509"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	chips "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify/tpm"
)

// endorsed is the command `endorsed SOCKET ROOT CHAIN`: a manufacturer of TPMs certifies the one at
// the socket, and leaves its root and the certificate, with the CA above it, in files.
func endorsed(t testing.TB) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		chip, err := chips.Open(args[0])
		ts.Check(err)
		defer chip.Close()
		ek, err := tpm.ParseEndorsementKey(chip.EndorsementKey())
		ts.Check(err)
		public, err := x509.ParsePKIXPublicKey(ek.SPKI())
		ts.Check(err)
		root := testkit.Root(t, "Maker of TPMs")
		by := root.Issue(t, "Maker of TPMs EK CA", testkit.AsCA())
		of := by.Certify(t, public, testkit.TPMModel{Manufacturer: "id:4E544300", Model: "NPCT75x", Version: "id:00070002"})
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), testkit.PEM(root.Cert), 0o600))
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), testkit.PEM(of.Cert, by.Cert), 0o600))
	}
}
