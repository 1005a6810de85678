package policies

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
)

const (
	tagTeletexString = asn1.Tag(20)
	tagBMPString     = asn1.Tag(30)

	serverAuth  = oidPurposes + "\x01"
	clientAuth  = oidPurposes + "\x02"
	ocspSigning = oidPurposes + "\x09"
	anyUsage    = "\x55\x1d\x25\x00"
)

// permissive allows every key type and both TLS roles.
func permissive() Profile {
	p := DefaultProfile()
	p.Keys = keyTypes[:]
	p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	return p
}

func TestAcceptableRequests(t *testing.T) {
	for name, f := range map[string]forgery{
		"a bare P-256 request":     {},
		"P-384":                    {key: testKeys().p384},
		"P-521":                    {key: testKeys().p521},
		"Ed25519":                  {key: testKeys().ed25519},
		"RSA of 2048 bits":         {key: testKeys().rsa2048},
		"RSA of 3072 bits":         {key: testKeys().rsa3072},
		"the id in another case":   {subject: []part{commonName("PRESS-0042")}},
		"a PrintableString name":   {subject: []part{set(nameAttribute(oidCommonName, text(tagPrintableString, "press-0042")))}},
		"an IA5String name":        {subject: []part{set(nameAttribute(oidCommonName, text(tagIA5String, "press-0042")))}},
		"other subject attributes": {subject: []part{set(nameAttribute(oidOrganization, text(asn1.UTF8String, "Line 3"))), commonName("press-0042")}},
		"a challenge password":     {attributes: []part{sequence(object(oidChallenge), set(text(asn1.UTF8String, "once")))}},
		"the id as DNS name":       {attributes: []part{requesting(altNames(generalName(2, "Press-0042")))}},
		"an end entity's wishes": {attributes: []part{requesting(
			critical(oidBasicConstraints, sequence()),
			usage(0xa0), // digitalSignature, keyEncipherment
			purposesOf(clientAuth, serverAuth),
			ext(oidSubjectKeyID, text(asn1.OCTET_STRING, "0123")))}},
		"CA:FALSE spelled out":          {attributes: []part{requesting(ext(oidBasicConstraints, sequence(boolean(false))))}},
		"an unknown extension":          {attributes: []part{requesting(ext(oidTLSFeature, sequence()))}},
		"an extension request of none":  {attributes: []part{requesting()}},
		"an unknown attribute repeated": {attributes: []part{sequence(object(oidChallenge), set()), sequence(object(oidChallenge), set())}},
	} {
		t.Run(name, func(t *testing.T) {
			if rule := f.verdict(t, permissive()); rule != "" {
				t.Errorf("refused: %s", rule)
			}
		})
	}
}

