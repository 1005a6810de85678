package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// templated is a profile with a template that has these members, and clientAuth.
func templated(members string, edits ...func(*policies.Profile)) policies.Profile {
	p := policies.DefaultProfile()
	p.Keys = []policies.KeyType{policies.KeyECP256, policies.KeyRSA2048, policies.KeyEd25519}
	p.Template = `{"extKeyUsage": ["clientAuth"]` + members + `}`
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func permitting(r policies.NameRules) func(*policies.Profile) {
	return func(p *policies.Profile) { p.Names = &policies.Names{Permitted: r} }
}

func bounds(least, most time.Duration) func(*policies.Profile) {
	return func(p *policies.Profile) { p.MinLifetime, p.MaxLifetime = least, most }
}

// Each template is tried on save, and again as if it had been saved before the rule was.
func TestWhatATemplateMakesIsHeldToTheProfile(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		p    policies.Profile
		rule string
	}{
		"nothing but the usage":              {templated(``), ""},
		"the subject as it is":               {templated(`, "subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }}`), ""},
		"an organization":                    {templated(`, "subject": {"organization": "Plant", "country": "DE"}`), ""},
		"not a CA, spelled out":              {templated(`, "basicConstraints": {"isCA": false}`), ""},
		"key usage of an end entity":         {templated(`, "keyUsage": ["digitalSignature", "keyAgreement"]`, func(p *policies.Profile) { p.Keys = p.Keys[:1] }), ""},
		"an extension of one's own":          {templated(`, "extensions": [{"id": "1.3.6.1.4.1.99999.1", "value": "BQA="}]`), ""},
		"a certificate policy":               {templated(`, "policyIdentifiers": ["1.3.6.1.4.1.99999.2"]`), ""},
		"a permitted DNS name":               {templated(`, "dnsNames": ["{{ .Subject.CommonName }}.plant.example"]`, permitting(policies.NameRules{DNS: []string{"*.plant.example"}})), ""},
		"a permitted principal":              {templated(`, "sans": [{"type": "userPrincipalName", "value": "{{ .Subject.CommonName }}@plant.example"}]`, permitting(policies.NameRules{Principal: []string{"*"}})), ""},
		"a validity within bounds":           {templated(`, "notAfter": {{ now | dateModify "+48h" | toJson }}`, bounds(day, 0)), ""},
		"a CA":                               {templated(`, "basicConstraints": {"isCA": true}`), "template-makes-ca"},
		"a CA with a path length":            {templated(`, "basicConstraints": {"isCA": true, "maxPathLen": 1}`), "template-makes-ca"},
		"certSign":                           {templated(`, "keyUsage": ["certSign"]`), "template-makes-ca"},
		"crlSign":                            {templated(`, "keyUsage": ["digitalSignature", "crlSign"]`), "template-makes-ca"},
		"name constraints":                   {templated(`, "nameConstraints": {"permittedDNSDomains": ["a.example"]}`), "template-makes-ca"},
		"a CA by a raw extension":            {templated(`, "extensions": [{"id": "2.5.29.19", "critical": true, "value": "MAMBAf8="}]`), "template-extension"},
		"key usage by a raw extension":       {templated(`, "extensions": [{"id": "2.5.29.15", "value": "AwIBBg=="}]`), "template-extension"},
		"usage by a raw extension":           {templated(`, "extensions": [{"id": "2.5.29.37", "value": "MAYGBFUdJQA="}]`), "template-extension"},
		"an OCSP responder by extension":     {templated(`, "extensions": [{"id": "1.3.6.1.5.5.7.48.1.5", "value": "BQA="}]`), "template-extension"},
		"the extension of attested keys":     {templated(`, "extensions": [{"id": "1.2.3.4", "value": "DAN0cG0="}]`, func(p *policies.Profile) { p.KeyAttestationExtension = "1.2.3.4" }), "template-extension"},
		"an extension twice":                 {templated(`, "extensions": [{"id": "1.2.3.4", "value": "BQA="}, {"id": "1.2.3.4", "value": "BQA="}]`), "template-extension"},
		"OCSPSigning":                        {templated(`, "extKeyUsage": ["clientAuth", "ocspSigning"]`), "template-usage"},
		"any usage":                          {templated(`, "extKeyUsage": ["any"]`), "template-usage"},
		"a usage the profile does not have":  {templated(`, "extKeyUsage": ["serverAuth"]`), "template-usage"},
		"a usage of one's own":               {templated(`, "unknownExtKeyUsage": ["1.3.6.1.4.1.99999.3"]`), "template-usage"},
		"no usage":                           {templated(`, "extKeyUsage": []`), "template-drops-usage"},
		"the request as it is":               {templated(``, func(p *policies.Profile) { p.Template = `{{ toJson .Insecure.CR }}` }), "template-drops-usage"},
		"another common name":                {templated(`, "subject": {"commonName": "press-08"}`), "template-name"},
		"a second common name":               {templated(`, "subject": {"extraNames": [{"type": "2.5.4.3", "value": "press-08"}]}`), "template-name"},
		"an email address in the subject":    {templated(`, "subject": {"extraNames": [{"type": "1.2.840.113549.1.9.1", "value": "a@b.example"}]}`), "template-name"},
		"a raw subject":                      {templated(`, "rawSubject": "MAA="`), "template-name"},
		"a long organization":                {templated(`, "subject": {"organization": "` + strings.Repeat("x", 65) + `"}`), "template-name"},
		"a directory name":                   {templated(`, "sans": [{"type": "dn", "asn1Value": {"commonName": "press-08"}}]`, permitting(policies.NameRules{DNS: []string{"*.a.example"}})), "template-name"},
		"a registered id":                    {templated(`, "sans": [{"type": "registeredID", "value": "1.2.3"}]`), "template-name"},
		"a DNS name without permission":      {templated(`, "dnsNames": ["press-08"]`), "name-not-permitted"},
		"an address without permission":      {templated(`, "ipAddresses": ["10.0.0.1"]`), "name-not-permitted"},
		"a principal without permission":     {templated(`, "sans": [{"type": "userPrincipalName", "value": "root@plant.example"}]`), "name-not-permitted"},
		"a DNS name in a raw extension":      {templated(`, "extensions": [{"id": "2.5.29.17", "value": "MAqCCHByZXNzLTA4"}]`), "name-not-permitted"},
		"a raw extension that is no names":   {templated(`, "extensions": [{"id": "2.5.29.17", "value": "BQA="}]`), "template-name"},
		"a serial number":                    {templated(`, "serialNumber": 1`), "template-field"},
		"an address of another CRL":          {templated(`, "crlDistributionPoints": ["http://evil.example/crl"]`), "template-field"},
		"an OCSP server":                     {templated(`, "ocspServer": ["http://evil.example"]`), "template-field"},
		"a signature algorithm":              {templated(`, "signatureAlgorithm": "SHA1-RSA"`), "template-field"},
		"a validity without bounds":          {templated(`, "notAfter": "2026-03-05T12:00:00Z"`), "template-validity"},
		"a validity that is too long":        {templated(`, "notAfter": "2036-03-05T12:00:00Z"`, bounds(day, 100*day)), "template-validity"},
		"a validity that is too short":       {templated(`, "notAfter": "2026-03-04T13:00:00Z"`, bounds(day, 0)), "template-validity"},
		"a validity that is over":            {templated(`, "notBefore": "2026-03-04T11:30:00Z", "notAfter": "2026-03-04T11:55:00Z"`, bounds(time.Minute, 0)), "template-validity"},
		"a validity from long ago":           {templated(`, "notBefore": "2026-03-01T12:00:00Z"`, bounds(day, 0)), "template-validity"},
		"a validity from tomorrow":           {templated(`, "notBefore": "2026-03-05T12:00:00Z"`, bounds(day, 0)), "template-validity"},
		"a key usage that RSA keys have not": {templated(`, "keyUsage": ["digitalSignature", "keyAgreement"]`, func(p *policies.Profile) { p.Keys = p.Keys[1:2] }), "certificate-lint"},
		"a country of three letters":         {templated(`, "subject": {"country": "DEU"}`), "template-name"},
		"no JSON":                            {templated(``, func(p *policies.Profile) { p.Template = `hello` }), "template-failed"},
		"a field that is not there":          {templated(`, "subject": {{ .Nothing.At.All }}`), "template-failed"},
		"its own refusal":                    {templated(`{{ fail "not today" }}`), "template-failed"},
		"too much text":                      {templated(`{{ range (list 1 2 3 4 5 6 7 8 9 10) }}` + strings.Repeat(" ", 8000) + `{{ end }}`), "template-failed"},
		"a brace too few":                    {templated(`{{ .Subject `), "template-malformed"},
		"the environment":                    {templated(`, "subject": {{ env "HOME" | toJson }}`), "template-malformed"},
		"the environment, expanded":          {templated(`, "subject": {{ expandenv "$HOME" | toJson }}`), "template-malformed"},
		"the network":                        {templated(`, "ipAddresses": [{{ getHostByName "a.example" | toJson }}]`), "template-malformed"},
		"a private key":                      {templated(`, "subject": {{ genPrivateKey "rsa" | toJson }}`), "template-malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a validity within bounds" {
				w.now = time.Now() // what templates call now
				defer func() { w.now = noon }()
			}
			err := w.CheckProfile(c.p, w.now)
			if fault.RuleOf(err) != c.rule {
				t.Fatalf("on save: %v (rule %q), want rule %q", err, fault.RuleOf(err), c.rule)
			}
			if f := fault.As(err); f != nil && (f.Kind != fault.Malformed || len(f.Fields) != 1 || f.Fields[0].Pointer != "/template") {
				t.Errorf("on save: %v with fields %v, want it about /template", f.Kind, f.Fields)
			}
			if name == "a validity within bounds" {
				return // the issuers here are of another year
			}
			kt := c.p.Keys[0]
			u, err := w.Issue(t.Context(), identity(t, "press-07"), request(t, "press-07", deviceKey(t, kt)), c.p, verify.Thumbprint{}, w.now)
			if fault.RuleOf(err) != c.rule {
				t.Fatalf("on issue: %v (rule %q), want rule %q", err, fault.RuleOf(err), c.rule)
			}
			if c.rule != "" {
				if strings.HasPrefix(c.rule, "template-") && fault.KindOf(err) != fault.Unavailable {
					t.Errorf("on issue: a device is told %v of its operator's mistake", fault.KindOf(err))
				}
				return
			}
			issued, err := w.record(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			lintClean(t, issued.DER)
		})
	}
}

