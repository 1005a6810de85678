package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/titanous/rocacheck"

	"github.com/passmuster/muster/internal/fault"
)

const (
	// RuleAttestationKey is the rule word of an attestation key that is not taken.
	RuleAttestationKey = "attestation-key"
	// RuleKeyAttestation is that of an attestation which does not vouch for a key.
	RuleKeyAttestation = "key-attestation-invalid"

	// maxAttestation bounds each structure of an attestation.
	maxAttestation = 1024
)

// AttestationKey is a key that signs only what its TPM says of itself and of its objects.
type AttestationKey struct {
	raw, name []byte
	public    crypto.PublicKey
	scheme    tpm2.TPMAlgID
	hash      crypto.Hash
}

// ParseAttestationKey reads a TPM2B_PUBLIC. RSA keys have 2048 or 3072 bits, others are on
// P-256 or P-384; they sign with SHA-256 or SHA-384. Errors are Malformed, "attestation-key".
func ParseAttestationKey(raw []byte) (AttestationKey, error) {
	k, err := parseAttestationKey(raw)
	if err != nil {
		return AttestationKey{}, malformed(RuleAttestationKey, "attestation key", err)
	}
	return k, nil
}

func parseAttestationKey(raw []byte) (k AttestationKey, err error) {
	public, err := readPublic(raw)
	if err != nil {
		return k, err
	}
	a := public.ObjectAttributes
	switch {
	case !a.Restricted || !a.SignEncrypt || a.Decrypt:
		return k, errors.New("it is not a restricted key that signs alone")
	case public.NameAlg != tpm2.TPMAlgSHA256 && public.NameAlg != tpm2.TPMAlgSHA384:
		return k, errors.New("its name is made with neither SHA-256 nor SHA-384")
	}
	if err := checkKept(public); err != nil {
		return k, err
	}
	if k.public, err = pub(public); err != nil {
		return k, err
	}
	if k.scheme, k.hash, err = signingScheme(public); err != nil {
		return k, err
	}
	k.raw = slices.Clone(raw)
	k.name, err = nameOf(public.NameAlg, raw[2:])
	return k, err
}

// checkKept asks for a key that its TPM made and keeps.
func checkKept(p *tpm2.TPMTPublic) error {
	a := p.ObjectAttributes
	switch {
	case !a.FixedTPM || !a.FixedParent:
		return errors.New("it may leave its TPM")
	case !a.SensitiveDataOrigin:
		return errors.New("it was not made in its TPM")
	}
	return nil
}

// signingScheme is how an attestation key signs, which is fixed with it.
func signingScheme(p *tpm2.TPMTPublic) (scheme tpm2.TPMAlgID, hash crypto.Hash, err error) {
	var of tpm2.TPMIAlgHash
	switch p.Type {
	case tpm2.TPMAlgRSA:
		parameters, err := p.Parameters.RSADetail()
		if err != nil {
			return 0, 0, err
		}
		if bits := parameters.KeyBits; bits != 2048 && bits != 3072 {
			return 0, 0, errors.New("an RSA key has 2048 or 3072 bits")
		}
		switch scheme = parameters.Scheme.Scheme; scheme {
		case tpm2.TPMAlgRSASSA:
			details, err := parameters.Scheme.Details.RSASSA()
			if err != nil {
				return 0, 0, err
			}
			of = details.HashAlg
		case tpm2.TPMAlgRSAPSS:
			details, err := parameters.Scheme.Details.RSAPSS()
			if err != nil {
				return 0, 0, err
			}
			of = details.HashAlg
		}
	case tpm2.TPMAlgECC:
		parameters, err := p.Parameters.ECCDetail()
		if err != nil {
			return 0, 0, err
		}
		if curve := parameters.CurveID; curve != tpm2.TPMECCNistP256 && curve != tpm2.TPMECCNistP384 {
			return 0, 0, errors.New("its curve is neither P-256 nor P-384")
		}
		if scheme = parameters.Scheme.Scheme; scheme == tpm2.TPMAlgECDSA {
			details, err := parameters.Scheme.Details.ECDSA()
			if err != nil {
				return 0, 0, err
			}
			of = details.HashAlg
		}
	}
	switch of {
	case tpm2.TPMAlgSHA256:
		return scheme, crypto.SHA256, nil
	case tpm2.TPMAlgSHA384:
		return scheme, crypto.SHA384, nil
	}
	return 0, 0, errors.New("it signs with none of RSASSA, RSAPSS and ECDSA, of SHA-256 or SHA-384")
}

// pub is a key as crypto has it: sound, and in one encoding.
func pub(p *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	if p.Type != tpm2.TPMAlgRSA && p.Type != tpm2.TPMAlgECC {
		return nil, errors.New("it is neither an RSA nor an ECC key")
	}
	key, err := tpm2.Pub(*p)
	if err != nil {
		return nil, errors.New("it cannot be read as a key")
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.E != 65537 || key.N.Bit(0) == 0 || key.N.BitLen() < 2048 {
			return nil, errors.New("it is no RSA key of its size with the exponent 65537")
		}
		if rocacheck.IsWeak(key) {
			return nil, errors.New("it comes from a generator with a known weakness (CVE-2017-15361)")
		}
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil {
			return nil, errors.New("it is no point of its curve")
		}
	}
	return key, nil
}

// Bytes is the key as it travels; the caller owns it.
func (k AttestationKey) Bytes() []byte { return slices.Clone(k.raw) }

// Name is the key's name, which no other key has; the caller owns it.
func (k AttestationKey) Name() []byte { return slices.Clone(k.name) }

// IsZero says that there is no key.
func (k AttestationKey) IsZero() bool { return k.raw == nil }

