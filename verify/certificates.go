package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// maxCertificateFile bounds an uploaded file: ten certificates of the largest keys fit.
const maxCertificateFile = 64 << 10

// ParseCertificates reads one or more certificates in any of the spellings that
// clients send (protocols/dps.md, section 4.1): PEM, DER, and base64 of either.
// Explanatory text before a PEM block is passed over (RFC 7468, section 2); anything
// after the last one is not. Bad input is Malformed with rule "certificate-file" or,
// for a file that holds a key, "private-key-in-file".
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxCertificateFile {
		return nil, badFile("The file is larger than 64 KiB.")
	}
	if isDER(data) || isPrivateKey(data) {
		return parseDER(data)
	}
	if isPEM(data) {
		return parsePEM(data)
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(data)), ""))
	switch {
	case err != nil || len(decoded) == 0:
		return nil, badFile("The file is neither PEM, DER nor base64 of either.")
	case !isDER(decoded) && isPEM(decoded):
		return parsePEM(decoded)
	}
	return parseDER(decoded)
}

// ParseCertificate reads exactly one certificate, as [ParseCertificates] does; more
// than one is Malformed with rule "one-certificate".
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fault.New(fault.Malformed, "one-certificate", "Exactly one certificate is wanted here; the file has %d.", len(certs))
	}
	return certs[0], nil
}

var pemBegin = []byte("-----BEGIN ")

func isPEM(data []byte) bool { return bytes.Contains(data, pemBegin) }

// isDER tells a DER sequence from base64 text, whose "0" is the same octet: a
// certificate's length takes the long form, which is not ASCII.
func isDER(data []byte) bool { return len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80 }

func parsePEM(data []byte) ([]*x509.Certificate, error) {
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, privateKey()
	}
	var certs []*x509.Certificate
	for blocks := bytes.Count(data, pemBegin); blocks > 0; blocks-- {
		block, rest := pem.Decode(data)
		// The decoder passes over a block that it cannot read and takes the next one.
		if block == nil || bytes.Count(rest, pemBegin) != blocks-1 {
			return nil, badFile("A PEM block cannot be read.")
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, badFile("The file has a PEM block that is not a plain CERTIFICATE.")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badCertificate(err)
		}
		certs, data = append(certs, cert), rest
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return nil, badFile("Something follows the last certificate.")
	}
	return certs, nil
}

func parseDER(der []byte) ([]*x509.Certificate, error) {
	if isPrivateKey(der) {
		return nil, privateKey()
	}
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, badCertificate(err)
	}
	if len(certs) == 0 {
		return nil, badFile("The file has no certificate.")
	}
	return certs, nil
}

func isPrivateKey(der []byte) bool {
	_, pkcs8 := x509.ParsePKCS8PrivateKey(der)
	_, pkcs1 := x509.ParsePKCS1PrivateKey(der)
	_, sec1 := x509.ParseECPrivateKey(der)
	return pkcs8 == nil || pkcs1 == nil || sec1 == nil
}

func privateKey() error {
	return fault.New(fault.Malformed, "private-key-in-file", "The file holds a private key: send the certificate alone, and consider that key known to others.")
}

func badFile(sentence string) error {
	return fault.New(fault.Malformed, "certificate-file", "%s", sentence)
}

func badCertificate(cause error) error {
	return fault.New(fault.Malformed, "certificate-file", "A certificate in the file cannot be read.").Because(cause)
}
