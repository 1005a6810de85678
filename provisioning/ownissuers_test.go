package provisioning_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// next makes another issuing CA below the world's root; promoted has it sign from now on.
func (w *world) next(promoted bool) ca.Issuer {
	w.t.Helper()
	root, _ := w.issuers()
	i, err := w.authority.CreateIssuing(w.ctx, ann, root.ID, ca.IssuingRequest{Name: "Next Issuing"})
	w.must(err)
	if promoted {
		i, err = w.authority.Promote(w.ctx, ann, i.ID, ca.Promotion{})
		w.must(err)
	}
	return i
}

// stateOf is where an issuer stands on record.
func (w *world) stateOf(id ca.IssuerID) ca.IssuerState {
	w.t.Helper()
	list, err := w.authority.Issuers(w.ctx)
	w.must(err)
	return list[slices.IndexFunc(list, func(i ca.Issuer) bool { return i.ID == id })].State
}

// responding is an authority on the same tables that answers OCSP and signs CRLs.
func (w *world) responding() *ca.Authority {
	w.t.Helper()
	a, err := ca.New(w.ctx, w.db.CA(), w.folder, ca.Config{PKIURL: "http://pki.example.net", StatusConfig: ca.StatusConfig{Box: w.box}}, w.now)
	w.must(err)
	w.must(a.SweepStatus(w.ctx))
	return a
}

// status asks for the OCSP status of a certificate.
func (w *world) status(a *ca.Authority, leaf *x509.Certificate, by ca.Issuer) string {
	w.t.Helper()
	der, err := ocsp.CreateRequest(leaf, w.entity(by).Cert, nil)
	w.must(err)
	q, err := ca.ParseOCSPRequest(der)
	w.must(err)
	got, err := a.AnswerOCSP(w.ctx, q, by.ID)
	w.must(err)
	return got.Status
}

