package tpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/titanous/rocacheck"

	"github.com/passmuster/muster/internal/fault"
)

// MaxPublic bounds a TPM2B_PUBLIC: of an RSA key of 4096 bits it has about 600 octets.
const MaxPublic = 1024

// Rule words of keys that are not taken.
const (
	RuleEndorsementKey = "endorsement-key"
	RuleStorageRootKey = "storage-root-key"
)

// Digest is the SHA-256 of a key as it travels, with its length in front.
type Digest [sha256.Size]byte

// DigestOf names a key as it travels.
func DigestOf(raw []byte) Digest { return sha256.Sum256(raw) }

// EndorsementKey is the key that a TPM was made with: who holds it is that TPM.
type EndorsementKey struct{ key }

// StorageRootKey is the key under which a TPM keeps what is imported into it. It changes
// when the TPM gets another owner.
type StorageRootKey struct{ key }

// key is a storage key of a TPM: its private half never leaves it and decrypts nothing but
// what the TPM itself made sense of.
type key struct {
	raw  []byte // TPM2B_PUBLIC
	name []byte
	kem  tpm2.LabeledEncapsulationKey
	spki []byte
}

// ParseEndorsementKey reads a TPM2B_PUBLIC. RSA keys have 2048 or 3072 bits, others are on
// P-256 or P-384. Errors are Malformed, "endorsement-key".
func ParseEndorsementKey(raw []byte) (EndorsementKey, error) {
	k, err := parse(raw)
	if err != nil {
		return EndorsementKey{}, malformed(RuleEndorsementKey, "endorsement key", err)
	}
	return EndorsementKey{k}, nil
}

// ParseStorageRootKey reads a TPM2B_PUBLIC likewise. Errors are Malformed,
// "storage-root-key".
func ParseStorageRootKey(raw []byte) (StorageRootKey, error) {
	k, err := parse(raw)
	if err != nil {
		return StorageRootKey{}, malformed(RuleStorageRootKey, "storage root key", err)
	}
	return StorageRootKey{k}, nil
}

func malformed(rule, what string, err error) error {
	return fault.New(fault.Malformed, rule, "The %s is not one: %v.", what, err)
}

// Bytes is the key as it travels; the caller owns it.
func (k key) Bytes() []byte { return slices.Clone(k.raw) }

// Digest names the key.
func (k key) Digest() Digest { return DigestOf(k.raw) }

// SPKI is the public key as a certificate has it (DER), by which it may be disallowed.
func (k key) SPKI() []byte { return slices.Clone(k.spki) }

// IsZero says that there is no key.
func (k key) IsZero() bool { return k.raw == nil }

func parse(raw []byte) (key, error) {
	public, err := readPublic(raw)
	if err != nil {
		return key{}, err
	}
	if err := check(public); err != nil {
		return key{}, err
	}
	return finish(public, raw)
}

// readPublic reads a TPM2B_PUBLIC in its one form: what is hashed into its name is what came.
func readPublic(raw []byte) (*tpm2.TPMTPublic, error) {
	if len(raw) > MaxPublic {
		return nil, errors.New("it is too long")
	}
	inner, err := unsize(raw, "it is no TPM2B_PUBLIC of its length")
	if err != nil {
		return nil, err
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](inner)
	if err != nil {
		return nil, errors.New("it cannot be read")
	}
	if !bytes.Equal(tpm2.Marshal(*public), inner) {
		return nil, errors.New("it is not in its one form")
	}
	return public, nil
}

// finish derives what of a key is used.
func finish(public *tpm2.TPMTPublic, raw []byte) (k key, err error) {
	k.raw = slices.Clone(raw)
	if k.kem, err = tpm2.ImportEncapsulationKey(public); err != nil {
		return key{}, errors.New("it is no point of its curve")
	}
	if k.name, err = nameOf(public.NameAlg, raw[2:]); err != nil {
		return key{}, err
	}
	pub, err := tpm2.Pub(*public)
	if err != nil {
		return key{}, err
	}
	k.spki, err = x509.MarshalPKIXPublicKey(pub)
	return k, err
}

