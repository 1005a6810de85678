package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// comes is a client of a broker that shows a chain.
func (w *world) comes(a provisioning.Attempt) provisioning.HubClient {
	return provisioning.HubClient{Device: a.ID, Chain: a.Evidence.Chain}
}

// known is a client of which a broker knows the thumbprint of its certificate alone.
func (w *world) known(a provisioning.Attempt) provisioning.HubClient {
	return provisioning.HubClient{Device: a.ID, Thumbprint: a.Evidence.Chain.Leaf().Thumbprint}
}

// signs is a client that shows a token for the built-in hub.
func (w *world) signs(name string, key []byte, resource string, opts ...testkit.SASOption) provisioning.HubClient {
	w.t.Helper()
	token, err := verify.ParseSAS(testkit.SAS(key, "", "", w.clock.Add(time.Hour), append([]testkit.SASOption{testkit.Resource(resource), testkit.KeyName("")}, opts...)...))
	w.must(err)
	return provisioning.HubClient{Device: id(w, name), Token: &token}
}

func (w *world) verdict(c provisioning.HubClient) provisioning.HubVerdict {
	w.t.Helper()
	list, err := w.engine.CheckHub(w.ctx, builtIn, c)
	w.must(err)
	return list[0]
}

// answers asks about clients and wants these reasons, "" for one that is let in.
func (w *world) answers(what string, want string, clients ...provisioning.HubClient) {
	w.t.Helper()
	for i, c := range clients {
		if v := w.verdict(c); v.Reason != want || (want == "") == v.Until.IsZero() {
			w.t.Errorf("%s, client %d: %+v, want the reason %q", what, i, v, want)
		}
	}
}

func TestABrokerLetsInWhatTheHubKnows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		f := testkit.Chain(t, "root > mid > d1")
		mid := f.Get("mid")
		d2 := mid.Issue(t, "d2")
		w.anchor(f.Get("root"), true)
		line := w.group("line", mid)
		factory := w.presenting("d1", f.Get("d1").Chain()...)
		w.answers("before it registered", "device-not-found", w.comes(factory))
		w.assigned(factory)
		w.assigned(w.presenting("d2", d2.Chain()...))
		w.answers("with its factory's certificate", "", w.comes(factory))
		if v := w.verdict(w.known(factory)); v.Reason != "" || !v.Until.IsZero() { // only its thumbprint is on record
			t.Errorf("known by its thumbprint: %+v", v)
		}
		w.answers("with another device's", "credential-differs", w.comes(w.presenting("d2", f.Get("d1").Chain()...)), w.known(w.presenting("d1", d2.Chain()...)))
		w.answers("with nothing", "credential-missing", provisioning.HubClient{Device: id(w, "d1")})
		w.answers("with a token", "credential-missing", w.signs("d1", []byte("0123456789abcdef"), builtIn+"/devices/d1"))

		leaf, err := w.enroll(factory)
		w.must(err)
		ours := w.presenting("D1", leaf)
		w.answers("with ours", "", w.comes(ours), w.known(ours))
		if v := w.verdict(w.comes(ours)); !v.Until.Equal(leaf.NotAfter) || v.DeviceID != "d1" || v.Registration != id(w, "d1") || v.Hub != builtIn {
			t.Errorf("let in as %+v", v)
		}
		w.answers("with what ours took the place of", "credential-differs", w.comes(factory))

		t.Log("disabling the enrollment leaves the hub alone (J1), disabling it there does not")
		w.enable(line.Owner, false)
		w.answers("of a disabled group", "", w.comes(ours))
		w.putOnHub(draft(w, "d1", off))
		w.answers("disabled at the hub", "hub-device-disabled", w.comes(ours), w.known(ours))
		w.putOnHub(draft(w, "d1", on))
		w.answers("enabled again", "", w.comes(ours))
		w.removeFromHub("d1")
		w.answers("deleted at the hub", "device-not-found", w.comes(ours))

		w.clock = leaf.NotAfter.Add(time.Minute)
		w.enable(line.Owner, true)
		w.assigned(factory)
		w.answers("after its end", "leaf-expired", w.comes(ours), w.known(ours))
	})
}

func TestABrokerRefusesFromTheCommitOn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		f := testkit.Chain(t, "root > mid > d1")
		mid := f.Get("mid")
		w.anchor(f.Get("root"), true)
		w.group("line", mid)
		factory := w.presenting("d1", f.Get("d1").Chain()...)
		leaf, err := w.enroll(factory)
		w.must(err)
		ours := w.presenting("d1", leaf)
		d2, d3 := w.presenting("d2", mid.Issue(t, "d2").Chain()...), w.presenting("d3", mid.Issue(t, "d3").Chain()...)
		w.assigned(d2)
		w.assigned(d3)
		// One that only the hub knows of, below the same CA.
		alone := mid.Issue(t, "alone")
		w.putOnHub(draft(w, "alone", auth(provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{thumb(alone)}})))
		visitor := w.presenting("alone", alone.Chain()...)
		w.answers("before", "", w.comes(ours), w.known(ours), w.comes(d2), w.comes(visitor))

		w.disallow(provisioning.DisallowRequest{Certificate: d2.Evidence.Chain.Leaf().Cert.Raw, Scope: provisioning.DisallowKey})
		w.answers("its key is stolen", "disallowed", w.comes(d2), w.known(d2))
		w.answers("another's key is", "", w.comes(ours), w.comes(d3), w.comes(visitor))
		i := w.disallow(provisioning.DisallowRequest{Certificate: leaf.Raw})
		w.answers("our certificate is stolen, and out of its pair", "credential-differs", w.comes(ours), w.known(ours))
		w.must2(w.engine.LiftDisallowance(w.ctx, "operator:test", i.ID))
		w.answers("lifted: it stays revoked", "credential-differs", w.comes(ours))

		ca := w.disallow(provisioning.DisallowRequest{Certificate: mid.Cert.Raw})
		w.answers("the CA is stolen", "disallowed", w.comes(d3), w.known(d3), w.comes(visitor))
		w.must2(w.engine.LiftDisallowance(w.ctx, "operator:test", ca.ID))
		w.answers("lifted", "", w.comes(d3), w.comes(visitor))
	})
}

