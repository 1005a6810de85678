package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify/tpm"
)

// public is a key as it travels.
func public(p tpm2.TPMTPublic) []byte { return tpm2.Marshal(tpm2.New2B(p)) }

func aes(bits tpm2.TPMKeyBits) tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits),
		Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

// storageRSA is a storage root key as the TCG's template makes it.
func storageRSA(modulus []byte, change func(*tpm2.TPMTPublic, *tpm2.TPMSRSAParms)) []byte {
	p, parameters := tpm2.RSASRKTemplate, tpm2.TPMSRSAParms{Symmetric: aes(128), KeyBits: 2048}
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: modulus})
	if change != nil {
		change(&p, &parameters)
	}
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &parameters)
	return public(p)
}

func storageECC(x, y []byte, change func(*tpm2.TPMTPublic, *tpm2.TPMSECCParms)) []byte {
	p, parameters := tpm2.ECCSRKTemplate, tpm2.TPMSECCParms{Symmetric: aes(128), CurveID: tpm2.TPMECCNistP256}
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
	if change != nil {
		change(&p, &parameters)
	}
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &parameters)
	return public(p)
}

type (
	rsaChange func(*tpm2.TPMTPublic, *tpm2.TPMSRSAParms)
	eccChange func(*tpm2.TPMTPublic, *tpm2.TPMSECCParms)
)

func TestAKeyIsReadAsItIsInACertificate(t *testing.T) {
	key := testkit.NewKey(t, "rsa").Public().(*rsa.PublicKey)
	want, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, exponent := range map[string]uint32{"default exponent": 0, "written exponent": 65537} {
		raw := storageRSA(key.N.Bytes(), func(_ *tpm2.TPMTPublic, r *tpm2.TPMSRSAParms) { r.Exponent = exponent })
		srk, err := tpm.ParseStorageRootKey(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(srk.SPKI(), want) || !bytes.Equal(srk.Bytes(), raw) || srk.IsZero() {
			t.Errorf("%s: read as %x", name, srk.SPKI())
		}
	}
}

// rocaModulus is a power of 65537 modulo the small primes, as all of the broken generator's are.
func rocaModulus() []byte {
	m := big.NewInt(2)
	for p := int64(3); p <= 167; p += 2 {
		if big.NewInt(p).ProbablyPrime(1) {
			m.Mul(m, big.NewInt(p))
		}
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(11), m)
	k := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(3), 2046), m)
	return n.Add(n, k.Mul(k, m)).Bytes()
}