// An issuing CA of ours is stolen while the next one signs already. What it signed is good nowhere;
// devices stay by what else they have, and come back by themselves with what they came with first.
func TestAStolenIssuerOfOursFallsWithAllItSigned(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		hub := w.linked(elsewhere)
		f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > rolled; mid > later")
		w.anchor(f.Get("root"), true)
		w.group("line", f.Get("mid"), livingOn(builtIn))
		w.put(provisioning.Group, "far", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn(elsewhere))
		keys, err := w.engine.Keys(w.ctx, ann, provisioning.Owner{Kind: provisioning.Group, ID: id(w, "far")})
		w.must(err)
		key := verify.DeriveKey(verify.NewSecret(keys[0]), "away").Reveal()
		_, stolen := w.issuers()

		leaves := map[string]*x509.Certificate{}
		for _, name := range []string{"d1", "d2", "rolled"} {
			leaves[name], err = w.enroll(w.presenting(name, f.Get(name).Chain()...))
			w.must(err)
		}
		leaves["away"], err = w.enroll(w.signing("away", key))
		w.must(err)
		w.sweepHubs()
		w.pinnedElsewhere("far-d2", leaves["d2"])
		status := w.responding()
		next := w.next(true)
		w.pass(time.Minute)
		fresh, err := w.enroll(w.presenting("rolled", leaves["rolled"]))
		w.must(err)
		w.signedBy(fresh, next)
		later, err := w.enroll(w.presenting("later", f.Get("later").Chain()...))
		w.must(err)
		w.sweepHubs()
		w.assigned(w.presenting("d1", leaves["d1"]))
		if got := w.status(status, leaves["d1"], stolen); got != "good" {
			t.Fatalf("OCSP says %s before", got)
		}

		r := provisioning.DisallowRequest{Certificate: stolen.Certificate}
		p := w.foresees(r)
		hubs := []provisioning.HubCount{{Hub: builtIn, Devices: 3}, {Hub: elsewhere, Devices: 1}}
		for n := range p.Hubs {
			p.Hubs[n].HubWait = provisioning.HubWait{}
		}
		if p.Scope != provisioning.DisallowBelow || !p.Ours || !p.Known || len(p.Stops) != 0 || len(p.Fallen) != 1 || p.Fallen[0].ID != stolen.ID ||
			p.Lost != 4 || !slices.Equal(p.Hubs, hubs) {
			t.Fatalf("foresees scope %s, %d issuers, %+v, %d certificates, %+v", p.Scope, len(p.Fallen), p.Stops, p.Lost, p.Hubs)
		}
		w.assigned(w.presenting("d1", leaves["d1"])) // a preview does nothing
		late := w.replica()
		i := w.disallow(r)
		if w.stateOf(stolen.ID) != ca.IssuerRevoked || w.stateOf(next.ID) != ca.IssuerActive || w.found(audit.IssuerRevoked) != 1 {
			t.Errorf("they are %s and %s", w.stateOf(stolen.ID), w.stateOf(next.ID))
		}

		// From the commit on, before any sweep.
		evil := w.thief(stolen)
		for _, at := range []*world{w, late} { // one process has not heard of it
			for what, a := range map[string]provisioning.Attempt{
				"a leaf of it":                    w.presenting("d1", leaves["d1"]),
				"with the issuer sent":            w.presenting("d1", leaves["d1"], evil.Cert),
				"that of a device that has two":   w.presenting("rolled", leaves["rolled"]),
				"one that the thief made":         w.presenting("d1", evil.Issue(t, "d1").Chain()...),
				"one below a CA that it made":     w.presenting("x", evil.Issue(t, "sub", testkit.AsCA()).Issue(t, "x").Chain()...),
				"one of a device known otherwise": w.presenting("away", leaves["away"]),
			} {
				at.shutOut(what, a)
			}
			at.assigned(w.presenting("rolled", fresh))
			at.assigned(w.presenting("later", later))
		}
		if got := w.status(status, leaves["d1"], stolen); got != "revoked" { // nor has this one
			t.Errorf("OCSP says %s", got)
		}
		if d := w.at(builtIn, "d1"); d.Auth.Thumbprints != hexOf(f.Get("d1").Cert.Raw) || !d.Enabled {
			t.Errorf("the built-in hub takes %v of d1", d.Auth)
		}
		if d := w.at(builtIn, "rolled"); d.Auth.Thumbprints != hexOf(fresh.Raw) || !d.Enabled {
			t.Errorf("the built-in hub takes %v of a device that has a clean certificate", d.Auth)
		}

		if d := w.at(builtIn, "far-d2"); d.Auth.Thumbprints != [2]string{} {
			t.Errorf("the built-in hub takes %v of one that was made at its door", d.Auth)
		}
		w.must(status.Reload(w.ctx))
		w.must(status.SweepStatus(w.ctx))
		root, _ := w.issuers()
		if crl, err := status.PublishedCRL(w.ctx, root.ID, 0); err != nil || crl.Entries != 1 {
			t.Errorf("its root's CRL has %d entries: %v", crl.Entries, err)
		}

		w.settles()
		got := w.isDone(i.ID)
		want := []provisioning.IncidentHub{{Hub: builtIn, Devices: 3}, {Hub: elsewhere, Devices: 1}}
		if got.Devices != 4 || !slices.Equal(got.Hubs, want) || !slices.Equal(got.Issuers, []ca.IssuerID{stolen.ID}) {
			t.Errorf("the report says %+v", got)
		}
		for name, held := range map[string]int{"d1": 0, "d2": 0, "away": 0, "rolled": 1, "later": 1} {
			if pair := w.registration(name).Pair; len(pair.Live(w.now())) != held {
				t.Errorf("%s holds %d certificates", name, len(pair.Live(w.now())))
			}
		}
		if d, there := hub.Device("away"); !there || !d.Enabled {
			t.Errorf("a device that came with a key: there %v, enabled %v", there, d.Enabled)
		}

		// They come back by themselves.
		w.signedBy(w.enrolled(w.presenting("d1", f.Get("d1").Chain()...)), next)
		w.signedBy(w.enrolled(w.signing("away", key)), next)
		if d := w.at(builtIn, "d1"); d.Auth.Thumbprints == hexOf(f.Get("d1").Cert.Raw) {
			t.Error("the hub does not know of the new certificate")
		}

		// It does not come back.
		if again := w.disallow(r); again.ID != i.ID {
			t.Errorf("twice is two: %s and %s", i.ID, again.ID)
		}
		_, err = w.engine.LiftDisallowance(w.ctx, ann, i.ID)
		w.must(err)
		w.settles()
		w.isDone(i.ID)
		w.shutOut("a leaf of it, after the lift", w.presenting("d2", leaves["d2"]))
		w.shutOut("one that the thief made, after the lift", w.presenting("d2", evil.Issue(t, "d2").Chain()...))
		if w.stateOf(stolen.ID) != ca.IssuerRevoked || w.status(status, leaves["d2"], stolen) != "revoked" {
			t.Error("a lift brought an issuer back")
		}
	})
}

