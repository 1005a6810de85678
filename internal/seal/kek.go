package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/crypto/scrypt"

	"github.com/passmuster/muster/internal/fault"
)

// KEK is a key-encryption key: 32 random bytes that never print.
type KEK struct{ key [32]byte }

// String keeps the key out of logs and error texts.
func (KEK) String() string { return "[secret]" }

// GoString keeps the key out of %#v.
func (KEK) GoString() string { return "[secret]" }

const (
	plainBlock   = "MUSTER KEY ENCRYPTION KEY"
	wrappedBlock = "ENCRYPTED MUSTER KEY ENCRYPTION KEY"
	costHeader   = "Scrypt-N"

	saltSize = 16
	// About 64 MiB and a fifth of a second for each guess; paid once per start.
	scryptN = 1 << 16
	// A file that asks for more than 1 GiB is damaged or hostile.
	maxScryptN = 1 << 20
)

// CreateKEK makes a new KEK and its file: PEM, mode 0600, durable before it returns.
// With a passphrase the key is wrapped by scrypt and AES-256-GCM; with an empty one it
// stands there plainly, which is for development. An existing file is never replaced:
// fault.Conflict, rule "file-exists".
func CreateKEK(path string, passphrase []byte) (KEK, error) {
	return createKEK(path, passphrase, scryptN)
}

func createKEK(path string, passphrase []byte, n int) (KEK, error) {
	var k KEK
	rand.Read(k.key[:])
	block := &pem.Block{Type: plainBlock, Bytes: k.key[:]}
	if len(passphrase) > 0 {
		salt := make([]byte, saltSize)
		rand.Read(salt)
		aead, err := passphraseAEAD(passphrase, salt, n)
		if err != nil {
			return KEK{}, err
		}
		block = &pem.Block{
			Type:    wrappedBlock,
			Headers: map[string]string{costHeader: strconv.Itoa(n)},
			Bytes:   aead.Seal(salt, nil, k.key[:], []byte(wrappedBlock)),
		}
	}
	if err := WriteFile(path, pem.EncodeToMemory(block)); err != nil {
		return KEK{}, err
	}
	return k, nil
}

// LoadKEK reads the file CreateKEK made. Rules: "kek-missing" (fault.NotFound),
// "kek-passphrase" (wrong or absent passphrase) and "kek-damaged" (fault.Malformed).
func LoadKEK(path string, passphrase []byte) (KEK, error) {
	data, err := readKEK(path)
	if err != nil {
		return KEK{}, err
	}
	return parseKEK(path, data, passphrase)
}

func readKEK(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.New(fault.NotFound, "kek-missing", "There is no key-encryption key file.").About(path)
	}
	return data, err
}

func parseKEK(path string, data, passphrase []byte) (KEK, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return KEK{}, damaged(path)
	}
	var err error
	raw := block.Bytes
	switch block.Type {
	case plainBlock:
	case wrappedBlock:
		if raw, err = unwrap(path, block, passphrase); err != nil {
			return KEK{}, err
		}
	default:
		return KEK{}, damaged(path)
	}
	if len(raw) != len(KEK{}.key) {
		return KEK{}, damaged(path)
	}
	return KEK{key: [32]byte(raw)}, nil
}

func unwrap(path string, block *pem.Block, passphrase []byte) ([]byte, error) {
	n, err := strconv.Atoi(block.Headers[costHeader])
	if err != nil || n < 2 || n > maxScryptN || len(block.Bytes) < saltSize {
		return nil, damaged(path)
	}
	if len(passphrase) == 0 {
		return nil, fault.New(fault.Malformed, "kek-passphrase", "The key-encryption key needs a passphrase.").About(path)
	}
	aead, err := passphraseAEAD(passphrase, block.Bytes[:saltSize], n)
	if err != nil {
		return nil, damaged(path)
	}
	raw, err := aead.Open(nil, nil, block.Bytes[saltSize:], []byte(wrappedBlock))
	if err != nil {
		return nil, fault.New(fault.Malformed, "kek-passphrase", "The passphrase does not open the key-encryption key.").About(path)
	}
	return raw, nil
}

func passphraseAEAD(passphrase, salt []byte, n int) (cipher.AEAD, error) {
	key, err := scrypt.Key(passphrase, salt, n, 8, 1, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func damaged(path string) error {
	return fault.New(fault.Malformed, "kek-damaged", "The file holds no key-encryption key.").About(path)
}