func TestOnlyStorageKeysThatStayInTheirTPMAreTaken(t *testing.T) {
	n := testkit.NewKey(t, "rsa").Public().(*rsa.PublicKey).N.Bytes()
	point := testkit.NewKey(t, "p256").Public().(*ecdsa.PublicKey)
	x, y := point.X.FillBytes(make([]byte, 32)), point.Y.FillBytes(make([]byte, 32))
	good := storageRSA(n, nil)
	if _, err := tpm.ParseStorageRootKey(storageECC(x, y, nil)); err != nil {
		t.Fatalf("a key on P-256: %v", err)
	}
	even, small := bytes.Clone(n), bytes.Clone(n)
	even[255] &^= 1
	small[0] = 0
	bad := map[string][]byte{
		"nothing":   nil,
		"one octet": {0},
		"no key":    {0, 0},
		"cut short": good[:len(good)-1],
		"cut with its length": func() []byte {
			cut := bytes.Clone(good[:len(good)-20])
			binary.BigEndian.PutUint16(cut, uint16(len(cut)-2))
			return cut
		}(),
		"something behind it": append(bytes.Clone(good), 0),
		"something within its length behind it": func() []byte {
			long := append(bytes.Clone(good), 0)
			binary.BigEndian.PutUint16(long, uint16(len(long)-2))
			return long
		}(),
		"too long":                    append([]byte{0x10, 0}, make([]byte, 0x1000)...),
		"without length":              good[2:],
		"an even modulus":             storageRSA(even, nil),
		"a short modulus":             storageRSA(small, nil),
		"of the broken generator":     storageRSA(rocaModulus(), nil),
		"a point that is on no curve": storageECC(x, x, nil),
		"no point":                    storageECC(nil, nil, nil),
		"a long coordinate":           storageECC(append([]byte{0}, x...), y, nil),
		"an HMAC key": public(tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.RSASRKTemplate.ObjectAttributes,
			Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
			Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})}),
	}
	for name, change := range map[string]rsaChange{
		"not restricted":       func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.ObjectAttributes.Restricted = false },
		"not for decryption":   func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.ObjectAttributes.Decrypt = false },
		"for signatures too":   func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.ObjectAttributes.SignEncrypt = true },
		"may leave its TPM":    func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.ObjectAttributes.FixedTPM = false },
		"may leave its parent": func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.ObjectAttributes.FixedParent = false },
		"made elsewhere":       func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"named by SHA-1":       func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.NameAlg = tpm2.TPMAlgSHA1 },
		"without a name":       func(p *tpm2.TPMTPublic, _ *tpm2.TPMSRSAParms) { p.NameAlg = tpm2.TPMAlgNull },
		"of another size":      func(_ *tpm2.TPMTPublic, r *tpm2.TPMSRSAParms) { r.KeyBits = 1024 },
		"with the exponent 3":  func(_ *tpm2.TPMTPublic, r *tpm2.TPMSRSAParms) { r.Exponent = 3 },
		"without a cipher": func(_ *tpm2.TPMTPublic, r *tpm2.TPMSRSAParms) {
			r.Symmetric = tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}
		},
		"with a cipher of 7 bits": func(_ *tpm2.TPMTPublic, r *tpm2.TPMSRSAParms) { r.Symmetric = aes(7) },
	} {
		bad[name] = storageRSA(n, change)
	}
	for name, change := range map[string]eccChange{
		"on P-521": func(_ *tpm2.TPMTPublic, r *tpm2.TPMSECCParms) { r.CurveID = tpm2.TPMECCNistP521 },
		"on P-384": func(_ *tpm2.TPMTPublic, r *tpm2.TPMSECCParms) { r.CurveID = tpm2.TPMECCNistP384 },
	} {
		bad[name] = storageECC(x, y, change)
	}
	for name, raw := range bad {
		_, err := tpm.ParseStorageRootKey(raw)
		if !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != tpm.RuleStorageRootKey {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := tpm.ParseEndorsementKey(raw); fault.RuleOf(err) != tpm.RuleEndorsementKey {
			t.Errorf("%s, as an endorsement key: %v", name, err)
		}
	}
}

// FuzzParse: no structure ends the process, and of what is taken a secret can be wrapped for
// it and it is what came.
func FuzzParse(f *testing.F) {
	n := testkit.NewKey(f, "rsa").Public().(*rsa.PublicKey).N.Bytes()
	point := testkit.NewKey(f, "p256").Public().(*ecdsa.PublicKey)
	f.Add(storageRSA(n, nil))
	f.Add(storageECC(point.X.FillBytes(make([]byte, 32)), point.Y.FillBytes(make([]byte, 32)), nil))
	f.Add(public(tpm2.RSAEKTemplate))
	f.Add(public(tpm2.ECCEKTemplate))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ek, err := tpm.ParseEndorsementKey(raw)
		srk, again := tpm.ParseStorageRootKey(raw)
		if (err == nil) != (again == nil) {
			t.Fatalf("taken as one and not as the other: %v, %v", err, again)
		}
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(ek.Bytes(), raw) {
			t.Fatalf("read as %x", ek.Bytes())
		}
		if _, err := tpm.Wrap(ek, srk, []byte("secret")); err != nil {
			t.Fatalf("nothing can be wrapped for it: %v", err)
		}
	})
}
