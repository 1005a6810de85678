package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"go.step.sm/crypto/x509util"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// applicant is who a certificate is for, and what they sent.
type applicant struct {
	id   verify.RegistrationID
	csr  *x509.CertificateRequest
	path []verify.Link // what attested them, leaf first; nil for a key
}

// recipe is what a profile asks for beyond the plain certificate, made ready.
type recipe struct {
	names    *namePolicy
	template *template.Template // nil: there is none
	digest   [sha256.Size]byte  // of the template's text
}

// maxRecipes bounds what is remembered: a few profiles in a few versions.
const maxRecipes = 64

// recipes remembers what was made of the profiles' texts, by those texts, so that each
// version of a profile is read once.
type recipes struct {
	mu     sync.RWMutex
	byText map[string]*recipe
}

func (r *recipes) of(p policies.Profile) (*recipe, error) {
	text := recipeText(p)
	r.mu.RLock()
	made := r.byText[text]
	r.mu.RUnlock()
	if made != nil {
		return made, nil
	}
	made, err := newRecipe(p)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byText == nil || len(r.byText) >= maxRecipes {
		r.byText = make(map[string]*recipe)
	}
	r.byText[text] = made
	return made, nil
}

func recipeText(p policies.Profile) string {
	if p.Names == nil {
		return p.Template
	}
	var b strings.Builder
	b.WriteString(p.Template)
	for _, rules := range []policies.NameRules{p.Names.Permitted, p.Names.Excluded} {
		for _, list := range [][]string{rules.DNS, rules.IP, rules.Email, rules.URI, rules.CommonName, rules.Principal} {
			b.WriteByte(0)
			for _, name := range list {
				b.WriteByte(1)
				b.WriteString(name)
			}
		}
	}
	return b.String()
}

func newRecipe(p policies.Profile) (*recipe, error) {
	names, err := newNamePolicy(p.Names)
	if err != nil {
		return nil, err
	}
	made := &recipe{names: names}
	if p.Template == "" {
		return made, nil
	}
	made.digest = sha256.Sum256([]byte(p.Template))
	made.template, err = template.New("template").Funcs(templateFuncs()).Parse(p.Template)
	if err != nil {
		return nil, refuseTemplate("template-malformed", "the template cannot be parsed: %s", err)
	}
	return made, nil
}