func TestRefusedRequests(t *testing.T) {
	keys := testKeys()
	p256, err := x509.MarshalPKIXPublicKey(keys.p256.Public())
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := x509.MarshalPKIXPublicKey(keys.p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	offCurve := bytes.Clone(p256)
	offCurve[len(offCurve)-1] ^= 1
	secp256k1 := bytes.Replace(p256, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x7f"), 1)
	padded := build(t, sequence( // what encoding/asn1 skips: a third field of the AlgorithmIdentifier
		sequence(object("\x2a\x86\x48\xce\x3d\x02\x01"), object("\x2a\x86\x48\xce\x3d\x03\x01\x07"), element(asn1.NULL)),
		text(asn1.BIT_STRING, "\x00"+string(p256[len(p256)-65:]))))

	cn := func(tag asn1.Tag, v string) []part { return []part{set(nameAttribute(oidCommonName, text(tag, v)))} }
	asks := func(e ...part) []part { return []part{requesting(e...)} }
	many := func(n int) (list []part) {
		for i := range n {
			list = append(list, ext("\x2a\x03"+string(rune(i+1)), sequence()))
		}
		return list
	}

	for name, c := range map[string]struct {
		forgery
		rule string
	}{
		"no subject":                         {forgery{subject: []part{}}, "csr-no-common-name"},
		"a subject without a common name":    {forgery{subject: []part{set(nameAttribute(oidOrganization, text(asn1.UTF8String, "press-0042")))}}, "csr-no-common-name"},
		"another device's name":              {forgery{subject: []part{commonName("press-0043")}}, "csr-names-other-device"},
		"a longer name":                      {forgery{subject: []part{commonName("press-0042 ")}}, "csr-names-other-device"},
		"a name cut by a NUL":                {forgery{subject: []part{commonName("press-0042\x00")}}, "csr-names-other-device"},
		"an empty name":                      {forgery{subject: []part{commonName("")}}, "csr-names-other-device"},
		"two names, the good one first":      {forgery{subject: []part{commonName("press-0042"), commonName("press-0043")}}, "csr-several-common-names"},
		"the same name twice":                {forgery{subject: []part{commonName("press-0042"), commonName("press-0042")}}, "csr-several-common-names"},
		"two names in one RDN":               {forgery{subject: []part{set(nameAttribute(oidCommonName, text(asn1.UTF8String, "press-0042")), nameAttribute(oidCommonName, text(asn1.UTF8String, "x")))}}, "csr-several-common-names"},
		"a BMPString name":                   {forgery{subject: cn(tagBMPString, "\x00p\x00r\x00e\x00s\x00s")}, "csr-common-name-type"},
		"a TeletexString name":               {forgery{subject: cn(tagTeletexString, "press-0042")}, "csr-common-name-type"},
		"a number for a name":                {forgery{subject: cn(asn1.INTEGER, "\x2a")}, "csr-common-name-type"},
		"an empty RDN":                       {forgery{subject: []part{set(), commonName("press-0042")}}, "csr-malformed"},
		"a third field in a name":            {forgery{subject: []part{set(sequence(object(oidCommonName), text(asn1.UTF8String, "press-0042"), boolean(true)))}}, "csr-malformed"},
		"another device's DNS name":          {forgery{attributes: asks(altNames(generalName(2, "press-0042"), generalName(2, "press-0043")))}, "csr-names-other-device"},
		"an IP address":                      {forgery{attributes: asks(altNames(generalName(7, "\x0a\x00\x00\x01")))}, "csr-name-kind-not-allowed"},
		"an e-mail address":                  {forgery{attributes: asks(altNames(generalName(1, "press-0042")))}, "csr-name-kind-not-allowed"},
		"a URI":                              {forgery{attributes: asks(altNames(generalName(6, "urn:dev:press-0042")))}, "csr-name-kind-not-allowed"},
		"an otherName":                       {forgery{attributes: asks(altNames(element(asn1.Tag(0).ContextSpecific().Constructed(), object(oidTLSFeature))))}, "csr-name-kind-not-allowed"},
		"a directory name":                   {forgery{attributes: asks(altNames(element(asn1.Tag(4).ContextSpecific().Constructed(), sequence(commonName("press-0042")))))}, "csr-name-kind-not-allowed"},
		"a registered id":                    {forgery{attributes: asks(altNames(generalName(8, "\x2a\x03\x04")))}, "csr-name-kind-not-allowed"},
		"alternative names with a tail":      {forgery{attributes: asks(ext(oidSubjectAltName, all2(sequence(generalName(2, "press-0042")), sequence())))}, "csr-malformed"},
		"CA:TRUE":                            {forgery{attributes: asks(critical(oidBasicConstraints, sequence(boolean(true))))}, "csr-asks-for-ca"},
		"a path length alone":                {forgery{attributes: asks(ext(oidBasicConstraints, sequence(text(asn1.INTEGER, "\x00"))))}, "csr-asks-for-ca"},
		"keyCertSign":                        {forgery{attributes: asks(usage(0x84))}, "csr-asks-for-ca"},
		"cRLSign":                            {forgery{attributes: asks(usage(0x82))}, "csr-asks-for-ca"},
		"OCSPSigning":                        {forgery{attributes: asks(purposesOf(clientAuth, ocspSigning))}, "csr-usage-not-allowed"},
		"any extended key usage":             {forgery{attributes: asks(purposesOf(anyUsage))}, "csr-usage-not-allowed"},
		"a usage outside the profile":        {forgery{attributes: asks(purposesOf(oidPurposes + "\x03"))}, "csr-usage-not-allowed"},
		"a usage nobody knows":               {forgery{attributes: asks(purposesOf(oidPurposes + "\x7f"))}, "csr-usage-not-allowed"},
		"an unknown critical extension":      {forgery{attributes: asks(critical(oidNameConstraints, sequence()))}, "csr-extension-not-allowed"},
		"an extension twice":                 {forgery{attributes: asks(purposesOf(clientAuth), purposesOf(clientAuth))}, "csr-extension-repeated"},
		"two extension requests":             {forgery{attributes: []part{requesting(usage(0x80)), requesting(purposesOf(clientAuth))}}, "csr-extension-repeated"},
		"an extension request of two values": {forgery{attributes: []part{sequence(object(oidExtensionRequest), set(sequence(), sequence(usage(0x84))))}}, "csr-extension-repeated"},
		"an extension request of no value":   {forgery{attributes: []part{sequence(object(oidExtensionRequest), set())}}, "csr-malformed"},
		"more extensions than anyone needs":  {forgery{attributes: asks(many(maxExtensions + 1)...)}, "csr-too-many-extensions"},
		"an extension with a fourth field":   {forgery{attributes: asks(sequence(object(oidTLSFeature), element(asn1.OCTET_STRING), boolean(true)))}, "csr-malformed"},
		"key usage that is no bit string":    {forgery{attributes: asks(ext(oidKeyUsage, sequence()))}, "csr-malformed"},
		"basic constraints with a tail":      {forgery{attributes: asks(ext(oidBasicConstraints, all2(sequence(), sequence())))}, "csr-malformed"},
		"usages that are no list":            {forgery{attributes: asks(ext(oidExtKeyUsage, object(clientAuth)))}, "csr-malformed"},
		"an attribute that is no attribute":  {forgery{attributes: []part{object(oidChallenge)}}, "csr-malformed"},
		"no attributes field":                {forgery{noAttrs: true}, "csr-malformed"},
		"a field after the attributes":       {forgery{extra: sequence()}, "csr-malformed"},
		"a version from the future":          {forgery{version: 2}, "csr-version"},
		"octets after the end":               {forgery{after: []byte{0}}, "csr-malformed"},
		"a signature by another key":         {forgery{spki: otherKey}, "csr-signature-wrong"},
		"a damaged signature":                {forgery{spoil: true}, "csr-signature-wrong"},
		"RSA's algorithm on an EC key":       {forgery{algorithm: oidRSAWithSHA256}, "csr-signature-wrong"},
		"ECDSA with SHA-1":                   {forgery{algorithm: oidECDSAWithSHA1, hash: crypto.SHA1}, "csr-signature-weak"},
		"RSA with SHA-1":                     {forgery{key: keys.rsa2048, algorithm: oidRSAWithSHA1, hash: crypto.SHA1}, "csr-signature-weak"},
		"RSA with MD5":                       {forgery{key: keys.rsa2048, algorithm: oidRSAWithMD5}, "csr-signature-weak"},
		"an algorithm nobody knows":          {forgery{algorithm: oidECDSAWithSHA224}, "csr-signature-not-allowed"},
		"P-224":                              {forgery{key: keys.p224}, "key-too-small"},
		"RSA of 1024 bits":                   {forgery{key: keys.rsa1024}, "key-too-small"},
		"a point off the curve":              {forgery{spki: offCurve}, "key-malformed"},
		"a curve nobody knows":               {forgery{spki: secp256k1}, "key-malformed"},
		"a second encoding of a key":         {forgery{spki: padded}, "key-malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			if rule := c.verdict(t, permissive()); rule != c.rule {
				t.Errorf("rule %q, want %q", rule, c.rule)
			}
		})
	}
}

