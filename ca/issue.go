package ca

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// maxCommonName is ub-common-name of RFC 5280 appendix A.1.
const maxCommonName = 64

// Issue signs a certificate for an identity, in memory: nothing is on record yet, but for
// the precertificate of a profile that embeds SCTs. Where the issuer's key is with an
// upstream, that is asked, and an intent is on record: an Unrecorded that is not recorded is
// then given to Abandon.
//
// The caller has called policies.CheckCSR with this profile and identity: Issue does
// not check the request's signature, its key's soundness or what it asks for. It is
// safe without, in that it takes only the public key and the spelling of the common
// name from the request, and refuses another device's name, another key type than the
// profile's and a second encoding of a key. parent is the certificate that attested
// the request, zero for a key.
//
// Where the identity's own TPM has attested the request's key, the certificate says so: on
// record, and by the profile's extension.
//
// The subject is CN = the registration id as the request spells it. Where that is a
// host name it is also the one subject alternative name. Extensions and validity are
// the profile's, with addresses of the issuer's certificate, of its OCSP responder and of
// the CRL of one of its shards. What the profile asks for beyond that is added by refine.
//
// Refusals: Unauthenticated "identity-missing"; Malformed "csr-missing",
// "csr-names-other-device", "csr-name-length", "key-type-not-allowed" and its kin,
// "key-malformed", "name-not-permitted", "name-malformed"; Unavailable "no-active-issuer",
// "issuer-expiring", "issuer-not-yet-valid", "certificate-lint", "template-…",
// "signing-failed", "sct-unavailable"; of an upstream "upstream-missing", "upstream-busy",
// "upstream-refused", "upstream-unanswered", "upstream-certificate".
func (a *Authority) Issue(ctx context.Context, id verify.Identity, csr *x509.CertificateRequest, p policies.Profile,
	parent verify.Thumbprint, now time.Time,
) (Unrecorded, error) {
	if err := ctx.Err(); err != nil {
		return Unrecorded{}, err
	}
	if id.IsZero() {
		return Unrecorded{}, fault.New(fault.Unauthenticated, "identity-missing", "A certificate is issued to a proven identity only.")
	}
	kt, err := checkRequest(id.ID(), csr, p)
	if err != nil {
		return Unrecorded{}, err
	}
	by := a.current.Load().active(p.Name)
	if by == nil || by.signer == nil && by.Upstream == "" {
		return Unrecorded{}, noActiveIssuer()
	}
	template, err := a.deviceTemplate(csr, kt, p, by, now)
	if err != nil {
		return Unrecorded{}, err
	}
	form, err := a.refine(template, applicant{id.ID(), csr, id.Path()}, p, by, now)
	if err != nil {
		return Unrecorded{}, ofTemplate(err, p)
	}
	attested := attestedKey(id, csr)
	mark, err := markAttested(template, attested, p)
	if err != nil {
		return Unrecorded{}, err
	}
	form += mark
	if by.Upstream != "" {
		if p.EmbedSCT {
			return Unrecorded{}, fault.New(fault.Unavailable, "sct-unavailable", "The profile embeds timestamps of logs, which an upstream cannot.").About("profile " + p.Name)
		}
		return a.issueElsewhere(ctx, by, csr, template, Certificate{RegistrationID: id.ID(), Parent: parent, Issued: now.UTC(), KeyAttestation: attested})
	}
	shard, err := a.nameStatus(ctx, by, template)
	if err != nil {
		return Unrecorded{}, err
	}
	if err := a.shapes.check(shapeOf(by.ID, p, kt, template, form), template, by); err != nil {
		return Unrecorded{}, err
	}
	var made *x509.Certificate
	if p.EmbedSCT {
		made, err = a.signLogged(ctx, template, id.ID(), by)
	} else {
		made, err = sign(template, by.certificate, by.signer)
	}
	if err != nil {
		return Unrecorded{}, err
	}
	if !bytes.Equal(made.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
		// Keys are blocked by the hash of their encoding: one key has one (INV-D3).
		return Unrecorded{}, fault.New(fault.Malformed, "key-malformed", "The public key in the request is not in its canonical encoding.")
	}
	return Unrecorded{certificate: Certificate{
		Issuer:         by.ID,
		Serial:         SerialOf(made.SerialNumber),
		Thumbprint:     verify.ThumbprintOf(made.Raw),
		KeyHash:        verify.KeyHashOf(made.RawSubjectPublicKeyInfo),
		RegistrationID: id.ID(),
		Parent:         parent,
		NotBefore:      made.NotBefore,
		NotAfter:       made.NotAfter,
		Issued:         now.UTC(),
		KeyAttestation: attested,
		Shard:          shard,
		DER:            made.Raw,
	}}, nil
}