// templateFuncs are x509util's but for those that reach out of the process, make keys,
// or are costly by design. x509util has taken out those that read the environment.
func templateFuncs() template.FuncMap {
	funcs := x509util.GetFuncMap()
	for _, name := range []string{
		"env", "expandenv", "getHostByName",
		"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "buildCustomCert", "derivePassword",
		"bcrypt", "htpasswd", "encryptAES", "decryptAES", "randBytes", "repeat", "until", "untilStep", "seq",
	} {
		delete(funcs, name)
	}
	// x509util's keeps the message where the next run of the template would find it.
	funcs["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	return funcs
}

func refuseTemplate(rule, format string, args ...any) *fault.Error {
	return fault.New(fault.Malformed, rule, format, args...).At("/template")
}

// refine adds to the plain certificate of a device what its profile asks for beyond: the
// further names and extensions of its request, or what its template makes. It holds the
// result to the profile, and says which form it has for the linter; "" when nothing is
// added.
//
// Refusals of what a request asked for are Malformed: "name-not-permitted",
// "name-malformed". What a template does wrong is Malformed about "/template":
// "template-…".
func (a *Authority) refine(t *x509.Certificate, who applicant, p policies.Profile, by *issuer, now time.Time) (form string, err error) {
	if p.Template == "" && p.Names == nil && len(p.Extensions) == 0 {
		return "", nil
	}
	r, err := a.recipes.of(p)
	if err != nil {
		return "", err
	}
	asked := furtherNames(who)
	if err := r.names.check(who.id, asked); err != nil {
		return "", err // though a template may leave it out: nothing is corrected in silence
	}
	if r.template == nil {
		t.ExtraExtensions = append(t.ExtraExtensions, p.Taken(who.csr)...)
		t.DNSNames = append(t.DNSNames, asked.dns...)
		t.EmailAddresses, t.IPAddresses, t.URIs = asked.emails, asked.ips, asked.uris
		return formOf(t, fieldNames(t), r), r.names.check(who.id, fieldNames(t))
	}
	names, err := r.add(t, who, p, by, now)
	if err == nil {
		err = r.names.check(who.id, names)
	}
	if err != nil {
		return "", err
	}
	return formOf(t, names, r), nil
}

// furtherNames are the names that a request asks for beside the device's id.
func furtherNames(who applicant) altNames {
	names := altNames{emails: who.csr.EmailAddresses, ips: who.csr.IPAddresses, uris: who.csr.URIs}
	for _, name := range who.csr.DNSNames {
		if !who.id.Matches(name) && !slices.Contains(names.dns, name) {
			names.dns = append(names.dns, name)
		}
	}
	return names
}

func fieldNames(t *x509.Certificate) altNames {
	return altNames{dns: t.DNSNames, emails: t.EmailAddresses, ips: t.IPAddresses, uris: t.URIs}
}

// add runs the template and takes of its result what a template may say (INV-P4): the
// subject beside the common name, alternative names, key usage, extended key usage,
// policies, extensions and, within bounds, the validity.
func (r *recipe) add(t *x509.Certificate, who applicant, p policies.Profile, by *issuer, now time.Time) (altNames, error) {
	made, err := r.execute(t, who, p)
	if err != nil {
		return altNames{}, err
	}
	if err := checkPowers(made, p); err != nil {
		return altNames{}, err
	}
	if err := takeSubject(t, made, who.id); err != nil {
		return altNames{}, err
	}
	if t.NotBefore, t.NotAfter, err = p.Chosen(made.NotBefore, made.NotAfter, now, by.certificate.NotBefore, by.certificate.NotAfter); err != nil {
		if f := fault.As(err); f.Kind == fault.Malformed {
			return altNames{}, f.At("/template")
		}
		return altNames{}, err
	}
	t.ExtKeyUsage, t.Policies = made.ExtKeyUsage, made.Policies
	if made.KeyUsage != 0 {
		t.KeyUsage = made.KeyUsage
	}
	t.DNSNames, t.EmailAddresses, t.IPAddresses, t.URIs = made.DNSNames, made.EmailAddresses, made.IPAddresses, made.URIs
	names := fieldNames(t)
	for i, e := range made.ExtraExtensions {
		switch id := e.Id.String(); {
		case slices.ContainsFunc(made.ExtraExtensions[:i], func(o pkix.Extension) bool { return o.Id.Equal(e.Id) }):
			return names, refuseTemplate("template-extension", "the template sets the extension %s twice", id)
		case e.Id.Equal(oidSubjectAltName):
			var ok bool
			e.Critical = false // the subject is never empty (RFC 5280 §4.2.1.6)
			if names, ok = readAltNames(e.Value); !ok {
				return names, refuseTemplate("template-name", "the template makes an alternative name of a kind that no profile permits")
			}
			t.DNSNames, t.EmailAddresses, t.IPAddresses, t.URIs = nil, nil, nil, nil
		case policies.IsReservedExtension(id), id == p.KeyAttestationExtension:
			return names, refuseTemplate("template-extension", "the template sets the extension %s, which is not its to set", id)
		}
		t.ExtraExtensions = append(t.ExtraExtensions, e)
	}
	return names, nil
}

// oidSubjectAltName is id-ce-subjectAltName (RFC 5280 §4.2.1.6).
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// maxMade bounds what a template may write: what it writes may depend on what a device sent.
const maxMade = 64 << 10

// bounded is a buffer that refuses to grow beyond maxMade.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxMade {
		return 0, errors.New("the template writes more than 64 KiB")
	}
	return b.Buffer.Write(p)
}

// errNoJSON is the cause where what a template wrote is no JSON.
var errNoJSON = errors.New("no JSON")

func (r *recipe) execute(t *x509.Certificate, who applicant, p policies.Profile) (*x509.Certificate, error) {
	data := x509util.CreateTemplateData(t.Subject.CommonName, t.DNSNames)
	request := x509util.NewCertificateRequestFromX509(who.csr)
	// A template that copies all the extensions of a request copies those it is open to.
	request.Extensions, request.ChallengePassword = nil, ""
	for _, e := range p.Taken(who.csr) {
		request.Extensions = append(request.Extensions, x509util.Extension{ID: x509util.ObjectIdentifier(e.Id), Critical: e.Critical, Value: e.Value})
	}
	data.SetInsecure(x509util.CertificateRequestKey, request)
	if len(who.path) > 0 {
		chain := make([]*x509.Certificate, len(who.path))
		for i, l := range who.path {
			chain[i] = l.Cert
		}
		data.SetAuthorizationCertificate(chain[0])
		data.SetAuthorizationCertificateChain(chain[1:])
	}
	var out bounded
	if err := r.template.Execute(&out, data); err != nil {
		return nil, refuseTemplate("template-failed", "the template fails: %s", err)
	}
	return read(&out, who)
}

