package azure

import (
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/passmuster/muster/internal/fault"
)

func TestSerialsAreWholeOctetsOfHex(t *testing.T) {
	for number, want := range map[int64]string{0x0a1b: "0A1B", 5: "05", 0xff00: "FF00"} {
		if got := serial(&x509.Certificate{SerialNumber: big.NewInt(number)}); got != want {
			t.Errorf("%d is written %q, want %q", number, got, want)
		}
	}
}

func TestEveryKindHasACodeOfItsStatus(t *testing.T) {
	statuses := map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Unauthenticated: 401, fault.Forbidden: 401, fault.Disallowed: 400,
		fault.NotFound: 404, fault.Conflict: 409, fault.PreconditionFailed: 412, fault.PreconditionRequired: 409,
		fault.Throttled: 429, fault.TooLarge: 413, fault.Unavailable: 503,
	}
	for kind := fault.Internal; kind.String() != "internal" || kind == fault.Internal; kind++ {
		if got := CodeOf(fault.New(kind, "x", "X.")) / 1000; got != statuses[kind] {
			t.Errorf("%s is answered %d, want %d", kind, got, statuses[kind])
		}
	}
}
