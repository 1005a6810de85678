package ca

import (
	"container/list"
	"crypto/sha1"
	"sync"
)

// answerCache keeps answers that were signed, the ones used last, up to a number of octets.
type answerCache struct {
	most int

	mu    sync.Mutex
	size  int
	byKey map[answerKey]*list.Element // of keyed
	order *list.List                  // the one used last is in front
}

// answerKey is what was asked: two spellings of a CertID have an answer each.
type answerKey struct {
	issuer IssuerID
	certID string
}

// keptAnswer is an answer, what it says, and who signed it.
type keptAnswer struct {
	OCSPAnswer
	says Revocation
	by   [sha1.Size]byte
}

type keyed struct {
	key answerKey
	keptAnswer
}

// entrySize is about what an entry takes beside its answer.
const entrySize = 400

func (k keyed) size() int { return len(k.DER) + len(k.key.certID) + entrySize }

func newAnswerCache(most int) *answerCache {
	return &answerCache{most: most, byKey: map[answerKey]*list.Element{}, order: list.New()}
}

func (c *answerCache) get(key answerKey) (keptAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, is := c.byKey[key]
	if !is {
		return keptAnswer{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(keyed).keptAnswer, true
}

func (c *answerCache) put(key answerKey, a keptAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, is := c.byKey[key]; is {
		c.remove(e)
	}
	k := keyed{key, a}
	c.byKey[key] = c.order.PushFront(k)
	for c.size += k.size(); c.size > c.most; {
		c.remove(c.order.Back())
	}
}

func (c *answerCache) remove(e *list.Element) {
	k := c.order.Remove(e).(keyed)
	delete(c.byKey, k.key)
	c.size -= k.size()
}