// read makes a certificate of what a template wrote.
func read(out *bounded, who applicant) (*x509.Certificate, error) {
	if !json.Valid(out.Bytes()) {
		return nil, refuseTemplate("template-failed", "the template does not write JSON").Because(errNoJSON)
	}
	made, err := x509util.NewCertificateFromX509(&x509.Certificate{PublicKey: who.csr.PublicKey, PublicKeyAlgorithm: who.csr.PublicKeyAlgorithm},
		func(_ *x509.CertificateRequest, o *x509util.Options) error { o.CertBuffer = &out.Buffer; return nil })
	if err != nil {
		return nil, refuseTemplate("template-failed", "the template does not make a certificate: %s", err)
	}
	return made.GetCertificate(), nil
}

// checkPowers refuses what no device certificate may have (INV-P4), and what is Muster's
// to set.
func checkPowers(made *x509.Certificate, p policies.Profile) error {
	const forCA = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case made.IsCA || made.MaxPathLen > 0 || made.MaxPathLenZero || made.KeyUsage&forCA != 0 || made.PermittedDNSDomainsCritical ||
		len(made.PermittedDNSDomains)+len(made.ExcludedDNSDomains)+len(made.PermittedIPRanges)+len(made.ExcludedIPRanges)+
			len(made.PermittedEmailAddresses)+len(made.ExcludedEmailAddresses)+len(made.PermittedURIDomains)+len(made.ExcludedURIDomains) > 0:
		return refuseTemplate("template-makes-ca", "the template would make a CA: it sets isCA, a path length, certSign, crlSign or name constraints")
	case len(made.ExtKeyUsage) == 0 && len(made.UnknownExtKeyUsage) == 0:
		return refuseTemplate("template-drops-usage", "the template sets no extKeyUsage, and a certificate without one may be used for anything")
	case len(made.UnknownExtKeyUsage) > 0 || slices.ContainsFunc(made.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return !slices.Contains(p.ExtKeyUsage, u) }):
		return refuseTemplate("template-usage", "the template sets an extended key usage that the profile does not have")
	case made.SerialNumber != nil || made.SignatureAlgorithm != 0 || len(made.SubjectKeyId)+len(made.AuthorityKeyId) > 0 ||
		len(made.OCSPServer)+len(made.IssuingCertificateURL)+len(made.CRLDistributionPoints) > 0:
		return refuseTemplate("template-field", "the template sets the serial number, the signature algorithm, a key identifier or an address of the issuer, which are not its to set")
	}
	return nil
}

// Bounds of the subject's attributes (RFC 5280 appendix A.1), and those that are not a
// template's to set.
const maxAttribute = 64

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// takeSubject takes the subject's attributes. The common name stays the device's id: a
// template may repeat it, and say no other (INV-P2).
func takeSubject(t, made *x509.Certificate, id verify.RegistrationID) error {
	name := made.Subject.CommonName
	switch {
	case len(made.RawSubject) > 0:
		return refuseTemplate("template-name", "the template sets rawSubject; it sets the subject by its attributes")
	case name != "" && !id.Matches(name):
		return refuseTemplate("template-name", "the template sets another common name than the registration id")
	}
	for _, e := range made.Subject.ExtraNames {
		if text, ok := e.Value.(string); !ok || len(text) > maxAttribute {
			return refuseTemplate("template-name", "the template makes an attribute of the subject that is no text of at most 64 octets")
		}
		if e.Type.Equal(oidCommonName) || e.Type.Equal(oidEmailAddress) {
			return refuseTemplate("template-name", "the template sets a further common name or an email address in the subject")
		}
	}
	for _, values := range [][]string{
		made.Subject.Organization, made.Subject.OrganizationalUnit, made.Subject.Locality, made.Subject.Province,
		made.Subject.StreetAddress, made.Subject.PostalCode, {made.Subject.SerialNumber}, made.Subject.Country,
	} {
		if slices.ContainsFunc(values, func(v string) bool { return len(v) > maxAttribute }) {
			return refuseTemplate("template-name", "the template makes an attribute of the subject longer than 64 octets")
		}
	}
	if slices.ContainsFunc(made.Subject.Country, func(c string) bool { return len(c) != 2 }) {
		return refuseTemplate("template-name", "the template makes a country that is not a code of two letters")
	}
	own := t.Subject.CommonName
	t.Subject = made.Subject
	t.Subject.CommonName = own
	return nil
}

// ofTemplate is a refusal as a device is given it: what its profile's template does wrong
// is its operator's to mend.
func ofTemplate(err error, p policies.Profile) error {
	f := fault.As(err)
	if f == nil || f.Kind != fault.Malformed || len(f.Fields) == 0 || f.Fields[0].Pointer != "/template" {
		return err
	}
	f = f.About("profile " + p.Name)
	f.Kind, f.Fields = fault.Unavailable, nil
	return f
}