func TestATemplateQuotesWhatADeviceWrote(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	for name, c := range map[string]struct{ members, rule string }{
		"an attribute, quoted":                 {`, "subject": {"organization": {{ toJson .Insecure.CR.Subject.Organization }}}`, ""},
		"the subject, quoted":                  {`, "subject": {{ toJson .Insecure.CR.Subject }}`, ""},
		"an attribute as it is":                {`, "subject": {"organization": "{{ range .Insecure.CR.Subject.Organization }}{{ . }}{{ end }}"}`, "template-failed"},
		"an attribute as it is, if there":      {`{{ with .Insecure.CR.Subject.Organization }}, "subject": {"organization": "{{ index . 0 }}"}{{ end }}`, "template-failed"},
		"a serial number as it is":             {`, "subject": {"serialNumber": "{{ .Insecure.CR.Subject.SerialNumber }}"}`, "template-failed"},
		"an unusual attribute as it is":        {`, "subject": {"organization": "{{ range .Insecure.CR.Subject.ExtraNames }}{{ .Value }}{{ end }}"}`, "template-failed"},
		"the attesting certificate's, quoted":  {`, "subject": {"organization": {{ toJson .AuthorizationCrt.Subject.Organization }}}`, ""},
		"the attesting certificate's as it is": {`, "subject": {"organization": "{{ range .AuthorizationCrt.Subject.Organization }}{{ . }}{{ end }}"}`, "template-failed"},
		"the id as it is":                      {`, "subject": {"organization": "{{ .Subject.CommonName }}"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := w.CheckProfile(templated(c.members), w.now); fault.RuleOf(err) != c.rule {
				t.Errorf("on save: %v, want rule %q", err, c.rule)
			}
		})
	}
}

func TestATemplateSaysWhatACertificateHolds(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	mark := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: []byte{5, 0}}
	basicCA := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Value: []byte{5, 0}}
	csr := requestFor(t, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "Press-07", OrganizationalUnit: []string{"Line 3"}},
		ExtraExtensions: []pkix.Extension{mark, basicCA},
	}, deviceKey(t, policies.KeyECP256))
	p := templated(`, "subject": {"organization": "Plant", "organizationalUnit": {{ toJson .Insecure.CR.Subject.OrganizationalUnit }}},
		"sans": {{ toJson .SANs }}, "dnsNames": ["{{ lower .Subject.CommonName }}.plant.example"],
		"keyUsage": ["digitalSignature", "keyAgreement"], "extensions": {{ toJson .Insecure.CR.Extensions }},
		"notAfter": "2026-03-06T12:00:00Z"`,
		permitting(policies.NameRules{DNS: []string{"*.plant.example"}}), bounds(24*time.Hour, 0),
		func(p *policies.Profile) { p.Extensions = []string{"1.3.6.1.4.1.99999.1"} })
	u, err := w.Issue(t.Context(), identity(t, "press-07"), csr, p, verify.Thumbprint{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := w.record(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(issued.DER)
	if got := leaf.Subject.String(); got != "CN=Press-07,OU=Line 3,O=Plant" {
		t.Errorf("subject %s", got)
	}
	if got := strings.Join(leaf.DNSNames, " "); got != "press-07.plant.example Press-07" {
		t.Errorf("names %s", got)
	}
	if !leaf.NotAfter.Equal(noon.Add(48*time.Hour)) || leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement {
		t.Errorf("until %s, usage %b", leaf.NotAfter, leaf.KeyUsage)
	}
	has := func(id asn1.ObjectIdentifier) bool {
		for _, e := range leaf.Extensions {
			if e.Id.Equal(id) {
				return true
			}
		}
		return false
	}
	if !has(mark.Id) || has(basicCA.Id) {
		t.Error("the extension that the profile lets through is not there, or another one is")
	}
	if len(leaf.CRLDistributionPoints) != 1 || len(leaf.AuthorityKeyId) == 0 {
		t.Error("what is the issuer's to say is missing")
	}
}

func TestExtensionsOfARequestAreCopiedWhereTheProfileSaysSo(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	mark := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}
	other := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Value: []byte{5, 0}}
	csr := requestFor(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "press-07"}, ExtraExtensions: []pkix.Extension{mark, other}}, deviceKey(t, policies.KeyECP256))
	p := policies.DefaultProfile()
	if err := policies.CheckCSR(p, csr, "press-07"); fault.RuleOf(err) != "csr-extension-not-allowed" {
		t.Errorf("got %v, want a refusal of what the request insists on", err)
	}
	p.Extensions = []string{mark.Id.String()}
	if err := policies.CheckCSR(p, csr, "press-07"); err != nil {
		t.Error(err)
	}
	draft, err := w.Draft(identity(t, "press-07").ID(), csr, p, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if len(draft.ExtraExtensions) != 1 || !draft.ExtraExtensions[0].Id.Equal(mark.Id) {
		t.Errorf("extensions %v, want the one that is let through", draft.ExtraExtensions)
	}
}

// FuzzTemplateResult feeds what a template writes, and what a device's request brings.
func FuzzTemplateResult(f *testing.F) {
	f.Add(`{"extKeyUsage": ["clientAuth"]}`, "a.plant.example")
	f.Add(`{"extKeyUsage": ["clientAuth"], "basicConstraints": {"isCA": true}}`, "*")
	f.Add(`{"extKeyUsage": ["clientAuth"], "sans": [{"type": "email", "value": "a@*"}], "emailAddresses": ["@"]}`, "")
	f.Add(`{"extKeyUsage": ["clientAuth"], "extensions": [{"id": "2.5.29.17", "value": "MAqCCHByZXNzLTA4"}]}`, "x")
	f.Add(`{{ toJson .Insecure.CR }}`, "a.plant.example")
	w, _, _ := newHierarchy(f, "")
	key := deviceKey(f, policies.KeyECP256)
	who := identity(f, "press-07")
	f.Fuzz(func(t *testing.T, text, name string) {
		p := templated("", permitting(policies.NameRules{
			DNS: []string{"*.plant.example"}, Email: []string{"@plant.example", "a@b.example"}, URI: []string{"plant.example"}, IP: []string{"10.0.0.0/8"},
		}), bounds(time.Minute, 0))
		p.Template = text
		csr := request(t, "press-07", key)
		csr.DNSNames, csr.EmailAddresses = []string{name}, []string{name}
		draft, err := w.Draft(who.ID(), csr, p, noon)
		if err != nil {
			if fault.As(err) == nil {
				t.Errorf("an error without a rule: %v", err)
			}
			return
		}
		if draft.IsCA || draft.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 || len(draft.ExtKeyUsage) != 1 || len(draft.UnknownExtKeyUsage) > 0 ||
			draft.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || draft.Subject.CommonName != "press-07" || draft.NotAfter.Sub(draft.NotBefore) > p.Lifetime {
			t.Errorf("made %+v", draft)
		}
		for _, n := range draft.DNSNames {
			if n != "press-07" && !strings.HasSuffix(strings.ToLower(n), ".plant.example") {
				t.Errorf("made the name %q", n)
			}
		}
		for _, e := range draft.ExtraExtensions {
			if id := e.Id.String(); id != "2.5.29.17" && policies.IsReservedExtension(id) {
				t.Errorf("made the extension %s", id)
			}
		}
	})
}
