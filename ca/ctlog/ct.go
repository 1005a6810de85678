package ctlog

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/ctonly"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/mod/sumdb/note"

	"github.com/passmuster/muster/internal/fault"
)

// CT is a certificate transparency log of our own issuers' certificates, in the files of
// C2SP static-ct-api. An SCT is given when its entry is in the tree, durable and under a
// checkpoint: there is no merge delay to trust it for.
type CT struct {
	dir    folder
	key    ctKey
	issuer func(certificate []byte) (chain [][]byte, is bool)
	now    func() time.Time
	asked  chan asked

	// Of the goroutine of Run.
	tree *tree
	lock *os.File
	last uint64 // the latest timestamp given

	mu     sync.Mutex
	given  map[[sha256.Size]byte][]byte // answers, by what was submitted
	orders [][sha256.Size]byte          // the same, oldest first
	runs   bool
}

// NewCT makes a log called origin (its address without a scheme) with an ECDSA P-256
// signer. issuer says whether a certificate is that of an issuer of ours, and its chain up
// to the root. Nothing is opened until Run.
func NewCT(dir, origin string, signer crypto.Signer, issuer func([]byte) ([][]byte, bool), now func() time.Time) (*CT, error) {
	k, err := newCTKey(origin, signer)
	if err != nil {
		return nil, err
	}
	return &CT{dir: folder(dir), key: k, issuer: issuer, now: now, asked: make(chan asked, maxAsked), given: map[[sha256.Size]byte][]byte{}}, nil
}

const (
	maxAsked = 1024 // submissions that wait; more are refused
	maxGiven = 4096 // answers that are remembered, so that asking again makes no second entry
)

// asked is a submission on its way into the tree.
type asked struct {
	entry  ctonly.Entry
	chain  [][]byte // above the certificate
	answer chan<- answered
}

type answered struct {
	json []byte
	err  error
}

// Public is the log's key as clients take it: a SubjectPublicKeyInfo.
func (l *CT) Public() []byte { return l.key.spki }

// Add logs a certificate, or a precertificate, with the certificate of its issuer behind
// it, and answers as RFC 6962 §4.1 does. Malformed, rule "ct-chain", for what none of our
// issuers signed; Unavailable, rule "log-not-here", where the log is not written.
func (l *CT) Add(ctx context.Context, chain [][]byte, pre bool) ([]byte, error) {
	a, id, err := l.checked(chain, pre)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	known, runs := l.given[id], l.runs
	l.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if !runs {
		return nil, notHere(errors.New("another process writes it, or it is starting"))
	}
	answer := make(chan answered, 1)
	a.answer = answer
	select {
	case l.asked <- a:
	default:
		return nil, fault.New(fault.Unavailable, "log-busy", "Too many certificates wait to be logged; try again later.")
	}
	select {
	case got := <-answer:
		if got.err == nil {
			l.remember(id, got.json)
		}
		return got.json, got.err
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "log-not-here", "The log did not answer in time.").Because(context.Cause(ctx))
	}
}

func (l *CT) remember(id [sha256.Size]byte, answer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, is := l.given[id]; is {
		return
	}
	if l.given[id], l.orders = answer, append(l.orders, id); len(l.orders) > maxGiven {
		delete(l.given, l.orders[0])
		l.orders = l.orders[1:]
	}
}

func badChain(why string) error {
	return fault.New(fault.Malformed, "ct-chain", "%s", why)
}

