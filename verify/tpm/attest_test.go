package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify/tpm"
)

// pretended is an attestation without a TPM: whatever one could say, and what none would.
type pretended struct {
	ak, key       tpm2.TPMTPublic
	akKey, newKey crypto.Signer
	said          tpm2.TPMSAttest
	hash          crypto.Hash
	secret        []byte
}

var signerAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true}

func onCurve(curve tpm2.TPMECCCurve, scheme tpm2.TPMTECCScheme) tpm2.TPMUPublicParms {
	return tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve, Scheme: scheme})
}

func ecdsaOf(hash tpm2.TPMIAlgHash) tpm2.TPMTECCScheme {
	return tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}
}

func rsaOf(scheme tpm2.TPMTRSAScheme) tpm2.TPMUPublicParms {
	return tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Scheme: scheme})
}

func rsassa() tpm2.TPMTRSAScheme {
	return tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}
}

func rsapss() tpm2.TPMTRSAScheme {
	return tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})}
}

// uniqueOf is a key's public half as a TPM has it.
func uniqueOf(t testing.TB, key crypto.Signer) (tpm2.TPMAlgID, tpm2.TPMUPublicID) {
	t.Helper()
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return tpm2.TPMAlgRSA, tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: pub.N.Bytes()})
	case *ecdsa.PublicKey:
		size := (pub.Params().BitSize + 7) / 8
		return tpm2.TPMAlgECC, tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: pub.X.FillBytes(make([]byte, size))}, Y: tpm2.TPM2BECCParameter{Buffer: pub.Y.FillBytes(make([]byte, size))},
		})
	}
	t.Fatalf("a key of type %T", key)
	return 0, tpm2.TPMUPublicID{}
}

// p256 has the coordinates that crypto hides from those who make keys by other means.
func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pretend says of a new key all that is asked for.
func pretend(t testing.TB) *pretended {
	t.Helper()
	p := &pretended{akKey: p256(t), newKey: p256(t), hash: crypto.SHA256, secret: bytes.Repeat([]byte{7}, 32)}
	p.ak = tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signerAttributes, Parameters: onCurve(tpm2.TPMECCNistP256, ecdsaOf(tpm2.TPMAlgSHA256))}
	p.ak.Type, p.ak.Unique = uniqueOf(t, p.akKey)
	p.key = tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signerAttributes, Parameters: onCurve(tpm2.TPMECCNistP256, tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull})}
	p.key.ObjectAttributes.Restricted = false
	p.key.Type, p.key.Unique = uniqueOf(t, p.newKey)
	p.said = tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestCertify, ExtraData: tpm2.TPM2BData{Buffer: p.secret}}
	return p
}

// named completes what is said by the key's name.
func (p *pretended) named(t testing.TB) {
	t.Helper()
	name, err := tpm2.ObjectName(&p.key)
	if err != nil {
		t.Fatal(err)
	}
	p.said.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{Name: *name, QualifiedName: *name})
}

// signature is the attestation key's, in its scheme.
func (p *pretended) signature(t testing.TB, signed []byte) tpm2.TPMTSignature {
	t.Helper()
	h := p.hash.New()
	h.Write(signed)
	alg := map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384}[p.hash]
	switch key := p.akKey.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		return tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash: alg, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()},
		})}
	case *rsa.PrivateKey:
		parameters, err := p.ak.Parameters.RSADetail()
		if err != nil {
			t.Fatal(err)
		}
		var made []byte
		if parameters.Scheme.Scheme == tpm2.TPMAlgRSAPSS {
			made, err = rsa.SignPSS(rand.Reader, key, p.hash, h.Sum(nil), nil)
		} else {
			made, err = rsa.SignPKCS1v15(rand.Reader, key, p.hash, h.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		return tpm2.TPMTSignature{SigAlg: parameters.Scheme.Scheme, Signature: tpm2.NewTPMUSignature(parameters.Scheme.Scheme, &tpm2.TPMSSignatureRSA{
			Hash: alg, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: made},
		})}
	}
	t.Fatalf("a key of type %T", p.akKey)
	return tpm2.TPMTSignature{}
}

func (p *pretended) made(t testing.TB) tpm.Attestation {
	t.Helper()
	signed := tpm2.Marshal(p.said)
	return tpm.Attestation{CertifyInfo: tpm2.Marshal(tpm2.New2B(p.said)), Signature: tpm2.Marshal(p.signature(t, signed)), KeyPublic: public(p.key)}
}

