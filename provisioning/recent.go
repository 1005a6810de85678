package provisioning

import (
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// MaxRecent is how many of the last certificate requests are kept.
const MaxRecent = 1000

// RecentRequest is a certificate request as a device sent it, answered or refused. It
// holds an id and a public key, and no secret: requests with a challenge password are
// not kept.
type RecentRequest struct {
	At      time.Time
	ID      verify.RegistrationID
	Profile string // of the entry that decided
	CSR     []byte // DER
}

// recent remembers the last requests until they are saved. Those who register share one
// counter and no lock. It decides nothing: when more come between two savings than there is
// room for, the older ones are gone.
type recent struct {
	next  atomic.Uint64 // number of the next request; the first is 1
	slots [MaxRecent]atomic.Pointer[numbered]

	saving sync.Mutex
	saved  uint64 // requests up to this number are on record
}

type numbered struct {
	number uint64
	RecentRequest
}

func (r *recent) add(d *decision, csr *x509.CertificateRequest, now time.Time) {
	if csr == nil || d.entry.Profile == "" {
		return
	}
	n := r.next.Add(1)
	slot := &r.slots[n%MaxRecent]
	mine := &numbered{n, RecentRequest{At: now, ID: d.query.ID, Profile: d.entry.Profile, CSR: csr.Raw}}
	for was := slot.Load(); was == nil || was.number < n; was = slot.Load() {
		if slot.CompareAndSwap(was, mine) {
			return
		}
	}
}

// unsaved are the requests to be put on record, oldest first, and the number of the last
// that came. saving is held.
func (r *recent) unsaved() (list []RecentRequest, upTo uint64) {
	var found []*numbered
	for i := range r.slots {
		if n := r.slots[i].Load(); n != nil && n.number > r.saved {
			found = append(found, n)
		}
	}
	slices.SortFunc(found, func(a, b *numbered) int { return cmp.Compare(a.number, b.number) })
	upTo = r.saved
	for _, n := range found {
		// Looked for here, where no device waits.
		if upTo = n.number; !policies.HasChallenge(n.CSR) {
			list = append(list, n.RecentRequest)
		}
	}
	return list, upTo
}

// SaveRecentRequests puts on record what came since it was last called: once a minute,
// and before an orderly stop. jobs is the engine's store, where devices go first.
func (e *Engine) SaveRecentRequests(ctx context.Context, jobs Store) error {
	e.recent.saving.Lock()
	defer e.recent.saving.Unlock()
	list, upTo := e.recent.unsaved()
	if len(list) == 0 {
		e.recent.saved = upTo
		return nil
	}
	err := jobs.Update(ctx, func(tx Tx) error { return tx.AppendRecentRequests(list) })
	if err == nil {
		e.recent.saved = upTo
	}
	return err
}

// recentRequests are the last ones, newest first, on record or not yet.
func (e *Engine) recentRequests(ctx context.Context) (list []RecentRequest, err error) {
	e.recent.saving.Lock()
	defer e.recent.saving.Unlock()
	list, _ = e.recent.unsaved()
	slices.Reverse(list)
	var kept []RecentRequest
	err = e.store.View(ctx, func(tx Tx) error {
		kept, err = tx.RecentRequests(MaxRecent)
		return err
	})
	if list = append(list, kept...); len(list) > MaxRecent {
		list = list[:MaxRecent]
	}
	return list, err
}