// checked holds a submission to what the log takes: certificates of our own issuers.
func (l *CT) checked(chain [][]byte, pre bool) (a asked, id [sha256.Size]byte, err error) {
	if len(chain) < 2 {
		return a, id, badChain("Send the certificate and that of its issuer behind it.")
	}
	above, is := l.issuer(chain[1])
	if !is {
		return a, id, badChain("The second certificate is not that of an issuer whose certificates this log takes.")
	}
	for i, der := range chain[2:] {
		if i+1 >= len(above) || !bytes.Equal(der, above[i+1]) {
			return a, id, badChain("The certificates do not lead to the root of this log.")
		}
	}
	leaf, err := ctx509.ParseCertificate(chain[0])
	if ctx509.IsFatal(err) {
		return a, id, badChain("The first certificate cannot be read.")
	}
	issuer, err := ctx509.ParseCertificate(chain[1])
	if ctx509.IsFatal(err) {
		return a, id, badChain("The second certificate cannot be read.")
	}
	if err := leaf.CheckSignatureFrom(issuer); err != nil {
		return a, id, badChain("The second certificate did not sign the first.")
	}
	if leaf.IsPrecertificate() != pre {
		return a, id, badChain("Precertificates go to add-pre-chain, certificates to add-chain.")
	}
	a.chain = above
	a.entry = ctonly.Entry{IsPrecert: pre, Certificate: leaf.Raw}
	if pre {
		made, err := ct.MerkleTreeLeafFromChain([]*ctx509.Certificate{leaf, issuer}, ct.PrecertLogEntryType, 0)
		if err != nil {
			return a, id, badChain("The precertificate is not as RFC 6962 has it.")
		}
		p := made.TimestampedEntry.PrecertEntry
		a.entry.Certificate, a.entry.Precertificate, a.entry.IssuerKeyHash = p.TBSCertificate, leaf.Raw, p.IssuerKeyHash[:]
	}
	for _, der := range above {
		a.entry.FingerprintsChain = append(a.entry.FingerprintsChain, sha256.Sum256(der))
	}
	return a, sha256.Sum256(leaf.Raw), nil
}

// Run writes the log until ctx ends. What is submitted while a batch is written makes the
// next one.
func (l *CT) Run(ctx context.Context, log *slog.Logger) {
	l.running(true)
	defer l.running(false)
	defer l.close()
	for {
		var batch []asked
		select {
		case <-ctx.Done():
			return
		case a := <-l.asked:
			batch = append(batch, a)
		}
		for more := true; more && len(batch) < layout.EntryBundleWidth; {
			select {
			case a := <-l.asked:
				batch = append(batch, a)
			default:
				more = false
			}
		}
		if err := l.append(ctx, batch); err != nil {
			log.Error("the certificate transparency log is not written", "origin", l.key.origin, "problem", err)
			l.close()
			err = notHere(err)
			for _, a := range batch {
				a.answer <- answered{err: err}
			}
		}
	}
}

// running turns submissions away while nobody takes them, and those that still wait.
func (l *CT) running(is bool) {
	l.mu.Lock()
	l.runs = is
	l.mu.Unlock()
	for !is {
		select {
		case a := <-l.asked:
			a.answer <- answered{err: notHere(errors.New("the server is stopping"))}
		default:
			return
		}
	}
}

func (l *CT) close() {
	l.tree = nil
	if l.lock != nil {
		_ = l.lock.Close() // lets go of the lock in any case
		l.lock = nil
	}
}

func (l *CT) open(ctx context.Context) (err error) {
	if l.lock, err = l.dir.lock(); err != nil {
		return err
	}
	text, err := l.dir.read(checkpointFile)
	if errors.Is(err, os.ErrNotExist) {
		l.tree, err = openTree(ctx, l.dir, ctBundles, 0, nil)
		return err
	}
	if err != nil {
		return err
	}
	c, err := openCheckpoint(text, l.key)
	if err != nil {
		return damaged("its checkpoint").Because(err)
	}
	at, err := l.key.signedAt(c.Note)
	if err != nil {
		return damaged("its checkpoint").Because(err)
	}
	l.last = max(l.last, at)
	l.tree, err = openTree(ctx, l.dir, ctBundles, c.Size, c.Root)
	return err
}