// nameOf is the name of an object with a public area in its one form (TPM 2.0 part 1, 16).
// ObjectName would write that down once more, by reflection: a fifth of what parsing costs.
func nameOf(alg tpm2.TPMAlgID, public []byte) ([]byte, error) {
	hash, err := alg.Hash()
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(public)
	return h.Sum(binary.BigEndian.AppendUint16(nil, uint16(alg))), nil
}

// check asks for a restricted decryption key that its TPM made and keeps, of sizes that are
// in use.
func check(p *tpm2.TPMTPublic) error {
	a := p.ObjectAttributes
	switch {
	case !a.Restricted || !a.Decrypt || a.SignEncrypt:
		return errors.New("it is not a restricted key that decrypts alone")
	case !a.FixedTPM || !a.FixedParent:
		return errors.New("it may leave its TPM")
	case !a.SensitiveDataOrigin:
		return errors.New("it was not made in its TPM")
	case p.NameAlg != tpm2.TPMAlgSHA256 && p.NameAlg != tpm2.TPMAlgSHA384:
		return errors.New("its name is made with neither SHA-256 nor SHA-384")
	}
	switch p.Type {
	case tpm2.TPMAlgRSA:
		return checkRSA(p)
	case tpm2.TPMAlgECC:
		return checkECC(p)
	}
	return errors.New("it is neither an RSA nor an ECC key")
}

func checkRSA(p *tpm2.TPMTPublic) error {
	parameters, err := p.Parameters.RSADetail()
	if err != nil {
		return err
	}
	unique, err := p.Unique.RSA()
	if err != nil {
		return err
	}
	pub, err := tpm2.RSAPub(parameters, unique)
	if err != nil {
		return err
	}
	switch bits := int(parameters.KeyBits); {
	case parameters.Scheme.Scheme != tpm2.TPMAlgNull:
		return errors.New("a storage key has no scheme")
	case bits != 2048 && bits != 3072:
		return errors.New("an RSA key has 2048 or 3072 bits")
	case pub.N.BitLen() != bits || pub.N.Bit(0) == 0 || pub.E != 65537:
		return errors.New("it is no RSA key of its size with the exponent 65537")
	case rocacheck.IsWeak(pub):
		return errors.New("it comes from a generator with a known weakness (CVE-2017-15361)")
	}
	return checkCipher(parameters.Symmetric)
}

func checkECC(p *tpm2.TPMTPublic) error {
	parameters, err := p.Parameters.ECCDetail()
	if err != nil {
		return err
	}
	unique, err := p.Unique.ECC()
	if err != nil {
		return err
	}
	size := map[tpm2.TPMECCCurve]int{tpm2.TPMECCNistP256: 32, tpm2.TPMECCNistP384: 48}[parameters.CurveID]
	switch {
	case parameters.Scheme.Scheme != tpm2.TPMAlgNull || parameters.KDF.Scheme != tpm2.TPMAlgNull:
		return errors.New("a storage key has no scheme")
	case size == 0:
		return errors.New("its curve is neither P-256 nor P-384")
	case len(unique.X.Buffer) > size || len(unique.Y.Buffer) > size:
		return errors.New("it is no point of its curve")
	}
	return checkCipher(parameters.Symmetric)
}

// checkCipher asks for the cipher by which the key protects what is below it.
func checkCipher(s tpm2.TPMTSymDefObject) error {
	if s.Algorithm != tpm2.TPMAlgAES {
		return errors.New("it protects with another cipher than AES")
	}
	mode, err := s.Mode.AES()
	if err != nil {
		return err
	}
	bits, err := s.KeyBits.AES()
	if err != nil {
		return err
	}
	if *mode != tpm2.TPMAlgCFB || *bits != 128 && *bits != 256 {
		return errors.New("it protects with another cipher than AES-128 or AES-256 in CFB")
	}
	return nil
}
