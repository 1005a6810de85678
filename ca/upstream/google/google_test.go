package google

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/passmuster/muster/internal/fault"
)

func TestAnAuthorityIsNamedInFull(t *testing.T) {
	const whole = "projects/p/locations/europe-west1/caPools/devices/certificateAuthorities/ca-1"
	if _, err := (Config{CertificateAuthority: whole}).Open(); err != nil {
		t.Error(err)
	}
	for _, part := range []string{"", "ca-1", "projects/p/locations/europe-west1/caPools/devices", whole + "/x"} {
		if _, err := (Config{CertificateAuthority: part}).Open(); fault.RuleOf(err) != "config" {
			t.Errorf("%q: %v", part, err)
		}
	}
}

func TestWhatGooglesAnswersMean(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"a request it does not take":  {status.Error(codes.InvalidArgument, "bad template"), true},
		"a lack of rights":            {status.Error(codes.PermissionDenied, "no"), true},
		"too many requests":           {status.Error(codes.ResourceExhausted, "quota"), true},
		"a deadline":                  {status.Error(codes.DeadlineExceeded, "late"), false},
		"an error of its own":         {status.Error(codes.Internal, "broken"), false},
		"a connection that broke off": {status.Error(codes.Unavailable, "reset"), false},
		"no answer of Google's":       {errors.New("something else"), false},
	} {
		if got := refused(fmt.Errorf("cloudCAS CreateCertificate failed: %w", tt.err)); got != tt.want {
			t.Errorf("%s: nothing was signed: %v, want %v", name, got, tt.want)
		}
	}
}