// all2 puts two elements where one is expected.
func all2(a, b part) part {
	return func(out *cryptobyte.Builder) { a(out); b(out) }
}

func TestProfileNarrowsRequests(t *testing.T) {
	p := DefaultProfile()
	for name, c := range map[string]struct {
		forgery
		rule string
	}{
		"P-256 as always":      {forgery{}, ""},
		"P-521 only by choice": {forgery{key: testKeys().p521}, "key-type-not-allowed"},
		"Ed25519 likewise":     {forgery{key: testKeys().ed25519}, "key-type-not-allowed"},
		"clientAuth":           {forgery{attributes: []part{requesting(purposesOf(clientAuth))}}, ""},
		"serverAuth":           {forgery{attributes: []part{requesting(purposesOf(serverAuth))}}, "csr-usage-not-allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			if rule := c.verdict(t, p); rule != c.rule {
				t.Errorf("rule %q, want %q", rule, c.rule)
			}
		})
	}
}

func TestIDsThatFitNoCertificate(t *testing.T) {
	for _, id := range []string{"", strings.Repeat("a", 65)} {
		csr, err := ParseCSR(forgery{subject: []part{commonName(id)}}.der(t))
		if err != nil {
			t.Fatal(err)
		}
		if rule := ruleOf(t, CheckCSR(permissive(), csr, id)); rule != "csr-name-length" {
			t.Errorf("id of %d characters: rule %q", len(id), rule)
		}
	}
	longest := strings.Repeat("a", 64)
	csr, err := ParseCSR(forgery{subject: []part{commonName(longest)}}.der(t))
	if err == nil {
		err = CheckCSR(permissive(), csr, longest)
	}
	if err != nil {
		t.Errorf("64 characters refused: %v", err)
	}
}

