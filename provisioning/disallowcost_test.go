package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// I11: minutes under each hub's rate, with what it is to be told of already; and what is left of
// them, while it goes on.
func TestAPreviewSaysHowLongHubsWillTake(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		hub := w.inMemory(provisioning.HubTraits{Batch: 2, PerMinute: 60}, elsewhere)[0]
		f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > d3; mid > d4")
		w.anchor(f.Get("root"), true)
		w.group("here", f.Get("mid"), livingOn(builtIn))
		w.assigned(w.presenting("d4", f.Get("d4").Chain()...))
		w.group("here", f.Get("mid"), livingOn(elsewhere))
		for _, name := range []string{"d1", "d2", "d3"} {
			_, err := w.register(w.presenting(name, f.Get(name).Chain()...))
			w.must(err)
		}
		for range 2 {
			w.sweepHubs()
			w.pass(5 * time.Second)
		}
		w.crowd("others", elsewhere, 4) // ahead, and not told yet

		r := provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw}
		p := w.foresees(r)
		want := []provisioning.HubCount{
			{Hub: builtIn, Devices: 1},
			{Hub: elsewhere, Devices: 3, HubWait: provisioning.HubWait{Ahead: 4, PerMinute: 60, Batch: 2, Circuit: provisioning.CircuitClosed, Takes: 4 * time.Second}},
		}
		if len(p.Hubs) != 2 || p.Hubs[0] != want[0] || p.Hubs[1] != want[1] {
			t.Fatalf("foresees %+v, want %+v", p.Hubs, want)
		}
		i := w.disallow(r)
		w.follow()
		left := func() provisioning.HubWait { return w.incident(i.ID).Hubs[1].HubWait }
		if got := left(); got.Ahead != 7 || got.Takes != 4*time.Second { // the same, now that all are ahead
			t.Errorf("left: %+v", got)
		}
		w.sweepHubs() // three calls: now, after a second, after two
		if got := left(); got.Ahead != 1 || got.Takes != time.Second {
			t.Errorf("left after a step: %+v", got)
		}
		w.settles()
		if got := w.isDone(i.ID).Hubs[1].HubWait; got != (provisioning.HubWait{}) {
			t.Errorf("left when it is done: %+v", got)
		}
		for _, name := range []string{"d1", "d2", "d3"} {
			if d, there := hub.Device(name); !there || d.Enabled {
				t.Errorf("%s: %+v, %v", name, d, there)
			}
		}
	})
}

// What the preview says is what the CRL then grows by.
func TestAPreviewSaysByHowMuchCRLsGrow(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]string{"with a reason": "", "unspecified": "unspecified"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > d3")
			w.anchor(f.Get("root"), true)
			w.group("line", f.Get("mid"), livingOn(builtIn))
			began := w.now()
			w.pass(time.Hour)
			for _, name := range []string{"d1", "d2", "d3"} {
				_, err := w.enroll(w.presenting(name, f.Get(name).Chain()...))
				w.must(err)
			}
			size := func() (n, lists int64) {
				w.must(w.authority.SweepCRLs(w.ctx))
				shards, err := w.authority.CRLShards(w.ctx)
				w.must(err)
				for _, s := range shards {
					crl, err := w.authority.PublishedCRL(w.ctx, s.Issuer, s.Shard)
					w.must(err)
					n += int64(len(crl.DER))
					if crl.Entries > 0 {
						lists++
					}
				}
				return n, lists
			}
			before, _ := size()
			r := provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw, Since: began}
			if reason != "" {
				r.Reason = "unspecified"
			}
			p := w.foresees(r)
			w.disallow(r)
			w.follow()
			after, lists := size()
			// The frame of a list grows a little with it: lengths, and the ECDSA signature's own.
			if grown := after - before; p.CRL.Lists != lists || p.IssuedSince != 3 || grown < p.CRL.Octets-4 || grown > p.CRL.Octets+12 {
				t.Errorf("%d certificates: foresees %+v; %d lists grew by %d", p.IssuedSince, p.CRL, lists, grown)
			}
		})
	}
}
