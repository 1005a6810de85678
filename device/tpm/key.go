package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// Key is a signing key that was made in a TPM and is loaded into it for each signature. It is
// kept outside, where it is good for nothing.
type Key struct {
	tpm             *TPM
	public, private []byte // TPM2B_PUBLIC, and TPM2B_PRIVATE under the storage root key
	key             *ecdsa.PublicKey
}

// keyBlock and keyFile are the form of a key as OpenSSL's TPM providers have it
// (draft-bottomley-tpm2-keys).
const keyBlock = "TSS2 PRIVATE KEY"

type keyFile struct {
	Type      asn1.ObjectIdentifier
	EmptyAuth bool `asn1:"optional,explicit,tag:0"`
	Parent    int64
	Public    []byte
	Private   []byte
}

var loadableKey = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

// NewKey makes a key on P-256.
func (t *TPM) NewKey() (crypto.Signer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
	}
	made, err := tpm2.Create{ParentHandle: t.srk.auth(), InPublic: tpm2.New2B(template)}.Execute(t.transport)
	if err != nil {
		return nil, fmt.Errorf("making a key in the TPM: %w", err)
	}
	return t.key(tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.OutPrivate))
}

// ParseKey reads a key of this TPM's that MarshalPEM wrote.
func (t *TPM) ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	var file keyFile
	if block == nil || block.Type != keyBlock {
		return nil, errors.New("no key of a TPM in PEM")
	}
	if rest, err := asn1.Unmarshal(block.Bytes, &file); err != nil || len(rest) > 0 || !file.Type.Equal(loadableKey) || file.Parent != int64(storageHandle) {
		return nil, errors.New("the key of a TPM cannot be read, or is below another key than the storage root key")
	}
	return t.key(file.Public, file.Private)
}

func (t *TPM) key(public, private []byte) (*Key, error) {
	sized, err := tpm2.Unmarshal[tpm2.TPM2BPublic](public)
	if err != nil {
		return nil, fmt.Errorf("the key of a TPM: %w", err)
	}
	contents, err := sized.Contents()
	if err != nil {
		return nil, fmt.Errorf("the key of a TPM: %w", err)
	}
	pub, err := tpm2.Pub(*contents)
	if err != nil {
		return nil, fmt.Errorf("the key of a TPM: %w", err)
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the key of a TPM is not on a curve")
	}
	return &Key{t, public, private, key}, nil
}

// Public implements crypto.Signer.
func (k *Key) Public() crypto.PublicKey { return k.key }

// MarshalPEM writes the key for its TPM.
func (k *Key) MarshalPEM() ([]byte, error) {
	der, err := asn1.Marshal(keyFile{loadableKey, true, int64(storageHandle), k.public, k.private})
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

var hashes = map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512}

// Sign implements crypto.Signer: ECDSA, in the TPM.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, known := hashes[opts.HashFunc()]
	if !known {
		return nil, fmt.Errorf("the TPM signs no digests of %v", opts.HashFunc())
	}
	k.tpm.mu.Lock()
	defer k.tpm.mu.Unlock()
	loaded, err := k.load()
	if err != nil {
		return nil, err
	}
	defer k.tpm.flush(loaded.Handle)
	signed, err := tpm2.Sign{
		KeyHandle:  loaded,
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: hash})},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(k.tpm.transport)
	if err != nil {
		return nil, fmt.Errorf("signing in the TPM: %w", err)
	}
	signature, err := signed.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature.SignatureR.Buffer), new(big.Int).SetBytes(signature.SignatureS.Buffer)})
}

// load has the TPM take the key; whoever calls this holds the TPM, and flushes the key.
func (k *Key) load() (tpm2.AuthHandle, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.public)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](k.private)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	loaded, err := tpm2.Load{ParentHandle: k.tpm.srk.auth(), InPrivate: *private, InPublic: *public}.Execute(k.tpm.transport)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("loading a key into the TPM: %w", err)
	}
	return tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}
