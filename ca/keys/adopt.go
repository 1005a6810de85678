package keys

import "crypto"

// Read opens the text of a key file in PEM that came from elsewhere. Rules: "key-passphrase"
// and "key-damaged".
func Read(data, passphrase []byte) (crypto.Signer, error) { return read(data, passphrase) }

// Adopt keeps a key that was made elsewhere, encrypted as the others are, and returns its
// URI. A name that is taken is fault.Conflict, rule "file-exists".
func (f *Folder) Adopt(name string, key crypto.Signer) (uri string, err error) {
	uri = scheme + name + ".pem"
	path, err := f.path(uri)
	if err != nil {
		return "", err
	}
	return uri, write(path, f.passphrase, key)
}