func TestNamesFoldASCIIOnly(t *testing.T) {
	csr, err := ParseCSR(forgery{subject: []part{commonName("\u212aiosk")}}.der(t)) // KELVIN SIGN
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"kiosk", "xxkiosk"} { // as runes, and as long in octets
		if rule := ruleOf(t, CheckCSR(permissive(), csr, id)); rule != "csr-names-other-device" {
			t.Errorf("%s: rule %q", id, rule)
		}
	}
}

func TestRequestsOfTheStandardLibrary(t *testing.T) {
	request := func(template x509.CertificateRequest, key crypto.Signer) *x509.CertificateRequest {
		template.Subject = pkix.Name{CommonName: "press-0042", Organization: []string{"Line 3"}}
		der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := ParseCSR(der)
		if err != nil {
			t.Fatal(err)
		}
		return csr
	}
	for name, csr := range map[string]*x509.CertificateRequest{
		"EC":      request(x509.CertificateRequest{DNSNames: []string{"press-0042"}}, testKeys().p256),
		"RSA-PSS": request(x509.CertificateRequest{SignatureAlgorithm: x509.SHA384WithRSAPSS}, testKeys().rsa2048),
		"Ed25519": request(x509.CertificateRequest{}, testKeys().ed25519),
	} {
		if err := CheckCSR(permissive(), csr, "press-0042"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := x509.CertificateRequest{
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "x"}},
	}
	if rule := ruleOf(t, CheckCSR(permissive(), request(bad, testKeys().p256), "press-0042")); rule != "csr-name-kind-not-allowed" {
		t.Errorf("rule %q", rule)
	}
}

func TestSizeIsCheckedFirst(t *testing.T) {
	_, err := ParseCSR(make([]byte, MaxCSRSize+1))
	if !fault.Is(err, fault.TooLarge) || fault.RuleOf(err) != "csr-too-large" {
		t.Errorf("got %v", err)
	}
	if _, err := ParseCSR(make([]byte, MaxCSRSize)); ruleOf(t, err) != "csr-malformed" {
		t.Errorf("got %v", err)
	}
	if _, err := ParseCSR(nil); ruleOf(t, err) != "csr-malformed" {
		t.Errorf("got %v", err)
	}
}

func TestEveryCutRequestIsRefused(t *testing.T) {
	der := forgery{attributes: []part{requesting(altNames(generalName(2, "press-0042")))}}.der(t)
	for n := range len(der) {
		if _, err := ParseCSR(der[:n]); ruleOf(t, err) == "" {
			t.Errorf("the first %d of %d octets were accepted", n, len(der))
		}
	}
}