func spki(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// check checks it for the key that a request would have.
func (p *pretended) check(t testing.TB, a tpm.Attestation) error {
	t.Helper()
	ak, err := tpm.ParseAttestationKey(public(p.ak))
	if err != nil {
		t.Fatal(err)
	}
	return a.Check(ak, spki(t, p.newKey), p.secret)
}

// TestAnAttestationVouchesForOneKey is what is asked of an attestation, each point in a pair:
// with it all is well, and without it nothing is.
func TestAnAttestationVouchesForOneKey(t *testing.T) {
	t.Parallel()
	rsaKey := testkit.NewKey(t, "rsa")
	for name, change := range map[string]func(p *pretended){
		"as it is": func(*pretended) {},
		"a key that may also decrypt": func(p *pretended) {
			p.key.ObjectAttributes.Decrypt = true
		},
		"signed with SHA-384": func(p *pretended) {
			p.ak.Parameters, p.hash = onCurve(tpm2.TPMECCNistP256, ecdsaOf(tpm2.TPMAlgSHA384)), crypto.SHA384
		},
		"names of SHA-384": func(p *pretended) { p.ak.NameAlg, p.key.NameAlg = tpm2.TPMAlgSHA384, tpm2.TPMAlgSHA384 },
		"signed by RSASSA": func(p *pretended) {
			p.akKey, p.ak.Parameters = rsaKey, rsaOf(rsassa())
			p.ak.Type, p.ak.Unique = uniqueOf(t, rsaKey)
		},
		"signed by RSAPSS": func(p *pretended) {
			p.akKey, p.ak.Parameters = rsaKey, rsaOf(rsapss())
			p.ak.Type, p.ak.Unique = uniqueOf(t, rsaKey)
		},
		"of an RSA key": func(p *pretended) {
			p.newKey, p.key.Parameters = rsaKey, rsaOf(tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull})
			p.key.Type, p.key.Unique = uniqueOf(t, rsaKey)
		},
	} {
		p := pretend(t)
		change(p)
		p.named(t)
		if err := p.check(t, p.made(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused := func(name string, err error) {
		t.Helper()
		if !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != tpm.RuleKeyAttestation {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(p *pretended){
		"a key that may leave its TPM":    func(p *pretended) { p.key.ObjectAttributes.FixedTPM = false },
		"a key that may leave its parent": func(p *pretended) { p.key.ObjectAttributes.FixedParent = false },
		"a key that was made elsewhere":   func(p *pretended) { p.key.ObjectAttributes.SensitiveDataOrigin = false },
		"a key that does not sign":        func(p *pretended) { p.key.ObjectAttributes.SignEncrypt = false },
		"a key named by SHA-1":            func(p *pretended) { p.key.NameAlg = tpm2.TPMAlgSHA1 },
		"not made by a TPM":               func(p *pretended) { p.said.Magic = 0x47435455 },
		"the secret of another challenge": func(p *pretended) { p.said.ExtraData.Buffer = bytes.Repeat([]byte{8}, 32) },
		"a part of the secret":            func(p *pretended) { p.said.ExtraData.Buffer = p.secret[:31] },
		"no secret":                       func(p *pretended) { p.said.ExtraData.Buffer = nil },
		"signed by another key":           func(p *pretended) { p.akKey = p256(t) },
		"signed with another hash":        func(p *pretended) { p.hash = crypto.SHA384 },
	} {
		p := pretend(t)
		change(p)
		p.named(t)
		refused(name, p.check(t, p.made(t)))
	}
	for name, said := range map[string]tpm2.TPMUAttest{
		"about the time":      tpm2.NewTPMUAttest(tpm2.TPMSTAttestTime, &tpm2.TPMSTimeAttestInfo{}),
		"about its registers": tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{}),
	} {
		p := pretend(t)
		p.said.Type, p.said.Attested = map[string]tpm2.TPMST{"about the time": tpm2.TPMSTAttestTime, "about its registers": tpm2.TPMSTAttestQuote}[name], said
		refused(name, p.check(t, p.made(t)))
	}

	p := pretend(t)
	p.named(t)
	good := p.made(t)
	other := pretend(t)
	other.named(t)
	theirs := other.made(t)
	longer := func(b []byte) []byte { // with its length
		b = append(bytes.Clone(b), 0)
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
		return b
	}
	for name, a := range map[string]tpm.Attestation{
		"nothing":                      {},
		"of another key":               {CertifyInfo: good.CertifyInfo, Signature: good.Signature, KeyPublic: theirs.KeyPublic},
		"about another key":            {CertifyInfo: theirs.CertifyInfo, Signature: theirs.Signature, KeyPublic: good.KeyPublic},
		"another's altogether":         theirs,
		"without a signature":          {CertifyInfo: good.CertifyInfo, KeyPublic: good.KeyPublic},
		"a signature of something":     {CertifyInfo: good.CertifyInfo, Signature: theirs.Signature, KeyPublic: good.KeyPublic},
		"a signature, cut":             {CertifyInfo: good.CertifyInfo, Signature: good.Signature[:len(good.Signature)-1], KeyPublic: good.KeyPublic},
		"a signature and more":         {CertifyInfo: good.CertifyInfo, Signature: append(bytes.Clone(good.Signature), 0), KeyPublic: good.KeyPublic},
		"a signature that is too long": {CertifyInfo: good.CertifyInfo, Signature: make([]byte, 2000), KeyPublic: good.KeyPublic},
		"what is certified, cut":       {CertifyInfo: good.CertifyInfo[:len(good.CertifyInfo)-1], Signature: good.Signature, KeyPublic: good.KeyPublic},
		"what is certified and more":   {CertifyInfo: append(bytes.Clone(good.CertifyInfo), 0), Signature: good.Signature, KeyPublic: good.KeyPublic},
		"what is certified, longer":    {CertifyInfo: longer(good.CertifyInfo), Signature: good.Signature, KeyPublic: good.KeyPublic},
		"what is certified, too long":  {CertifyInfo: longer(make([]byte, 2000)), Signature: good.Signature, KeyPublic: good.KeyPublic},
		"the key, cut":                 {CertifyInfo: good.CertifyInfo, Signature: good.Signature, KeyPublic: good.KeyPublic[:20]},
		"the key, too long":            {CertifyInfo: good.CertifyInfo, Signature: good.Signature, KeyPublic: longer(make([]byte, 2000))},
	} {
		refused(name, p.check(t, a))
	}
	ak, err := tpm.ParseAttestationKey(public(p.ak))
	if err != nil {
		t.Fatal(err)
	}
	refused("for another key's request", good.Check(ak, spki(t, other.newKey), p.secret))
	refused("with no attestation key", good.Check(tpm.AttestationKey{}, spki(t, p.newKey), p.secret))
	refused("where nothing was bound", good.Check(ak, spki(t, p.newKey), nil))
	if (tpm.Attestation{}).IsZero() == good.IsZero() || ak.IsZero() || !bytes.Equal(ak.Bytes(), public(p.ak)) || len(ak.Name()) != 34 {
		t.Error("it is told as something else")
	}
}

func TestOnlyKeysThatSignWhatTheirTPMSaysAttest(t *testing.T) {
	t.Parallel()
	rsaKey := testkit.NewKey(t, "rsa")
	for name, change := range map[string]func(p *tpm2.TPMTPublic){
		"not restricted":       func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"not for signatures":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false },
		"for decryption too":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true },
		"may leave its TPM":    func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"may leave its parent": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false },
		"made elsewhere":       func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"named by SHA-1":       func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 },
		"signs with SHA-1":     func(p *tpm2.TPMTPublic) { p.Parameters = onCurve(tpm2.TPMECCNistP256, ecdsaOf(tpm2.TPMAlgSHA1)) },
		"signs with what it is set": func(p *tpm2.TPMTPublic) {
			p.Parameters = onCurve(tpm2.TPMECCNistP256, tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull})
		},
		"on P-521":    func(p *tpm2.TPMTPublic) { p.Parameters = onCurve(tpm2.TPMECCNistP521, ecdsaOf(tpm2.TPMAlgSHA256)) },
		"on no curve": func(p *tpm2.TPMTPublic) { p.Parameters = onCurve(tpm2.TPMECCNistP384, ecdsaOf(tpm2.TPMAlgSHA256)) },
		"of 1024 bits": func(p *tpm2.TPMTPublic) {
			p.Type, p.Unique = uniqueOf(t, rsaKey)
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 1024, Scheme: rsassa()})
		},
		"of the broken generator": func(p *tpm2.TPMTPublic) {
			p.Type, p.Unique = tpm2.TPMAlgRSA, tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: rocaModulus()})
			p.Parameters = rsaOf(rsassa())
		},
		"with the exponent 3": func(p *tpm2.TPMTPublic) {
			p.Type, p.Unique = uniqueOf(t, rsaKey)
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Exponent: 3, Scheme: rsassa()})
		},
	} {
		p := pretend(t)
		change(&p.ak)
		if _, err := tpm.ParseAttestationKey(public(p.ak)); !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != tpm.RuleAttestationKey {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := public(pretend(t).ak)
	for name, raw := range map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "and more": append(bytes.Clone(good), 0), "without length": good[2:],
		"a storage key": storageRSA(rsaKey.Public().(*rsa.PublicKey).N.Bytes(), nil),
	} {
		if _, err := tpm.ParseAttestationKey(raw); fault.RuleOf(err) != tpm.RuleAttestationKey {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzAttestation: no structure ends the process, and what is taken vouches for the one key and
// shows the secret.
func FuzzAttestation(f *testing.F) {
	p := pretend(f)
	p.named(f)
	good := p.made(f)
	f.Add(public(p.ak), good.CertifyInfo, good.Signature, good.KeyPublic)
	f.Add(public(p.ak), good.CertifyInfo[:40], good.Signature[:9], good.KeyPublic[:30])
	rsaKey := testkit.NewKey(f, "rsa")
	p.akKey, p.ak.Parameters = rsaKey, rsaOf(rsapss())
	p.ak.Type, p.ak.Unique = uniqueOf(f, rsaKey)
	again := p.made(f)
	f.Add(public(p.ak), again.CertifyInfo, again.Signature, again.KeyPublic)
	own := spki(f, p.newKey)
	f.Fuzz(func(t *testing.T, akPublic, info, signature, keyPublic []byte) {
		ak, err := tpm.ParseAttestationKey(akPublic)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatal(err)
			}
			return
		}
		if err := (tpm.Attestation{CertifyInfo: info, Signature: signature, KeyPublic: keyPublic}).Check(ak, own, p.secret); err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Contains(info, p.secret) || !bytes.Equal(keyPublic, good.KeyPublic) {
			t.Fatalf("taken: %x of %x", info, keyPublic)
		}
	})
}
