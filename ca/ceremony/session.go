package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
)

// Names of what sessions write into their folder.
const (
	RootKeyFile = "root-key.pem" // PKCS#8, encrypted
	rootPEM     = "root.pem"
	rootDER     = "root.crt"
	rootCRL     = "root.crl" // DER
	issuingPEM  = "issuing.pem"
	issuingDER  = "issuing.crt"
)

// maxFile is the largest input that is read: a CRL of some ten thousand entries.
const maxFile = 1 << 20

// Session is one sitting: who is there, on which machine, and the folder its files go to.
type Session struct {
	Out    string // made, mode 0755, where it is not there
	Host   Host
	People People
	Now    func() time.Time
}

// work is a session under way.
type work struct {
	Session
	log *transcript
}

// begin refuses what is there already, so that nothing is made that could not be kept.
func (s Session) begin(kind string, outputs ...string) (*work, error) {
	if err := s.People.Check(); err != nil {
		return nil, err
	}
	if s.People.Witnesses == nil {
		s.People.Witnesses = []string{}
	}
	if err := os.MkdirAll(s.Out, 0o755); err != nil {
		return nil, err
	}
	for _, name := range append(outputs, TranscriptFile) {
		path := filepath.Join(s.Out, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.Conflict, "file-exists", "A file of this name exists and is not replaced.").About(path)
		}
	}
	w := &work{Session: s, log: newTranscript(s.Now)}
	if err := w.log.add(begun, begunFacts{Ceremony: kind, Host: s.Host, Entropy: entropy}); err != nil {
		return nil, err
	}
	return w, w.log.add(attended, s.People)
}

// end signs the transcript and writes it.
func (w *work) end(root *ca.Offline) error {
	certificate := root.Certificate()
	whole, err := w.log.signed(certificate.SignatureAlgorithm.String(), hashOf(certificate.Raw), root.SignStatement)
	if err != nil {
		return err
	}
	return writePublic(filepath.Join(w.Out, TranscriptFile), whole)
}

// input reads a file and records it.
func (w *work) input(path, what string, secret bool) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.Malformed, "input-file", "The file cannot be read.").About(path).Because(err)
	}
	if len(data) > maxFile {
		return nil, fault.New(fault.TooLarge, "input-file", "The file is larger than %d octets.", maxFile).About(path)
	}
	return data, w.log.add(read, fileFacts{File: filepath.Base(path), What: what, SHA256: hashOf(data), Size: len(data), Secret: secret})
}

// output writes a file that anyone may read, and records it.
func (w *work) output(name, what string, data []byte) error {
	if err := writePublic(filepath.Join(w.Out, name), data); err != nil {
		return err
	}
	return w.log.add(wrote, fileFacts{File: name, What: what, SHA256: hashOf(data), Size: len(data)})
}

// certificate records a certificate that was made and writes it twice: for people, and
// as it is published (RFC 5280 §4.2.2.1 wants DER).
func (w *work) certificate(c *x509.Certificate, asPEM, asDER string) error {
	facts, err := factsOf(c)
	if err != nil {
		return err
	}
	if err := w.log.add(certified, facts); err != nil {
		return err
	}
	if err := w.output(asPEM, "certificate, PEM", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})); err != nil {
		return err
	}
	return w.output(asDER, "certificate, DER", c.Raw)
}

func (w *work) crl(l *x509.RevocationList) error {
	if err := w.log.add(listed, factsOfCRL(l)); err != nil {
		return err
	}
	return w.output(rootCRL, "CRL, DER", l.Raw)
}

// writePublic writes a new file, whole and durable or not at all.
func writePublic(path string, data []byte) error {
	if err := seal.WriteFile(path, data); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// der takes DER, or the one PEM block of the wanted kinds that is in a file.
func der(data []byte, kinds ...string) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return data, nil
	}
	if !slices.Contains(kinds, block.Type) || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not one PEM block of the kind " + kinds[0])
	}
	return block.Bytes, nil
}