func TestRSAKeys(t *testing.T) {
	good := testKeys().rsa2048.N
	withExponent := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: good, E: e} }
	modulus := func(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }
	p := must(rand.Prime(rand.Reader, 1024))
	bits := func(n uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(n)-1, 1) }
	smallFactor := new(big.Int).Mul(big.NewInt(997), must(rand.Prime(rand.Reader, 2038)))

	for name, c := range map[string]struct {
		key  *rsa.PublicKey
		rule string
	}{
		"a good key":                 {withExponent(65537), ""},
		"the largest exponent":       {withExponent(1<<31 - 1), ""},
		"an exponent of 3":           {withExponent(3), "key-exponent"},
		"an exponent just too small": {withExponent(65535), "key-exponent"},
		"an even exponent":           {withExponent(65538), "key-exponent"},
		"an exponent no one checks":  {withExponent(1<<32 + 1), "key-exponent"},
		"a negative exponent":        {withExponent(-65537), "key-exponent"},
		"2047 bits":                  {modulus(bits(2047)), "key-too-small"},
		"2056 bits":                  {modulus(bits(2056)), "key-size-not-allowed"},
		"8192 bits":                  {modulus(bits(8192)), "key-size-not-allowed"},
		"an even modulus":            {modulus(new(big.Int).SetBit(good, 0, 0)), "key-small-factor"},
		"a factor of 997":            {modulus(smallFactor), "key-small-factor"},
		"a ROCA key":                 {modulus(rocaModulus()), "key-roca"},
		"neighbouring primes":        {modulus(closeModulus()), "key-close-primes"},
		"a square":                   {modulus(new(big.Int).Mul(p, p)), "key-close-primes"},
	} {
		t.Run(name, func(t *testing.T) {
			if rule := ruleOf(t, CheckKey(keyTypes[:], c.key)); rule != c.rule {
				t.Errorf("rule %q, want %q (%d bits)", rule, c.rule, c.key.N.BitLen())
			}
		})
	}
}

func TestFermatReach(t *testing.T) {
	p := must(rand.Prime(rand.Reader, 1024))
	for name, c := range map[string]struct {
		apart uint // q is the first number 2^apart above p
		close bool
	}{
		"half the digits alike":      {500, true},
		"an ordinary pair of primes": {1015, false},
	} {
		q := new(big.Int).Add(p, new(big.Int).Lsh(big.NewInt(1), c.apart))
		if got := closePrimes(new(big.Int).Mul(p, q)); got != c.close {
			t.Errorf("%s: close = %v", name, got)
		}
	}
}

