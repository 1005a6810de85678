package verify_test

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/verify"
)

// deviations are the cases of NIST's suite on which CheckChain disagrees by choice:
// it refuses what the suite accepts. Those that rest on a CRL are not its business.
var deviations = map[string]string{
	"4.1.4 Valid DSA Signatures Test4":                                "DSA is not supported",
	"4.1.5 Valid DSA Parameter Inheritance Test5":                     "DSA is not supported",
	"4.3.3 Valid Name Chaining Whitespace Test3":                      "names chain octet by octet",
	"4.3.4 Valid Name Chaining Whitespace Test4":                      "names chain octet by octet",
	"4.3.5 Valid Name Chaining Capitalization Test5":                  "names chain octet by octet",
	"4.3.10 Valid Rollover from PrintableString to UTF8String Test10": "names chain octet by octet",
	"4.3.11 Valid UTF8String Case Insensitive Match Test11":           "names chain octet by octet",
	"4.13.25 Valid RFC822 nameConstraints Test25":                     "an excluded host excludes what is below it",
	"4.13.36 Valid URI nameConstraints Test36":                        "an excluded host excludes what is below it",
	"4.5.2 Invalid Basic Self-Issued Old With New Test2":              "rests on a CRL",
	"4.5.5 Invalid Basic Self-Issued New With Old Test5":              "rests on a CRL",
	"4.5.7 Invalid Basic Self-Issued CRL Signing Key Test7":           "rests on a CRL",
	"4.7.4 Invalid keyUsage Critical cRLSign False Test4":             "rests on a CRL",
	"4.7.5 Invalid keyUsage Not Critical cRLSign False Test5":         "rests on a CRL",
}

// The suite's files come with Go's sources, so the test needs those and skips without.
func TestCheckChainAgreesWithNISTPathValidationSuite(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command to ask where its sources are")
	}
	dir := filepath.Join(strings.TrimSpace(string(goroot)), "src/crypto/x509/testdata/nist-pkits")
	text, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Skip("this installation of Go has no test data")
	}
	var cases []struct {
		Name                                               string
		CertPath, InitialPolicySet                         []string
		InitialPolicyMappingInhibit, InitialExplicitPolicy bool
		InitialAnyPolicyInhibit, ShouldValidate            bool
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, tc := range cases {
		section, _, _ := strings.Cut(strings.TrimPrefix(tc.Name, "4."), ".")
		onCRLs := section == "4" || section == "14" || section == "15"
		asksForPolicies := tc.InitialExplicitPolicy || tc.InitialAnyPolicyInhibit || tc.InitialPolicyMappingInhibit ||
			len(tc.InitialPolicySet) > 0 && !slices.Contains(tc.InitialPolicySet, "anyPolicy")
		if onCRLs || asksForPolicies || deviations[tc.Name] != "" {
			continue
		}
		ran++
		t.Run(tc.Name, func(t *testing.T) {
			if err := checkFiles(t, dir, tc.CertPath); (err == nil) != tc.ShouldValidate {
				t.Errorf("should validate: %v, got: %v", tc.ShouldValidate, err)
			}
		})
	}
	if ran < 100 {
		t.Errorf("only %d cases ran", ran)
	}
}

func checkFiles(t *testing.T, dir string, files []string) error {
	t.Helper()
	var certs []*x509.Certificate
	for _, file := range files {
		der, err := os.ReadFile(filepath.Join(dir, "certs", file))
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		certs = append(certs, c)
	}
	slices.Reverse(certs)
	last := len(certs) - 1
	chain, err := verify.ReadChain(certs[:last])
	if err != nil {
		return err
	}
	now := time.Date(2011, 4, 15, 0, 0, 0, 0, time.UTC)
	_, err = verify.CheckChain(chain, []verify.Link{verify.NewLink(certs[last])}, now, nil)
	return err
}
