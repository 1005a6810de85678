package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// memoSize is how many paths one connection's memo holds. One device needs one; a
// gateway that speaks for several ids on one connection still sends one chain.
const memoSize = 8

// Memo remembers, for one connection, which immutable paths have verified, so that a
// kept connection does not pay for the same signatures again. It remembers neither
// dates nor standing: both are asked anew each time (INV-D1). The zero value is
// ready; it may be used from several goroutines; a nil Memo remembers nothing.
type Memo struct {
	mu    sync.Mutex
	paths map[memoKey]remembered
}

// memoKey is a digest of all that the outcome depends on but the time.
type memoKey [sha256.Size]byte

type remembered struct {
	path            []Link
	notBefore, last time.Time // the part of time in which all of the path is valid
}

func keyOf(chain Chain, anchors []Link, usage x509.ExtKeyUsage) memoKey {
	text := make([]byte, 0, 16+(len(chain)+len(anchors))*sha256.Size)
	text = binary.BigEndian.AppendUint64(text, uint64(usage))
	text = binary.BigEndian.AppendUint64(text, uint64(len(chain)))
	for _, l := range chain {
		text = append(text, l.Thumbprint[:]...)
	}
	for _, l := range anchors {
		text = append(text, l.Thumbprint[:]...)
	}
	return sha256.Sum256(text)
}

func (m *Memo) recall(key memoKey, now time.Time) ([]Link, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.paths[key]
	if !ok || now.Before(r.notBefore) || now.After(r.last) {
		return nil, false
	}
	return r.path, true
}

func (m *Memo) remember(key memoKey, path []Link) {
	r := remembered{path: path, notBefore: path[0].Cert.NotBefore, last: path[0].Cert.NotAfter}
	for _, l := range path[1:] {
		if l.Cert.NotBefore.After(r.notBefore) {
			r.notBefore = l.Cert.NotBefore
		}
		if l.Cert.NotAfter.Before(r.last) {
			r.last = l.Cert.NotAfter
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paths == nil || len(m.paths) >= memoSize {
		m.paths = make(map[memoKey]remembered, 1)
	}
	m.paths[key] = r
}
