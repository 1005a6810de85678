package provisioning

import (
	"slices"
	"sync"

	"github.com/passmuster/muster/verify"
)

// Connection is what a kept TLS connection remembers of the one device it belongs to:
// which signatures verified, and the facts that its last registration was committed on.
// The zero Connection is ready; a nil one remembers nothing.
type Connection struct {
	signatures verify.Memo

	mu    sync.Mutex
	query FactsQuery // of the facts
	facts Facts      // no Epoch: none are kept
}

func (c *Connection) memo() *verify.Memo {
	if c == nil {
		return nil
	}
	return &c.signatures
}

// recall gives a decision the facts kept for the same device, certificates and kind of
// request, once: they are kept again when they were found unmoved.
func (c *Connection) recall(d *decision) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.facts.Epoch == 0 || c.query.ID != d.query.ID || c.query.Profiles != d.query.Profiles ||
		c.query.SharedKey != d.query.SharedKey || !slices.Equal(c.query.Thumbs, d.query.Thumbs) {
		return false
	}
	d.facts, c.facts = c.facts, Facts{}
	return true
}

// keep remembers the facts of an ordinary device as they are after its registration.
func (c *Connection) keep(d *decision, next Registration) {
	if c == nil || d.facts.Digest != 0 || d.own {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.query, c.facts = d.query, d.facts
	c.facts.Registration = &next
}
