package keys

import (
	"crypto"
	"encoding/pem"
	"strings"

	kmsapi "go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/pemutil"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
)

// algorithm is what to ask the key manager for.
func algorithm(kt policies.KeyType) (alg kmsapi.SignatureAlgorithm, bits int, ok bool) {
	switch kt {
	case policies.KeyECP256:
		return kmsapi.ECDSAWithSHA256, 0, true
	case policies.KeyECP384:
		return kmsapi.ECDSAWithSHA384, 0, true
	case policies.KeyECP521:
		return kmsapi.ECDSAWithSHA512, 0, true
	case policies.KeyEd25519:
		return kmsapi.PureEd25519, 0, true
	case policies.KeyRSA2048:
		return kmsapi.SHA256WithRSA, 2048, true
	case policies.KeyRSA3072:
		return kmsapi.SHA256WithRSA, 3072, true
	case policies.KeyRSA4096:
		return kmsapi.SHA256WithRSA, 4096, true
	}
	return 0, 0, false
}

// create makes a key and its file: PKCS#8 in PEM, encrypted by PBES2 (RFC 8018) under
// a passphrase.
func create(path string, passphrase []byte, kt policies.KeyType) (crypto.Signer, error) {
	alg, bits, ok := algorithm(kt)
	if !ok {
		return nil, fault.New(fault.Malformed, "key-type-not-allowed", "There are no issuer keys of the type %q.", kt)
	}
	made, err := new(softkms.SoftKMS).CreateKey(&kmsapi.CreateKeyRequest{SignatureAlgorithm: alg, Bits: bits})
	if err != nil {
		return nil, err
	}
	if err := write(path, passphrase, made.PrivateKey); err != nil {
		return nil, err
	}
	return made.CreateSignerRequest.Signer, nil
}

func write(path string, passphrase []byte, key crypto.PrivateKey) error {
	options := []pemutil.Options{pemutil.WithPKCS8(true)}
	if len(passphrase) > 0 {
		options = append(options, pemutil.WithPassword(passphrase))
	}
	block, err := pemutil.Serialize(key, options...)
	if err != nil {
		return err
	}
	return seal.WriteFile(path, pem.EncodeToMemory(block))
}

// read opens the text of a key file. Its rules are "key-passphrase" and "key-damaged".
func read(data, passphrase []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	for block != nil && !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		block, rest = pem.Decode(rest) // openssl puts the parameters of a curve before its key
	}
	if block == nil {
		return nil, fault.New(fault.Malformed, "key-damaged", "The file holds no private key.")
	}
	encrypted := strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["Proc-Type"] != ""
	if encrypted && len(passphrase) == 0 {
		return nil, fault.New(fault.Malformed, "key-passphrase", "The key is encrypted and needs a passphrase.")
	}
	request := &kmsapi.CreateSignerRequest{SigningKeyPEM: pem.EncodeToMemory(block)}
	if encrypted {
		request.Password = passphrase
	}
	signer, err := new(softkms.SoftKMS).CreateSigner(request)
	switch {
	case err != nil && encrypted:
		// CBC has no tag: a wrong passphrase shows as bad padding or as bad DER.
		return nil, fault.New(fault.Malformed, "key-passphrase", "The passphrase does not open the key.").Because(err)
	case err != nil:
		return nil, fault.New(fault.Malformed, "key-damaged", "The file holds no usable private key.").Because(err)
	}
	return signer, nil
}
