// Package google lets a certificate authority of Google's Certificate Authority Service sign
// for an issuer of ours: Muster is its registration authority.
//
// An answer that says no means that nothing was signed; anything else, that something may
// have been. The intent's id is sent as Google's request id.
//
// Called by cmd/muster where it was built with -tags google.
package google

import (
	"context"
	"errors"
	"regexp"
	"strings"

	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/cloudcas"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// Config is a section of the configuration file.
type Config struct {
	// CertificateAuthority is projects/P/locations/L/caPools/POOL/certificateAuthorities/CA.
	CertificateAuthority string `yaml:"certificateAuthority"`
	// CredentialsFile is a service account's key; "" = the environment's own credentials.
	CredentialsFile string `yaml:"credentialsFile"`
}

var resource = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/caPools/[^/]+/certificateAuthorities/[^/]+$`)

// Open checks the configuration. Nothing is asked of Google yet.
func (c Config) Open() (ca.Upstream, error) {
	if !resource.MatchString(c.CertificateAuthority) {
		return nil, fault.New(fault.Malformed, "config", "certificateAuthority: projects/P/locations/L/caPools/POOL/certificateAuthorities/CA is needed")
	}
	options := casapi.Options{Type: casapi.CloudCAS, CertificateAuthority: c.CertificateAuthority, CredentialsFile: c.CredentialsFile}
	return &ca.Driver{
		Open: func(ctx context.Context) (casapi.CertificateAuthorityService, error) {
			return cloudcas.New(ctx, options)
		},
		Refused: refused,
		Stale:   func(error) bool { return false }, // the client renews its login itself
		Revoked: func(err error) bool {
			return codeOf(err) == codes.FailedPrecondition && strings.Contains(strings.ToLower(err.Error()), "already revoked")
		},
		Above: ca.GetterChain,
	}, nil
}

// refused says that an error is an answer of a service that has done nothing.
func refused(err error) bool {
	switch codeOf(err) {
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition, codes.ResourceExhausted,
		codes.Unimplemented, codes.OutOfRange:
		return true
	}
	return false
}

// codeOf is the code of Google's answer; Unknown where there was none.
func codeOf(err error) codes.Code {
	var answer interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answer) {
		return answer.GRPCStatus().Code()
	}
	return codes.Unknown
}