// append puts a batch into the tree, publishes a checkpoint, and only then answers.
func (l *CT) append(ctx context.Context, batch []asked) error {
	if l.tree == nil {
		if err := l.open(ctx); err != nil {
			return err
		}
	}
	// Time never goes back in a log, whatever the clock does.
	l.last = max(l.last, uint64(l.now().UnixMilli()))
	added := make([]entry, len(batch))
	var issuers []file
	for i := range batch {
		e, index := &batch[i].entry, l.tree.size+uint64(i)
		e.Timestamp = l.last
		added[i] = entry{e.LeafData(index), e.MerkleLeafHash(index)}
		for _, der := range batch[i].chain {
			name := issuerFile(sha256.Sum256(der))
			if _, err := l.dir.stat(name); errors.Is(err, os.ErrNotExist) {
				issuers = append(issuers, file{name, der})
			}
		}
	}
	first := l.tree.size
	if err := l.dir.write(issuers...); err != nil {
		return err
	}
	if err := l.tree.grow(added); err != nil {
		return err
	}
	root, err := l.tree.root()
	if err != nil {
		return err
	}
	k := l.key
	k.timestamp = l.last
	c, err := sign(k, l.tree.size, root)
	if err != nil {
		return fmt.Errorf("signing a checkpoint: %w", err)
	}
	if err := l.dir.write(file{checkpointFile, c.Note}); err != nil {
		return err
	}
	l.tree.tidy()
	for i, a := range batch {
		json, err := l.key.sct(a.entry, first+uint64(i))
		a.answer <- answered{json, err}
	}
	return nil
}

func issuerFile(fingerprint [sha256.Size]byte) string {
	return "issuer/" + hex.EncodeToString(fingerprint[:])
}

// Note is the latest checkpoint.
func (l *CT) Note() ([]byte, error) {
	text, err := l.dir.read(checkpointFile)
	if err != nil {
		return nil, notHere(err)
	}
	return text, nil
}

// Tile is a tile of hashes; NotFound, rule "no-tile".
func (l *CT) Tile(ctx context.Context, level, index uint64, partial uint8) ([]byte, error) {
	data, err := l.dir.tile(ctx, level, index, partial)
	if err != nil {
		return nil, fault.New(fault.NotFound, "no-tile", "The log has no such tile.").Because(err)
	}
	return data, nil
}

// Data is a bundle of entries: whole certificates; NotFound, rule "no-tile".
func (l *CT) Data(_ context.Context, index uint64, partial uint8) ([]byte, error) {
	entries, err := ctBundles.read(l.dir, index, partial)
	if err != nil {
		return nil, fault.New(fault.NotFound, "no-tile", "The log has no such tile.").Because(err)
	}
	return bytes.Join(entries, nil), nil
}

// Issuer is a certificate above an entry, by its SHA-256; NotFound, rule "no-tile".
func (l *CT) Issuer(fingerprint string) ([]byte, error) {
	raw, err := hex.DecodeString(fingerprint)
	if err != nil || len(raw) != sha256.Size {
		return nil, fault.New(fault.NotFound, "no-tile", "The log has no such certificate.")
	}
	der, err := l.dir.read(issuerFile([sha256.Size]byte(raw)))
	if err != nil {
		return nil, fault.New(fault.NotFound, "no-tile", "The log has no such certificate.").Because(err)
	}
	return der, nil
}

// ctBundles are those of C2SP static-ct-api: TileLeaf structures, one behind the other.
var ctBundles = bundles{
	path: func(index uint64, partial uint8) string { return "tile/data/" + layout.NWithSuffix(0, index, partial) },
	entry: func(rest []byte) (int, error) {
		s := cryptobyte.String(rest)
		var kind uint16
		var skipped cryptobyte.String
		ok := s.Skip(8) && s.ReadUint16(&kind) && kind <= 1 && (kind == 0 || s.Skip(sha256.Size)) && s.ReadUint24LengthPrefixed(&skipped) &&
			s.ReadUint16LengthPrefixed(&skipped) && (kind == 0 || s.ReadUint24LengthPrefixed(&skipped)) && s.ReadUint16LengthPrefixed(&skipped)
		if !ok {
			return 0, io.ErrUnexpectedEOF
		}
		return len(rest) - len(s), nil
	},
}

// ctKey signs SCTs and checkpoints of a CT log (static-ct-api: one ECDSA key for both).
type ctKey struct {
	origin    string
	signer    crypto.Signer
	spki      []byte
	id        [sha256.Size]byte // the log's id, RFC 6962 §3.2
	timestamp uint64            // of the checkpoint to be signed
}