func checkRequest(id verify.RegistrationID, csr *x509.CertificateRequest, p policies.Profile) (policies.KeyType, error) {
	if csr == nil {
		return "", fault.New(fault.Malformed, "csr-missing", "There is no certificate request.")
	}
	if !id.Matches(csr.Subject.CommonName) {
		return "", fault.New(fault.Malformed, "csr-names-other-device", "The request's common name is not the registration id.")
	}
	if len(csr.Subject.CommonName) > maxCommonName {
		return "", fault.New(fault.Malformed, "csr-name-length", "A certificate is issued for ids of at most %d characters.", maxCommonName)
	}
	kt, err := policies.KeyTypeOf(csr.PublicKey)
	if err != nil {
		return "", err
	}
	if !slices.Contains(p.Keys, kt) {
		return "", fault.New(fault.Malformed, "key-type-not-allowed", "The profile does not allow %s keys.", kt)
	}
	return kt, nil
}

// deviceTemplate builds a template from nothing: what is not set here is not in the
// certificate (INV-P4).
func (a *Authority) deviceTemplate(csr *x509.CertificateRequest, kt policies.KeyType, p policies.Profile, by *issuer, now time.Time) (*x509.Certificate, error) {
	notBefore, notAfter, err := p.Validity(now, by.certificate.NotBefore, by.certificate.NotAfter)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(csr.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fault.New(fault.Malformed, "key-malformed", "The public key in the request cannot be encoded.").Because(err)
	}
	name := csr.Subject.CommonName
	t := &x509.Certificate{
		SerialNumber:          newSerial(now),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		PublicKey:             csr.PublicKey,
		SubjectKeyId:          keyID,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           slices.Clone(p.ExtKeyUsage),
		BasicConstraintsValid: true,
		IssuingCertificateURL: []string{a.certificateURL(by.ID)},
	}
	if strings.HasPrefix(string(kt), "RSA-") && slices.ContainsFunc(p.ExtKeyUsage, usesKeyTransport) {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if isHostName(name) {
		t.DNSNames = []string{name}
	}
	return t, nil
}

// subjectKeyID is the SHA-1 of the key's bits (RFC 5280 §4.2.1.2, method 1), taken from
// the encoding that is there already.
func subjectKeyID(spki []byte) ([]byte, error) {
	input := cryptobyte.String(spki)
	var key cryptobyte.String
	var bits []byte
	if !input.ReadASN1(&key, cbasn1.SEQUENCE) || !key.SkipASN1(cbasn1.SEQUENCE) || !key.ReadASN1BitStringAsBytes(&bits) {
		return nil, errors.New("no subjectPublicKeyInfo")
	}
	id := sha1.Sum(bits)
	return id[:], nil
}

// usesKeyTransport reports whether keyEncipherment is consistent with a purpose; it is
// not with clientAuth (RFC 5280 §4.2.1.12).
func usesKeyTransport(u x509.ExtKeyUsage) bool {
	return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageEmailProtection
}

func shapeOf(by IssuerID, p policies.Profile, kt policies.KeyType, t *x509.Certificate, form string) shape {
	usages := make([]byte, len(p.ExtKeyUsage))
	for i, u := range p.ExtKeyUsage {
		usages[i] = byte(u)
	}
	return shape{
		issuer: by, profile: p.Name, lifetime: p.Lifetime, backdate: p.Backdate,
		usages: string(usages), key: kt, named: len(t.DNSNames) > 0, form: form,
	}
}

// isHostName reports whether an id, which is ASCII, can stand as a dNSName that every
// reader takes for the same thing: labels of RFC 1034 §3.5, no address, and no label
// of the form that IDNA reserves ("xn--", RFC 5891 §4.2.3.1).
func isHostName(id string) bool {
	if _, err := netip.ParseAddr(id); err == nil {
		return false
	}
	for label := range strings.SplitSeq(id, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsAny(label, "_:") ||
			(len(label) > 3 && label[2:4] == "--") {
			return false
		}
	}
	return true
}
