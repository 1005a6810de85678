package est

import (
	"bytes"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/passmuster/muster/internal/testkit"
)

func TestCertsOnlyIsWhatOthersWrite(t *testing.T) {
	chain := testkit.Chain(t, "root > mid > dev-1").Get("dev-1").Chain()
	for n := range len(chain) + 1 {
		var all [][]byte
		for _, c := range chain[:n] {
			all = append(all, c.Raw)
		}
		want, err := pkcs7.DegenerateCertificate(bytes.Join(all, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := certsOnly(all...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d certificates: %x, %v; want %x", n, got, err, want)
		}
	}
}