func TestKeyTypes(t *testing.T) {
	k := testKeys()
	for want, pub := range map[KeyType]any{
		KeyECP256: k.p256.Public(), KeyECP384: k.p384.Public(), KeyECP521: k.p521.Public(),
		KeyEd25519: k.ed25519.Public(), KeyRSA2048: k.rsa2048.Public(), KeyRSA3072: k.rsa3072.Public(),
		KeyRSA4096: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 4095, 1), E: 65537},
	} {
		if got, err := KeyTypeOf(pub); got != want || err != nil {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
	for rule, pub := range map[string]any{
		"key-too-small":        k.p224.Public(),
		"key-malformed":        ed25519.PublicKey("short"),
		"key-type-not-allowed": nil,
	} {
		if _, err := KeyTypeOf(pub); ruleOf(t, err) != rule {
			t.Errorf("%s: %v", rule, err)
		}
	}
	moved := k.p256.PublicKey
	moved.Curve = k.p384.Curve
	if rule := ruleOf(t, CheckKey(keyTypes[:], &moved)); rule != "key-not-on-curve" {
		t.Errorf("a P-256 point called P-384: rule %q", rule)
	}
	if rule := ruleOf(t, CheckKey(nil, k.p256.Public())); rule != "key-type-not-allowed" {
		t.Errorf("nothing allowed: rule %q", rule)
	}
}

// FuzzParseCSR asks that no request, however damaged, ends in a panic, and that none
// is accepted for a name other than its own, as crypto/x509 reads it.
func FuzzParseCSR(f *testing.F) {
	for _, seed := range []forgery{
		{},
		{key: testKeys().ed25519},
		{key: testKeys().rsa2048, spoil: true},
		{subject: []part{commonName("press-0042"), commonName("press-0043")}},
		{attributes: []part{requesting(altNames(generalName(2, "press-0042")), usage(0x80), purposesOf(clientAuth))}},
		{attributes: []part{requesting(critical(oidBasicConstraints, sequence(boolean(true))))}},
	} {
		f.Add(seed.der(f), "press-0042")
	}
	f.Add([]byte{0x30, 0x80, 0, 0}, "")
	p := permissive()
	f.Fuzz(func(t *testing.T, der []byte, want string) {
		csr, err := ParseCSR(der)
		if err != nil {
			return
		}
		if CheckCSR(p, csr, want) != nil {
			return
		}
		if !strings.EqualFold(csr.Subject.CommonName, want) || want == "" {
			t.Errorf("common name %q accepted for %q", csr.Subject.CommonName, want)
		}
		for _, n := range csr.DNSNames {
			if !strings.EqualFold(n, want) {
				t.Errorf("DNS name %q accepted for %q", n, want)
			}
		}
		if len(csr.IPAddresses)+len(csr.URIs)+len(csr.EmailAddresses) != 0 {
			t.Errorf("accepted: %v %v %v", csr.IPAddresses, csr.URIs, csr.EmailAddresses)
		}
	})
}

// BenchmarkCheckCSR shows what parsing and deciding cost beside the one signature
// check that nothing can spare ("signature only").
func BenchmarkCheckCSR(b *testing.B) {
	p := permissive()
	attributes := []part{requesting(altNames(generalName(2, "press-0042")), usage(0x80), purposesOf(clientAuth))}
	for name, f := range map[string]forgery{
		"P-256":    {attributes: attributes},
		"RSA-2048": {attributes: attributes, key: testKeys().rsa2048},
	} {
		der := f.der(b)
		csr, err := ParseCSR(der)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/parse", func(b *testing.B) {
			for b.Loop() {
				_, err = ParseCSR(der)
			}
		})
		b.Run(name+"/check", func(b *testing.B) {
			for b.Loop() {
				err = CheckCSR(p, csr, "press-0042")
			}
		})
		b.Run(name+"/signature only", func(b *testing.B) {
			for b.Loop() {
				err = csr.CheckSignature()
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func TestAProfileWithNamesLeavesTheJudgementOfMostKindsToTheCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		kind            uint8
		without, within string
	}{
		"an email address":    {1, "csr-name-kind-not-allowed", ""},
		"a DNS name":          {2, "csr-names-other-device", ""},
		"a URI":               {6, "csr-name-kind-not-allowed", ""},
		"an IP address":       {7, "csr-name-kind-not-allowed", ""},
		"a registered id":     {8, "csr-name-kind-not-allowed", "csr-name-kind-not-allowed"},
		"something in x400":   {3, "csr-name-kind-not-allowed", "csr-name-kind-not-allowed"},
		"an EDI party's name": {5, "csr-name-kind-not-allowed", "csr-name-kind-not-allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			value := "a.example"
			if c.kind == 7 {
				value = "\x0a\x00\x00\x01"
			}
			der := forgery{attributes: []part{requesting(altNames(generalName(c.kind, value)))}}.der(t)
			csr, err := ParseCSR(der)
			if err != nil {
				t.Fatal(err)
			}
			p := permissive()
			if got := ruleOf(t, CheckCSR(p, csr, "press-0042")); got != c.without {
				t.Errorf("rule %q, want %q", got, c.without)
			}
			p.Names = &Names{}
			if got := ruleOf(t, CheckCSR(p, csr, "press-0042")); got != c.within {
				t.Errorf("with names: rule %q, want %q", got, c.within)
			}
		})
	}
}
