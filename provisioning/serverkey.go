package provisioning

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// madeKey is a key made here for one request, and the request made of it. It lives as
// long as that request (INV-P9).
type madeKey struct {
	csr   *x509.CertificateRequest
	pkcs8 []byte
}

// withServerKey goes on with a request for a new key of the device's (RFC 7030 §4.4):
// nothing is made before the device has proved itself and its profile allows it. A
// retry is answered with another key: the first was kept by nobody here.
func (e *Engine) withServerKey(ctx context.Context, d *decision, r RegisterRequest, csr *x509.CertificateRequest, now time.Time) (Operation, error) {
	profile, err := d.profile(r)
	if err != nil {
		return Operation{}, err
	}
	if !profile.ServerKeygen {
		return Operation{}, fault.New(fault.Forbidden, "server-keygen-not-allowed", "the issuing profile does not let keys be made on the server").About("profile " + profile.Name)
	}
	if r.made.csr == nil {
		// To make a key is the costliest thing a device can ask for (INV-R3).
		if err := policies.CheckWishes(profile, csr, d.identity.ID().String()); err != nil {
			return Operation{}, err
		}
		if *r.made, err = makeKey(profile, csr); err != nil {
			return Operation{}, err
		}
	}
	// The key of the request that came counts for nothing; the new one is on no block list.
	d.csrKey = verify.KeyHashOf(r.made.csr.RawSubjectPublicKeyInfo)
	op, err := e.carryOut(ctx, d, r, r.made.csr, now)
	if err == nil && op.Chain != nil {
		op.Key = verify.NewSecret(r.made.pkcs8)
	}
	return op, err
}

// makeKey makes a key and asks for it what csr asks for: subject and extensions are
// then judged as those of any request. The key is of csr's type where the profile allows
// that, else of the profile's first.
func makeKey(profile policies.Profile, csr *x509.CertificateRequest) (madeKey, error) {
	kind, err := policies.KeyTypeOf(csr.PublicKey)
	if err != nil || !slices.Contains(profile.Keys, kind) {
		kind = profile.Keys[0]
	}
	key, err := ca.NewKey(kind)
	if err != nil {
		return madeKey{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: csr.RawSubject, ExtraExtensions: csr.Extensions}, key)
	if err != nil {
		return madeKey{}, err
	}
	made := madeKey{}
	if made.pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return madeKey{}, err
	}
	made.csr, err = policies.ParseCSR(der)
	return made, err
}
