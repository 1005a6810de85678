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
	byKey map[answerKey]*list.Element // of keptAnswer
	order *list.List                  // the one used last is in front
}

// answerKey is what was asked: two spellings of a CertID have an answer each.
type answerKey struct {
	issuer IssuerID
	certID string
}

// keptAnswer is an answer, what it says and of which row, and who signed it.
type keptAnswer struct {
	OCSPAnswer
	key  answerKey
	row  statusRow
	says Revocation
	by   [sha1.Size]byte
}

// answerSize is about what one takes beside its answer.
const answerSize = 440

func (k keptAnswer) size() int { return len(k.DER) + len(k.key.certID) + answerSize }

func newAnswerCache(most int) *answerCache {
	return &answerCache{most: most, byKey: map[answerKey]*list.Element{}, order: list.New()}
}

// get returns what is kept for key: nothing but the key where nobody asked yet.
func (c *answerCache) get(key answerKey) keptAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, is := c.byKey[key]
	if !is {
		return keptAnswer{key: key}
	}
	c.order.MoveToFront(e)
	return e.Value.(keptAnswer)
}

func (c *answerCache) put(k keptAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, is := c.byKey[k.key]; is {
		c.remove(e)
	}
	c.byKey[k.key] = c.order.PushFront(k)
	for c.size += k.size(); c.size > c.most; {
		c.remove(c.order.Back())
	}
}

func (c *answerCache) remove(e *list.Element) {
	k := c.order.Remove(e).(keptAnswer)
	delete(c.byKey, k.key)
	c.size -= k.size()
}