func (w *world) enrolled(a provisioning.Attempt) *x509.Certificate {
	w.t.Helper()
	leaf, err := w.enroll(a)
	w.must(err)
	return leaf
}

// pinnedElsewhere makes a device at the built-in hub's own door that shows a certificate of ours.
func (w *world) pinnedElsewhere(name string, leaf *x509.Certificate) {
	w.t.Helper()
	_, err := w.engine.PutHubDevice(w.ctx, ann, provisioning.HubDraft{
		Hub: builtIn, ID: id(w, name), Spelled: name, Auth: &provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: hexOf(leaf.Raw)},
	}, provisioning.Precondition{})
	w.must(err)
}

// I14: the act that ends issuing has to say so, and says first who could go on.
func TestTheLastIssuerFallsOnlyIfThatIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, only := w.issuers()
	r := provisioning.DisallowRequest{Certificate: only.Certificate}
	stop := ca.Stop{Role: ca.RoleIssuing, Issuer: only.ID}
	p := w.foresees(r)
	if !slices.Equal(p.Stops, []ca.Stop{stop}) {
		t.Fatalf("it stops %+v", p.Stops)
	}
	_, err := w.engine.Disallow(w.ctx, ann, r, p.ID)
	if fault.RuleOf(err) != "last-issuer" || !strings.Contains(err.Error(), "nobody is left to sign for profiles without an issuer of their own") {
		t.Errorf("the last issuer falls: %v", err)
	}
	own, err := w.authority.CreateIssuing(w.ctx, ann, only.Parent, ca.IssuingRequest{Name: "For the default profile", Profile: "default"})
	w.must(err)
	if p := w.foresees(provisioning.DisallowRequest{Certificate: own.Certificate}); len(p.Stops) != 0 {
		t.Errorf("one for a profile, with one for all beside it: it stops %+v", p.Stops)
	}
	next := w.next(false)
	p, stop.Prepared = w.foresees(r), next.ID
	if !slices.Equal(p.Stops, []ca.Stop{stop}) {
		t.Errorf("with one prepared it stops %+v", p.Stops)
	}
	if _, err := w.engine.Disallow(w.ctx, ann, r, p.ID); fault.RuleOf(err) != "last-issuer" || !strings.Contains(err.Error(), string(next.ID)) {
		t.Errorf("it does not name the prepared one: %v", err)
	}
	if w.stateOf(only.ID) != ca.IssuerActive || w.found(audit.Disallowed) != 0 {
		t.Error("an act that was refused did something")
	}
	r.StopsIssuing = true
	w.disallow(r)
	if w.stateOf(only.ID) != ca.IssuerRevoked || w.stateOf(next.ID) != ca.IssuerPrepared {
		t.Error("it does not do what was said")
	}
	for _, scope := range []provisioning.DisallowScope{provisioning.DisallowCertificate, provisioning.DisallowKey} {
		if _, err := w.engine.PreviewDisallow(w.ctx, provisioning.DisallowRequest{Certificate: next.Certificate, Scope: scope}); fault.RuleOf(err) != "own-issuer" {
			t.Errorf("scope %s: %v", scope, err)
		}
	}
}

// An issuer that was made or promoted since the preview is more than was shown.
func TestAnIssuerThatCameSinceWasNotShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root, _ := w.issuers()
	r := provisioning.DisallowRequest{Certificate: root.Certificate, StopsIssuing: true}
	p := w.foresees(r)
	w.next(false)
	if _, err := w.engine.Disallow(w.ctx, ann, r, p.ID); fault.RuleOf(err) != "effect-grew" {
		t.Error(err)
	}
}