func TestABrokerRefusesWhatARevokedIssuerSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	leaf, err := w.enroll(w.signing("d1", key))
	w.must(err)
	ours := provisioning.HubClient{Device: id(w, "d1"), Chain: verify.Chain{verify.NewLink(leaf)}}
	// A device that attests with a key proves itself to its hub by that.
	w.answers("of a device with keys", "credential-missing", ours)
	w.putOnHub(draft(w, "d1", auth(provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{verify.ThumbprintOf(leaf.Raw).String()}})))
	w.answers("as set at the hub", "", ours)
	issuers, err := w.authority.Issuers(w.ctx)
	w.must(err)
	for _, i := range issuers {
		if i.Role == ca.RoleIssuing {
			_, err := w.authority.RevokeIssuer(w.ctx, "operator:test", i.ID, ca.CACompromise)
			w.must(err)
		}
	}
	w.answers("its issuer is revoked: the hub knows it no more", "credential-differs", ours, provisioning.HubClient{Device: ours.Device, Thumbprint: verify.ThumbprintOf(leaf.Raw)})
}

func TestABrokerTakesTheTokensOfADevice(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		w.keyed(provisioning.Individual, "k1")
		owner := provisioning.Owner{ID: id(w, "k1")}
		keys, err := w.engine.Keys(w.ctx, "operator:test", owner)
		w.must(err)
		w.assigned(w.signing("k1", keys[0]))
		rows := w.rows()
		right := builtIn + "/devices/k1"
		w.answers("by either key", "", w.signs("k1", keys[0], right), w.signs("K1", keys[1], right), w.signs("k1", keys[0], "HUB-1.example.net%2Fdevices%2FK1"))
		w.answers("by no key", "sas-signature", w.signs("k1", []byte("0123456789abcdef"), right))
		w.answers("for something else", "sas-other-resource",
			w.signs("k1", keys[0], builtIn), w.signs("k1", keys[0], builtIn+"/devices/k2"), w.signs("k1", keys[0], scope+"/registrations/k1"), w.signs("k1", keys[0], "hub-2.example.net/devices/k1"))
		w.answers("of a policy", "sas-key-name", w.signs("k1", keys[0], right, testkit.KeyName("device")))
		w.answers("with a certificate", "credential-missing", w.comes(w.presenting("k1", testkit.Chain(t, "root > k1").Get("k1").Chain()...)))
		if got := w.rows(); got != rows {
			t.Errorf("checks wrote to the ledger: newest entry %d, before %d", got, rows)
		}
		old := w.signs("k1", keys[0], right)
		_, err = w.engine.RegenerateKey(w.ctx, "operator:test", owner, rotation.Primary, true, provisioning.Precondition{Any: true})
		w.must(err)
		w.answers("by a key that was made anew", "sas-signature", old)
		late := w.signs("k1", keys[1], right)
		w.pass(2 * time.Hour)
		w.answers("after its end", "sas-expired", late)

		w.putOnHub(draft(w, "k1", auth(provisioning.HubAuth{Type: provisioning.HubCertificateAuthority})))
		w.answers("of a kind nobody here can judge", "credential-kind", w.signs("k1", keys[1], right))
	})
}

func TestThumbprintsOfSHA1LetNobodyIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	weak := testkit.Chain(t, "root > old").Get("old")
	w.putOnHub(draft(w, "old", auth(provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{"0123456789ABCDEF0123456789ABCDEF01234567"}})))
	w.answers("a SHA-1", "credential-differs", w.comes(w.presenting("old", weak.Chain()...)))
}

func TestABrokerNamesItsHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := provisioning.HubClient{Device: id(w, "d1")}
	wants := func(hub string, kind fault.Kind, rule string) {
		t.Helper()
		if _, err := w.engine.CheckHub(w.ctx, hub, client); fault.KindOf(err) != kind || fault.RuleOf(err) != rule {
			t.Errorf("of the hub %q: %v, want %q", hub, err, rule)
		}
	}
	wants("nowhere.example.net", fault.NotFound, "hub-not-found")
	if _, err := w.engine.CheckHub(w.ctx, "", client); err != nil {
		t.Errorf("the only built-in hub: %v", err)
	}
	if _, err := w.engine.CheckHub(w.ctx, "HUB-1.example.net", client); err != nil {
		t.Errorf("in other letters: %v", err)
	}
	_, _, err := w.engine.LinkHub(w.ctx, "operator:test", provisioning.Hub{Name: "far.example.net", Driver: "webhook", Weight: 1}, "https://far.example.net/x", provisioning.Precondition{})
	w.must(err)
	wants("far.example.net", fault.Malformed, "hub-elsewhere")
	w.hub("hub-2.example.net")
	wants("", fault.Malformed, "hub-ambiguous")
	w.must(w.engine.DeleteHub(w.ctx, "operator:test", builtIn, provisioning.Precondition{Any: true}))
	w.must(w.engine.DeleteHub(w.ctx, "operator:test", "hub-2.example.net", provisioning.Precondition{Any: true}))
	wants("", fault.NotFound, "hub-not-found")
}
