package tpm

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"io"

	"github.com/google/go-tpm/tpm2"
)

// maxSecret is the most that an HMAC key with SHA-256 has: a block.
const maxSecret = 64

// innerKeySize is of the AES key around the secret; a client takes the cipher from it.
const innerKeySize = 16

// Wrap is the activation blob by which a TPM that holds both keys gets a secret as an HMAC
// key that it will not show (protocols/dps.md §2.4): six structures, one after the other,
// in the order in which Azure's clients read them.
//
// The key that opens the secret's inner wrapper is a credential: only the TPM of the
// endorsement key opens it, and only if the storage root key is in it. The outer wrapper is
// the storage root key's own.
func Wrap(ek EndorsementKey, srk StorageRootKey, secret []byte) ([]byte, error) {
	return wrap(rand.Reader, ek, srk, secret)
}

func wrap(random io.Reader, ek EndorsementKey, srk StorageRootKey, secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > maxSecret {
		panic("internal error: a secret for a TPM has no octets, or too many")
	}
	innerKey, seed := make([]byte, innerKeySize), make([]byte, sha256.Size)
	for _, b := range [][]byte{innerKey, seed} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, err
		}
	}
	idObject, credentialSeed, err := tpm2.CreateCredential(random, ek.kem, srk.name, innerKey)
	if err != nil {
		return nil, err
	}
	public := tpm2.Marshal(hmacKey(seed, secret))
	name, err := nameOf(tpm2.TPMAlgSHA256, public)
	if err != nil {
		return nil, err
	}
	inner, err := innerWrap(innerKey, name, sensitive(seed, secret))
	if err != nil {
		return nil, err
	}
	duplicate, importSeed, err := outerWrap(random, srk, name, inner)
	if err != nil {
		return nil, err
	}
	var blob bytes.Buffer
	for _, part := range [][]byte{idObject, credentialSeed, duplicate, importSeed, public, nil} {
		blob.Write(sized(part))
	}
	return blob.Bytes(), nil
}

// hmacKey is the public area of the secret: a key for HMAC with SHA-256, of which the TPM
// that imports it is to show nothing.
func hmacKey(seed, secret []byte) tpm2.TPMTPublic {
	unique := sha256.Sum256(append(bytes.Clone(seed), secret...))
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{
			Scheme:  tpm2.TPMAlgHMAC,
			Details: tpm2.NewTPMUSchemeKeyedHash(tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: tpm2.TPMAlgSHA256}),
		}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: unique[:]}),
	}
}

// sensitive is the secret half of it, a TPM2B_SENSITIVE.
func sensitive(seed, secret []byte) []byte {
	return sized(tpm2.Marshal(tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgKeyedHash,
		SeedValue:     tpm2.TPM2BDigest{Buffer: seed},
		Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BSensitiveData{Buffer: secret}),
	}))
}

// innerWrap encrypts a secret under a key that travels apart (TPM 2.0 Part 1, "Inner
// Duplication Wrapper"). go-tpm makes outer wrappers alone.
func innerWrap(key, name, plain []byte) ([]byte, error) {
	h := sha256.New()
	h.Write(plain)
	h.Write(name)
	return encrypt(key, append(sized(h.Sum(nil)), plain...))
}

// outerWrap encrypts for the storage root key (Part 1, "Outer Duplication Wrapper").
func outerWrap(random io.Reader, srk StorageRootKey, name, inner []byte) (duplicate, encryptedSeed []byte, err error) {
	seed, encryptedSeed, err := srk.kem.Encapsulate(random, "DUPLICATE")
	if err != nil {
		return nil, nil, err
	}
	hash, err := srk.kem.NameAlg().Hash()
	if err != nil {
		return nil, nil, err
	}
	bits, err := srk.kem.SymmetricParameters().KeyBits.AES()
	if err != nil {
		return nil, nil, err
	}
	outer, err := encrypt(tpm2.KDFa(hash, seed, "STORAGE", name, nil, int(*bits)), inner)
	if err != nil {
		return nil, nil, err
	}
	return append(sized(integrity(hash, seed, outer, name)), outer...), encryptedSeed, nil
}

func integrity(hash crypto.Hash, seed, outer, name []byte) []byte {
	mac := hmac.New(hash.New, tpm2.KDFa(hash, seed, "INTEGRITY", nil, nil, hash.Size()*8))
	mac.Write(outer)
	mac.Write(name)
	return mac.Sum(nil)
}

// encrypt is AES-CFB from an initial value of zeros: each key is used once.
func encrypt(key, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(plain))
	cipher.NewCFBEncrypter(block, make([]byte, block.BlockSize())).XORKeyStream(out, plain) //nolint:staticcheck // a TPM knows no other mode here, and the integrity is checked beside it
	return out, nil
}

// sized is a TPM2B: the length in front.
func sized(b []byte) []byte { return tpm2.Marshal(tpm2.TPM2BData{Buffer: b}) }
