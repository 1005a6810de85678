package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// sampleDevice is who a template is tried for. It has every right to its name.
const sampleDevice = "sample-device"

// CheckProfile tries out what a profile asks for beyond the plain certificate, before it
// is saved: its rules for names are read, and its template is run for a sample device
// with a key of each type the profile allows. The result is held to the profile and
// linted, so that a template which would make a CA, or certificates without an extended
// key usage, is refused here and not at the first device.
//
// Refusals are Malformed: "profile-invalid" about a list of names, and "template-…",
// "name-not-permitted", "name-malformed" and "certificate-lint" about "/template".
func (a *Authority) CheckProfile(p policies.Profile, now time.Time) error {
	r, err := newRecipe(p)
	if err != nil || r.template == nil {
		return err
	}
	if err := checkQuoting(r, p); err != nil {
		return err
	}
	for _, kt := range p.Keys {
		if err := a.checkSample(p, kt, now); err != nil {
			if f := fault.As(err); f != nil && len(f.Fields) == 0 {
				f = f.At("/template")
				f.Kind = fault.Malformed
				return f
			}
			return err
		}
	}
	return nil
}

// checkQuoting refuses a template that puts into its JSON as it is what a device, or whoever
// attested it, may have written: with a quotation mark in it a device would go on to write
// its certificate itself (INV-P4). It is tried with and without one.
func checkQuoting(r *recipe, p policies.Profile) error {
	try := func(text string) error {
		csr, err := sampleRequest(sampleDevice, p.Keys[0])
		if err != nil {
			return err
		}
		some := []string{text}
		csr.Subject = pkix.Name{
			CommonName: sampleDevice, SerialNumber: text, Country: some, Organization: some, OrganizationalUnit: some,
			Locality: some, Province: some, StreetAddress: some, PostalCode: some,
			Names: []pkix.AttributeTypeAndValue{{Type: oidUserID, Value: text}},
		}
		by := &x509.Certificate{Subject: csr.Subject, Issuer: csr.Subject, Raw: []byte{0}}
		_, err = r.execute(&x509.Certificate{Subject: pkix.Name{CommonName: sampleDevice}}, applicant{csr: csr, path: []verify.Link{{Cert: by}, {Cert: by}}}, p)
		return err
	}
	if err := try("AA"); err != nil {
		return nil // it does not like this sample, whatever it writes
	}
	if err := try(`"`); errors.Is(err, errNoJSON) {
		return refuseTemplate("template-failed", "the template writes what a device may have written without quoting it: use toJson")
	}
	return nil
}

// oidUserID stands for the attributes that crypto/x509 has no field for (RFC 4519 §2.39).
var oidUserID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}

func (a *Authority) checkSample(p policies.Profile, kt policies.KeyType, now time.Time) error {
	name := sampleDevice
	if p.Names != nil && len(p.Names.Permitted.CommonName) > 0 {
		name = p.Names.Permitted.CommonName[0]
	}
	id, err := verify.ParseRegistrationID(name)
	if err != nil {
		return fault.New(fault.Malformed, "profile-invalid", "a permitted common name is no registration id").At("/names/permitted/commonName/0")
	}
	csr, err := sampleRequest(name, kt)
	if err != nil {
		return err
	}
	const year = 365 * 24 * time.Hour
	period := &x509.Certificate{NotBefore: now.Add(-year), NotAfter: now.Add(100 * year)}
	by := &issuer{Issuer: Issuer{ID: "0000000000000000"}, certificate: period}
	t, err := a.deviceTemplate(csr, kt, p, by, now)
	if err != nil {
		return err
	}
	who := applicant{id: id, csr: csr, path: []verify.Link{{Cert: &x509.Certificate{Subject: csr.Subject, Raw: []byte{0}}}}}
	if _, err := a.refine(t, who, p, by, now); err != nil {
		return err
	}
	if by = a.current.Load().active(p.Name); by == nil {
		return nil // nobody to sign for it yet: linted at the first device
	}
	standIn, err := by.standIn()
	if err != nil {
		return err
	}
	if err := a.shapes.lint(t, standIn); err != nil {
		return err // not returned as it is: a nil *fault.Error is no nil error
	}
	return nil
}

// sampleRequest is what a device of a name would send, unsigned. An RSA modulus is only
// of the right size, as making a real one takes seconds.
func sampleRequest(name string, kt policies.KeyType) (*x509.CertificateRequest, error) {
	csr := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, PublicKeyAlgorithm: x509.ECDSA}
	curve := map[policies.KeyType]elliptic.Curve{policies.KeyECP256: elliptic.P256(), policies.KeyECP384: elliptic.P384(), policies.KeyECP521: elliptic.P521()}[kt]
	switch bits := map[policies.KeyType]uint{policies.KeyRSA2048: 2048, policies.KeyRSA3072: 3072, policies.KeyRSA4096: 4096}[kt]; {
	case bits > 0:
		csr.PublicKey, csr.PublicKeyAlgorithm = &rsa.PublicKey{N: sampleModulus(bits), E: 65537}, x509.RSA
	case curve != nil:
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		csr.PublicKey = key.Public()
	default:
		key, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		csr.PublicKey, csr.PublicKeyAlgorithm = crypto.PublicKey(key), x509.Ed25519
	}
	var err error
	csr.RawSubjectPublicKeyInfo, err = x509.MarshalPKIXPublicKey(csr.PublicKey)
	return csr, err
}

// sampleModulus is an odd number of a size, without the small factors that lints look for.
func sampleModulus(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	n.Add(n, big.NewInt(1))
	small := new(big.Int).MulRange(3, 1000)
	for step := big.NewInt(2); new(big.Int).GCD(nil, nil, n, small).Cmp(big.NewInt(1)) != 0; {
		n.Add(n, step)
	}
	return n
}

// Draft is the certificate that a request would get under a profile, unsigned and not
// linted: what a change of a profile is tried with. Its serial number means nothing. It
// refuses as Issue does; what attested the device is not known to a template.
func (a *Authority) Draft(id verify.RegistrationID, csr *x509.CertificateRequest, p policies.Profile, now time.Time) (*x509.Certificate, error) {
	kt, err := checkRequest(id, csr, p)
	if err != nil {
		return nil, err
	}
	by := a.current.Load().active(p.Name)
	if by == nil {
		return nil, noActiveIssuer()
	}
	t, err := a.deviceTemplate(csr, kt, p, by, now)
	if err != nil {
		return nil, err
	}
	_, err = a.refine(t, applicant{id: id, csr: csr}, p, by, now)
	return t, err
}

func noActiveIssuer() error {
	return fault.New(fault.Unavailable, "no-active-issuer", "No issuing CA is active here.")
}