// The root falls with every issuer below it and all that these signed, a pinned leaf included.
func TestAStolenRootOfOursTakesEverythingBelowIt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		root, issuing := w.issuers()
		f := testkit.Chain(t, "factory > d1; factory > d2")
		w.anchor(f.Get("factory"), true)
		w.group("line", f.Get("factory"), livingOn(builtIn))
		leaf := w.enrolled(w.presenting("d1", f.Get("d1").Chain()...))
		pinned := w.enrolled(w.presenting("d2", f.Get("d2").Chain()...))
		own := w.individual("d2", &testkit.Entity{Cert: pinned}, nil, livingOn(builtIn))
		w.assigned(w.presenting("d2", pinned))
		w.trustOwn(root)

		r := provisioning.DisallowRequest{Thumbprint: verify.ThumbprintOf(root.Certificate), StopsIssuing: true}
		p := w.foresees(r)
		if len(p.Fallen) != 2 || len(p.Stops) != 2 || p.Devices != 2 || len(p.Entries) != 1 || p.Entries[0].Owner != (provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}) {
			t.Fatalf("foresees %d issuers, %+v, %d devices, %+v", len(p.Fallen), p.Stops, p.Devices, p.Entries)
		}
		i := w.disallow(r)
		for _, id := range []ca.IssuerID{root.ID, issuing.ID} {
			if w.stateOf(id) != ca.IssuerRevoked {
				t.Errorf("%s is %s", id, w.stateOf(id))
			}
		}
		thief := w.thief(issuing)
		w.shutOut("a leaf", w.presenting("d1", leaf))
		w.shutOut("a pinned leaf", w.presenting("d2", pinned))
		w.shutOut("a leaf that was never recorded, by the group on the root", w.presenting("d3", append(thief.Issue(t, "d3").Chain(), thief.Cert)...))
		if d := w.at(builtIn, "d2"); d.Enabled {
			t.Error("the hub lets the pinned leaf in")
		}
		w.settles()
		if got := w.isDone(i.ID); got.Devices != 2 {
			t.Errorf("the report says %+v", got)
		}
		if e, err := w.engine.Enrollment(w.ctx, own.Owner); err != nil || !e.Enabled {
			t.Errorf("an entry that pins a leaf was changed: %v", err)
		}
		// Nothing is left to sign; with a new root the devices come back.
		if _, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...)); fault.RuleOf(err) != "no-active-issuer" {
			t.Error(err)
		}
		second, err := w.authority.CreateRoot(w.ctx, ann, ca.RootRequest{Name: "Second Root"})
		w.must(err)
		after, err := w.authority.CreateIssuing(w.ctx, ann, second.ID, ca.IssuingRequest{Name: "Second Issuing"})
		w.must(err)
		w.signedBy(w.enrolled(w.presenting("d1", f.Get("d1").Chain()...)), after)
	})
}

// A revoked issuer's leaves are carried to hubs by a later disallowance as well.
func TestAnIssuerThatWasRevokedBeforeIsCarriedToHubs(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	leaf := w.enrolled(device)
	w.sweepHubs()
	w.holds(hub, "d1", leaf.Raw)
	_, active := w.issuers()
	_, err := w.authority.RevokeIssuer(w.ctx, ann, active.ID, ca.CACompromise)
	w.must(err)
	hub.Answers(down)
	r := provisioning.DisallowRequest{Certificate: active.Certificate}
	if p := w.foresees(r); p.Devices != 1 || len(p.Fallen) != 0 || len(p.Stops) != 0 {
		t.Errorf("foresees %d devices, %d issuers, %+v", p.Devices, len(p.Fallen), p.Stops)
	}
	i := w.disallow(r)
	w.follow()
	w.sweepHubs()
	if got := w.incident(i.ID); got.Pending() != 1 {
		t.Errorf("the hub is down, and the report says %+v", got)
	}
	hub.Answers(nil)
	w.settles()
	w.isDone(i.ID)
	w.holds(hub, "d1", device.Evidence.Chain.Leaf().Cert.Raw)
	if cell := w.registration("d1").Pair.Cell(rotation.Primary); cell.State != rotation.Empty {
		t.Errorf("the slot is %s", cell.State)
	}
}
