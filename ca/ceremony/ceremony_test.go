package ceremony_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ceremony"
	"github.com/passmuster/muster/policies"
)

func TestOpenSSLFollowsARootThroughItsCeremonies(t *testing.T) {
	for _, kt := range []policies.KeyType{policies.KeyECP256, policies.KeyECP384, policies.KeyECP521, policies.KeyEd25519, policies.KeyRSA3072} {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, kt)
			openssl(t, true, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", r.path("issuing.key"),
				"-subj", "/CN=Test Issuing", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
				"-out", r.path("issuing.csr"))
			if err := r.session("issue").Issue(t.Context(), r.root(), ceremony.Issue{CSR: r.path("issuing.csr"), Lifetime: 50 * year, Addresses: published}); err != nil {
				t.Fatal(err)
			}
			stands := func(crl string, good bool) {
				t.Helper()
				openssl(t, good, "verify", "-x509_strict", "-crl_check_all", "-attime", strconv.FormatInt(r.now.Unix(), 10),
					"-CAfile", r.path("root/root.pem"), "-CRLfile", r.path(crl), r.path("issue/issuing.pem"))
			}
			stands("root/root.crl", true)
			made, root := r.certificate("issue/issuing.pem"), r.certificate("root/root.pem")
			if made.MaxPathLen != 0 || !made.MaxPathLenZero || !made.NotAfter.Equal(root.NotAfter) || made.CRLDistributionPoints[0] != published.CRL || made.IssuingCertificateURL[0] != published.Certificate {
				t.Errorf("made %+v", made)
			}

			r.now = noon.Add(24 * time.Hour)
			if err := r.session("revoke").Publish(t.Context(), r.root(), ceremony.CRL{
				Previous: r.path("root/root.crl"), Serial: ca.SerialOf(made.SerialNumber), Reason: ca.Superseded, Lifetime: year,
			}); err != nil {
				t.Fatal(err)
			}
			stands("revoke/root.crl", false)

			r.now = noon.Add(48 * time.Hour)
			if err := r.session("renew").Publish(t.Context(), r.root(), ceremony.CRL{Previous: r.path("revoke/root.crl"), Lifetime: year}); err != nil {
				t.Fatal(err)
			}
			stands("renew/root.crl", false)
			last, err := x509.ParseRevocationList(r.read("renew/root.crl"))
			if err != nil {
				t.Fatal(err)
			}
			entry := last.RevokedCertificateEntries[0]
			if last.Number.Int64() != 3 || entry.ReasonCode != 4 || !entry.RevocationTime.Equal(noon.Add(24*time.Hour)) {
				t.Errorf("number %s, entry %+v", last.Number, entry)
			}
			for _, session := range []string{"root", "issue", "revoke", "renew"} {
				if v := r.verdict(session); len(v.Findings) > 0 || v.People.Holders[0] != "Ann Example" || v.People.Witnesses[0] != "Carl Example" {
					t.Errorf("%s: %+v", session, v)
				}
			}
		})
	}
}

// openssl runs a command that has to succeed, or to fail.
func openssl(t testing.TB, good bool, args ...string) {
	t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); (err == nil) != good {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestOpenSSLVerifiesATranscriptWithoutMuster(t *testing.T) {
	r := newRoom(t, policies.KeyECP256)
	transcript := r.read("root/transcript.jsonl")
	cut := bytes.LastIndexByte(transcript[:len(transcript)-1], '\n') + 1
	var last struct{ Facts struct{ Signature []byte } }
	if err := json.Unmarshal(transcript[cut:], &last); err != nil {
		t.Fatal(err)
	}
	r.write("signature", last.Facts.Signature)
	r.write("signed", append([]byte("muster ceremony transcript\n"), transcript[:cut]...))
	openssl(t, true, "x509", "-in", r.path("root/root.pem"), "-pubkey", "-noout", "-out", r.path("public.pem"))
	openssl(t, true, "dgst", "-sha256", "-verify", r.path("public.pem"), "-signature", r.path("signature"), r.path("signed"))
	r.write("signed", transcript[:cut])
	openssl(t, false, "dgst", "-sha256", "-verify", r.path("public.pem"), "-signature", r.path("signature"), r.path("signed"))
}

func TestFilesOfASessionHaveTheirModesAndNoSecretIsInATranscript(t *testing.T) {
	r := newRoom(t, policies.KeyECP256)
	for name, mode := range map[string]os.FileMode{"root-key.pem": 0o600, "root.pem": 0o644, "root.crt": 0o644, "root.crl": 0o644, ceremony.TranscriptFile: 0o644} {
		info, err := os.Stat(r.path("root/" + name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := r.issue("issue"); err != nil {
		t.Fatal(err)
	}
	key := r.read("root/root-key.pem")
	for _, session := range []string{"root", "issue"} {
		text := r.read(session + "/" + ceremony.TranscriptFile)
		for _, secret := range []string{string(key[40:80]), base64.StdEncoding.EncodeToString(key)[:40], "PRIVATE"} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s: the transcript holds %q", session, secret)
			}
		}
	}
}