// Bind makes the credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) by which a secret of at
// most 32 octets is had only where the endorsement key and the attestation key are in one TPM.
func Bind(ek EndorsementKey, ak AttestationKey, secret []byte) ([]byte, error) {
	idObject, encrypted, err := tpm2.CreateCredential(rand.Reader, ek.kem, ak.name, secret)
	if err != nil {
		return nil, err
	}
	return append(sized(idObject), sized(encrypted)...), nil
}

// Attestation is what TPM2_Certify gave of a key: TPM2B_ATTEST, TPMT_SIGNATURE, and the key
// itself as TPM2B_PUBLIC. It is a stranger's word until Check.
type Attestation struct{ CertifyInfo, Signature, KeyPublic []byte }

// IsZero says that there is none.
func (a Attestation) IsZero() bool {
	return len(a.CertifyInfo)+len(a.Signature)+len(a.KeyPublic) == 0
}

// Check says that the key with this SubjectPublicKeyInfo was made in the TPM of an attestation
// key and cannot leave it: who certified it knew the secret then. That the attestation key is in
// a TPM is known by that secret, if it is one that was bound to it ([Bind]).
//
// Errors are Malformed, "key-attestation-invalid".
func (a Attestation) Check(ak AttestationKey, spki, secret []byte) error {
	if err := a.check(ak, spki, secret); err != nil {
		return fault.New(fault.Malformed, RuleKeyAttestation, "The TPM does not vouch for the key: %v.", err)
	}
	return nil
}

func (a Attestation) check(ak AttestationKey, spki, secret []byte) error {
	if ak.IsZero() || len(secret) == 0 {
		return errors.New("no attestation key was bound to it")
	}
	name, err := attestedName(a.KeyPublic, spki)
	if err != nil {
		return err
	}
	signed, err := unsize(a.CertifyInfo, "the certifyInfo is no TPM2B_ATTEST of its length")
	if err != nil {
		return err
	}
	said, err := tpm2.Unmarshal[tpm2.TPMSAttest](signed)
	if err != nil || !bytes.Equal(tpm2.Marshal(*said), signed) {
		return errors.New("the certifyInfo cannot be read")
	}
	switch {
	case said.Magic != tpm2.TPMGeneratedValue:
		return errors.New("the certifyInfo was not made by a TPM")
	case said.Type != tpm2.TPMSTAttestCertify:
		return errors.New("the certifyInfo is about something else than a key")
	case subtle.ConstantTimeCompare(said.ExtraData.Buffer, secret) != 1:
		return errors.New("the certifyInfo does not show the secret of this challenge")
	}
	certified, err := said.Attested.Certify()
	if err != nil {
		return err
	}
	if !bytes.Equal(certified.Name.Buffer, name) {
		return errors.New("the certifyInfo is about another key")
	}
	return ak.verify(signed, a.Signature)
}

// attestedName is the name of a key that is kept in its TPM and is the one with this
// SubjectPublicKeyInfo.
func attestedName(raw, spki []byte) ([]byte, error) {
	public, err := readPublic(raw)
	if err != nil {
		return nil, errors.New("of the key, " + err.Error())
	}
	if err := checkKept(public); err != nil {
		return nil, errors.New("of the key, " + err.Error())
	}
	if !public.ObjectAttributes.SignEncrypt {
		return nil, errors.New("the key does not sign")
	}
	if public.NameAlg != tpm2.TPMAlgSHA256 && public.NameAlg != tpm2.TPMAlgSHA384 && public.NameAlg != tpm2.TPMAlgSHA512 {
		return nil, errors.New("the key's name is made with none of SHA-256, SHA-384 and SHA-512")
	}
	key, err := pub(public)
	if err != nil {
		return nil, errors.New("of the key, " + err.Error())
	}
	own, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(own, spki) {
		return nil, errors.New("the key is not the one in the certificate request")
	}
	return nameOf(public.NameAlg, raw[2:])
}

// verify checks a signature in the one scheme that the key has.
func (k AttestationKey) verify(signed, raw []byte) error {
	if len(raw) > maxAttestation {
		return errors.New("the signature is too long")
	}
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](raw)
	if err != nil || !bytes.Equal(tpm2.Marshal(*signature), raw) {
		return errors.New("the signature cannot be read")
	}
	if signature.SigAlg != k.scheme {
		return errors.New("the signature is not of the attestation key's scheme")
	}
	h := k.hash.New()
	h.Write(signed)
	if !k.verifies(h.Sum(nil), signature) {
		return errors.New("the signature is not the attestation key's")
	}
	return nil
}

func (k AttestationKey) verifies(digest []byte, s *tpm2.TPMTSignature) bool {
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		if k.scheme == tpm2.TPMAlgRSAPSS {
			made, err := s.Signature.RSAPSS()
			return err == nil && rsa.VerifyPSS(key, k.hash, digest, made.Sig.Buffer, nil) == nil
		}
		made, err := s.Signature.RSASSA()
		return err == nil && rsa.VerifyPKCS1v15(key, k.hash, digest, made.Sig.Buffer) == nil
	case *ecdsa.PublicKey:
		made, err := s.Signature.ECDSA()
		return err == nil && ecdsa.Verify(key, digest, new(big.Int).SetBytes(made.SignatureR.Buffer), new(big.Int).SetBytes(made.SignatureS.Buffer))
	}
	return false
}

// unsize is what is in a TPM2B.
func unsize(raw []byte, otherwise string) ([]byte, error) {
	const size = 2
	if len(raw) < size || len(raw) > maxAttestation || int(binary.BigEndian.Uint16(raw)) != len(raw)-size {
		return nil, errors.New(otherwise)
	}
	return raw[size:], nil
}