func newCTKey(origin string, signer crypto.Signer) (ctKey, error) {
	public, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve.Params().BitSize != 256 {
		return ctKey{}, fault.New(fault.Malformed, "log-key", "SCTs are signed with an ECDSA key on P-256.")
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	return ctKey{origin: origin, signer: signer, spki: spki, id: sha256.Sum256(spki)}, err
}

// Name implements note.Signer and note.Verifier.
func (k ctKey) Name() string { return k.origin }

// KeyHash implements note.Signer and note.Verifier.
func (k ctKey) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(k.origin+"\n\x05"), k.id[:]...))
	return binary.BigEndian.Uint32(sum[:])
}

var (
	_ note.Signer   = ctKey{}
	_ note.Verifier = ctKey{}
)

// Sign implements note.Signer: an RFC6962NoteSignature over the tree head in the text.
func (k ctKey) Sign(msg []byte) ([]byte, error) {
	input, err := treeHead(msg, k.timestamp)
	if err != nil {
		return nil, err
	}
	signed, err := k.digitally(input)
	if err != nil {
		return nil, err
	}
	raw, err := tls.Marshal(signed)
	return append(binary.BigEndian.AppendUint64(nil, k.timestamp), raw...), err
}

// Verify implements note.Verifier.
func (k ctKey) Verify(msg, sig []byte) bool {
	if len(sig) < 8 {
		return false
	}
	input, err := treeHead(msg, binary.BigEndian.Uint64(sig))
	if err != nil {
		return false
	}
	var signed tls.DigitallySigned
	rest, err := tls.Unmarshal(sig[8:], &signed)
	return err == nil && len(rest) == 0 && tls.VerifySignature(k.signer.Public(), input, signed) == nil
}

// signedAt is the timestamp of a checkpoint that the key signed: no entry below it has a
// later one.
func (k ctKey) signedAt(text []byte) (uint64, error) {
	n, err := note.Open(text, note.VerifierList(k))
	if err != nil {
		return 0, err
	}
	sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(sig) < 12 { // behind the hash of the key's name
		return 0, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return binary.BigEndian.Uint64(sig[4:]), nil
}

// treeHead is what RFC 6962 §3.5 signs, of a checkpoint's text.
func treeHead(text []byte, timestamp uint64) ([]byte, error) {
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) < 3 {
		return nil, errors.New("no checkpoint")
	}
	sth := ct.SignedTreeHead{Version: ct.V1, Timestamp: timestamp}
	if _, err := fmt.Sscan(string(lines[1]), &sth.TreeSize); err != nil {
		return nil, err
	}
	root, err := base64.StdEncoding.DecodeString(string(lines[2]))
	if err != nil || len(root) != sha256.Size {
		return nil, errors.New("no root")
	}
	copy(sth.SHA256RootHash[:], root)
	return ct.SerializeSTHSignatureInput(sth)
}

func (k ctKey) digitally(input []byte) (ct.DigitallySigned, error) {
	digest := sha256.Sum256(input)
	sig, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	return ct.DigitallySigned{Algorithm: tls.SignatureAndHashAlgorithm{Hash: tls.SHA256, Signature: tls.ECDSA}, Signature: sig}, err
}

// sct is the answer to a submission: the SCT as JSON (RFC 6962 §4.1).
func (k ctKey) sct(e ctonly.Entry, index uint64) ([]byte, error) {
	var leaf ct.MerkleTreeLeaf
	if _, err := tls.Unmarshal(e.MerkleTreeLeaf(index), &leaf); err != nil {
		return nil, fmt.Errorf("internal error: a leaf of the CT log: %w", err)
	}
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: k.id}, Timestamp: e.Timestamp, Extensions: leaf.TimestampedEntry.Extensions}
	input, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: leaf})
	if err != nil {
		return nil, err
	}
	signed, err := k.digitally(input)
	if err != nil {
		return nil, err
	}
	raw, err := tls.Marshal(signed)
	if err != nil {
		return nil, err
	}
	return json.Marshal(ct.AddChainResponse{
		SCTVersion: ct.V1, ID: k.id[:], Timestamp: e.Timestamp, Extensions: base64.StdEncoding.EncodeToString(sct.Extensions), Signature: raw,
	})
}
