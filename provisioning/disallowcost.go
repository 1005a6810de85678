package provisioning

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// HubWait is how long a hub that lives elsewhere will take to be told of devices; zero for the
// built-in one, which knows at once.
type HubWait struct {
	Ahead     int64 // devices that it is to be told of already
	PerMinute int   // calls it gets at most; 0: as many as it answers, so that nobody knows how long
	Batch     int   // devices that one call takes
	Circuit   HubCircuit
	Takes     time.Duration // those and these, at that rate
}

// Elsewhere says that the hub has to be told.
func (w HubWait) Elsewhere() bool { return w.Circuit != "" }

// waitFor is how long a hub takes for so many devices more than it is to be told of already.
func (e *Engine) waitFor(tx Tx, hub string, devices int64, now time.Time) (w HubWait, err error) {
	h, err := tx.Hub(hub)
	if fault.Is(err, fault.NotFound) || err == nil && h.Driver == BuiltIn {
		return w, nil
	}
	if err != nil {
		return w, err
	}
	link, err := tx.HubLink(hub)
	if err != nil {
		return w, err
	}
	rate := e.rateOf(h)
	w = HubWait{PerMinute: rate.calls, Batch: rate.batch, Circuit: link.Circuit(now)}
	if w.Ahead, _, err = tx.CountHubAhead(hub); err != nil {
		return w, err
	}
	w.Takes = rate.takes(devices + w.Ahead)
	return w, nil
}

// waits fills in how long each hub will take.
func (e *Engine) waits(tx Tx, hubs []HubCount, now time.Time) (err error) {
	for i, h := range hubs {
		if hubs[i].HubWait, err = e.waitFor(tx, h.Hub, h.Devices, now); err != nil {
			return err
		}
	}
	return nil
}

// ShardCount is a number of certificates on one CRL.
type ShardCount struct {
	Issuer       ca.IssuerID
	Shard        int
	Certificates int64
}

func certificatesOf(shards []ShardCount) (n int64) {
	for _, s := range shards {
		n += s.Certificates
	}
	return n
}

// CRLGrowth is what a disallowance adds to CRLs.
type CRLGrowth struct {
	Lists  int64 // that grow
	Octets int64 // of all their new entries
}

// growth counts the lists and the entries of what falls at once, and because of Since.
func (p DisallowPreview) growth(since []ShardCount) (g CRLGrowth) {
	lists := map[ShardCount]bool{}
	for _, s := range since {
		lists[ShardCount{Issuer: s.Issuer, Shard: s.Shard}] = true
	}
	for _, c := range p.fall {
		lists[ShardCount{Issuer: c.Issuer, Shard: c.Shard}] = true
	}
	g.Lists = int64(len(lists))
	g.Octets = (certificatesOf(since) + int64(len(p.fall))) * int64(ca.CRLEntrySize(p.leafReason()))
	return g
}

// leafReason is the reason with which certificates of devices are revoked (RFC 5280 §5.3.1).
func (i Incident) leafReason() ca.Reason {
	if i.Reason == ca.CACompromise {
		return ca.KeyCompromise
	}
	return i.Reason
}
