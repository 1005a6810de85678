package provisioning_test

import (
	"bytes"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// init says how many histories are tried on each database, unless -rapid.checks does.
func init() {
	histories := "10"
	if os.Getenv("MUSTER_SOAK") == "1" {
		histories = "500"
	}
	if err := flag.Set("rapid.checks", histories); err != nil {
		panic(err)
	}
}

// TestNothingDisallowedIsAdmitted: entries, slots, disallowances, lifts, quarantines and registrations
// in any order, by two processes in turns. The model is a list of what is disallowed; what the store
// must hold is checked after every step (architecture §7, invariants 2, 3, 4 and 10).
func TestNothingDisallowedIsAdmitted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		box := newBox(t)
		f := testkit.Chain(t, "root-1 > mid-1 > d1; mid-1 > d2; root-1 > mid-2 > d3; root-2 > mid-3 > d4; mid-3 > d5")
		w := newWorldOn(t, database, box)
		for _, root := range []string{"root-1", "root-2"} {
			w.anchor(f.Get(root), true)
		}
		other := w.engine
		w.restart()
		engines := []*provisioning.Engine{w.engine, other}
		w.wards()
		m := &model{world: w, f: f, engines: engines, leaves: map[string][]*x509.Certificate{}, fallen: map[string]bool{}, confined: map[string]bool{}}
		rapid.Check(t, m.run)
	})
}

// model is what a test knows of the world.
type model struct {
	*world
	f        *testkit.Family
	engines  []*provisioning.Engine
	leaves   map[string][]*x509.Certificate // issued here, by device
	confined map[string]bool                // devices in quarantine
	fallen   map[string]bool                // issuers of ours, by their key identifier: for good, whatever is lifted
}

var (
	modelCAs     = []string{"root-1", "mid-1", "mid-2", "root-2", "mid-3"}
	modelDevices = []string{"d1", "d2", "d3", "d4", "d5"}
	modelGroups  = []string{"g1", "g2", "g3"}
)

// run is one history. What an earlier one left is lifted first.
func (m *model) run(rt *rapid.T) {
	for _, i := range m.inForce() {
		_, err := m.engine.LiftDisallowance(m.ctx, ann, i.ID)
		m.must(err)
	}
	rt.Repeat(map[string]func(*rapid.T){
		"put a group": func(rt *rapid.T) {
			m.turn(rt)
			name, on := rapid.SampledFrom(modelGroups).Draw(rt, "group"), m.f.Get(rapid.SampledFrom(modelCAs).Draw(rt, "on"))
			second := rapid.SampledFrom(append([]string{""}, modelCAs...)).Draw(rt, "second")
			a := provisioning.Attestation{Role: provisioning.RoleSigning, Slots: slots(on)}
			if second != "" && m.f.Get(second) != on {
				a.Slots = slots(on, m.f.Get(second))
			}
			enabled := rapid.Bool().Draw(rt, "enabled")
			m.put(provisioning.Group, name, a, livingOn(builtIn), func(d *provisioning.Draft) { d.Enabled = enabled })
		},
		"pin a leaf": func(rt *rapid.T) {
			m.turn(rt)
			name := rapid.SampledFrom(modelDevices).Draw(rt, "device")
			enabled := rapid.Bool().Draw(rt, "enabled")
			m.put(provisioning.Individual, name, provisioning.Attestation{Role: provisioning.RoleClient, Slots: slots(m.f.Get(name))}, livingOn(builtIn),
				func(d *provisioning.Draft) { d.Enabled = enabled })
		},
		"delete an entry": func(rt *rapid.T) {
			m.turn(rt)
			o := provisioning.Owner{Kind: provisioning.Group, ID: id(m.world, rapid.SampledFrom(modelGroups).Draw(rt, "group"))}
			if rapid.Bool().Draw(rt, "individual") {
				o = provisioning.Owner{ID: id(m.world, rapid.SampledFrom(modelDevices).Draw(rt, "device"))}
			}
			if err := m.engine.Delete(m.ctx, ann, o, provisioning.Precondition{Any: true}); !fault.Is(err, fault.NotFound) {
				m.must(err)
			}
		},
		"disallow": func(rt *rapid.T) {
			m.turn(rt)
			of := m.f.Get(rapid.SampledFrom(append(slices.Clone(modelCAs), modelDevices...)).Draw(rt, "of"))
			scopes := []provisioning.DisallowScope{provisioning.DisallowCertificate, provisioning.DisallowKey}
			if of.Cert.IsCA {
				scopes = append(scopes, provisioning.DisallowBelow)
			}
			scope := rapid.SampledFrom(scopes).Draw(rt, "scope")
			m.disallow(provisioning.DisallowRequest{Certificate: of.Cert.Raw, Scope: scope})
		},
		"lift": func(rt *rapid.T) {
			m.turn(rt)
			if list := m.inForce(); len(list) > 0 {
				_, err := m.engine.LiftDisallowance(m.ctx, ann, list[rapid.IntRange(0, len(list)-1).Draw(rt, "incident")].ID)
				m.must(err)
			}
		},
		"a device comes": func(rt *rapid.T) {
			m.turn(rt)
			name := rapid.SampledFrom(modelDevices).Draw(rt, "device")
			chain := m.f.Get(name).Chain()
			sent := chain[:rapid.IntRange(1, len(chain)).Draw(rt, "sent")]
			a := m.presenting(name, sent...)
			refusal := m.refusal(name, sent...)
			var err error
			if rapid.Bool().Draw(rt, "csr") {
				var op provisioning.Operation
				op, err = m.engine.Register(m.ctx, provisioning.RegisterRequest{Attempt: a, CSR: testkit.CSR(m.t, testkit.NewKey(m.t, "p256"), name)})
				if err == nil {
					leaf, err := x509.ParseCertificate(op.Chain[0])
					m.must(err)
					m.leaves[name] = append(m.leaves[name], leaf)
				}
			} else {
				_, err = m.engine.Register(m.ctx, provisioning.RegisterRequest{Attempt: a})
			}
			if err == nil && refusal != "" {
				rt.Fatalf("%s was admitted, and %s is disallowed", name, refusal)
			}
			if err != nil && !fault.Is(err, fault.Unauthenticated) {
				rt.Fatalf("%s: %v", name, err)
			}
		},
		"a device comes with what it got here": func(rt *rapid.T) {
			m.turn(rt)
			name := rapid.SampledFrom(modelDevices).Draw(rt, "device")
			if len(m.leaves[name]) == 0 {
				return
			}
			leaf := m.leaves[name][rapid.IntRange(0, len(m.leaves[name])-1).Draw(rt, "leaf")]
			_, err := m.engine.Register(m.ctx, provisioning.RegisterRequest{Attempt: m.presenting(name, leaf)})
			if err == nil && m.fallen[string(leaf.AuthorityKeyId)] {
				rt.Fatalf("%s was admitted with a leaf of an issuer that fell", name)
			}
			if err != nil && !fault.Is(err, fault.Unauthenticated) {
				rt.Fatalf("%s: %v", name, err)
			}
		},
		"an issuer of ours falls": func(rt *rapid.T) {
			m.turn(rt)
			root, active := m.issuers()
			if rapid.Bool().Draw(rt, "another signs already") {
				_, err := m.authority.CreateIssuing(m.ctx, ann, root.ID, ca.IssuingRequest{Name: "Before"})
				m.must(err)
			}
			m.disallow(provisioning.DisallowRequest{Certificate: active.Certificate, StopsIssuing: true})
			m.fallen[string(m.entity(active).Cert.SubjectKeyId)] = true
			_, err := m.authority.CreateIssuing(m.ctx, ann, root.ID, ca.IssuingRequest{Name: "After"})
			if fault.RuleOf(err) == "issuer-prepared" {
				_, err = m.authority.Promote(m.ctx, ann, m.prepared().ID, ca.Promotion{})
			}
			m.must(err)
		},
		"quarantine": func(rt *rapid.T) {
			m.turn(rt)
			name := rapid.SampledFrom(modelDevices).Draw(rt, "device")
			if _, err := m.engine.Quarantine(m.ctx, ann, confining(m.world, name)); !fault.Is(err, fault.NotFound) {
				m.must(err)
				m.confined[name] = true
				m.turn(rt)
				_, err = m.engine.Register(m.ctx, provisioning.RegisterRequest{Attempt: m.presenting(name, m.f.Get(name).Chain()...)})
				if err != nil && !fault.Is(err, fault.Unauthenticated) {
					rt.Fatalf("%s: %v", name, err)
				}
			}
		},
		"end a quarantine": func(rt *rapid.T) {
			m.turn(rt)
			name := rapid.SampledFrom(modelDevices).Draw(rt, "device")
			if _, err := m.engine.EndQuarantine(m.ctx, ann, id(m.world, name), "over"); !fault.Is(err, fault.NotFound) {
				m.must(err)
				delete(m.confined, name)
			}
		},
		"follow": func(rt *rapid.T) { m.turn(rt); m.follow() },
		"": func(rt *rapid.T) {
			m.check()
			m.hubs(rt)
		},
	})
}

// turn has one of the two processes act, and a moment pass.
func (m *model) turn(rt *rapid.T) {
	m.engine = m.engines[rapid.IntRange(0, len(m.engines)-1).Draw(rt, "process")]
	m.pass(time.Second)
}

// prepared is the issuer that waits.
func (m *model) prepared() ca.Issuer {
	m.t.Helper()
	list, err := m.authority.Issuers(m.ctx)
	m.must(err)
	return list[slices.IndexFunc(list, func(i ca.Issuer) bool { return i.State == ca.IssuerPrepared })]
}

func (m *model) inForce() (list []provisioning.Incident) {
	m.t.Helper()
	all, err := m.engine.Disallowances(m.ctx, "", 500)
	m.must(err)
	for _, i := range all {
		if i.LiftedAt.IsZero() {
			list = append(list, i)
		}
	}
	return list
}

// refusal names what is disallowed of a device's chain, as far as Muster can know it: what was
// sent, what a group holds, and what signed the last of these.
func (m *model) refusal(device string, sent ...*x509.Certificate) string {
	m.t.Helper()
	whole := m.f.Get(device).Chain()
	for n, c := range whole {
		for _, i := range m.inForce() {
			if bytes.Equal(i.Certificate, c.Raw) {
				return fmt.Sprintf("%s (%s)", i.Subject, i.Scope)
			}
		}
		if n > 0 && n >= len(sent) && !m.isHeld(c) {
			return ""
		}
	}
	return ""
}

func (m *model) isHeld(c *x509.Certificate) (held bool) {
	m.t.Helper()
	m.must(m.db.Provisioning().View(m.ctx, func(tx provisioning.Tx) error {
		holders, err := tx.HoldersOf(verify.ThumbprintOf(c.Raw))
		held = len(holders) > 0
		return err
	}))
	return held
}

// hubs wants no device let in at its hub whose attestation is disallowed, as far as it is on
// record: of a leaf that an entry pins nothing is but who signed it, while it does.
func (m *model) hubs(rt *rapid.T) {
	for _, name := range modelDevices {
		hub, wrong := builtIn, ward
		if m.confined[name] {
			hub, wrong = ward, builtIn
		}
		if _, err := m.engine.HubDevice(m.ctx, wrong, id(m.world, name), ""); !fault.Is(err, fault.NotFound) {
			rt.Fatalf("%s is on %s, in quarantine %v (%v)", name, wrong, m.confined[name], err)
		}
		d, err := m.engine.HubDevice(m.ctx, hub, id(m.world, name), "")
		if fault.Is(err, fault.NotFound) {
			continue
		}
		m.must(err)
		for _, leaf := range m.leaves[name] {
			if m.fallen[string(leaf.AuthorityKeyId)] && slices.Contains(d.Auth.Thumbprints[:], hexOf(leaf.Raw)[0]) {
				rt.Fatalf("%s is let in at its hub with a leaf of an issuer that fell", name)
			}
		}
		chain, reg := m.f.Get(name).Chain(), m.registration(name)
		if reg.Leaf != verify.ThumbprintOf(chain[0].Raw) {
			continue
		}
		if reg.Chain == 0 {
			chain = chain[:1]
			if !m.isHeld(chain[0]) {
				continue
			}
		}
		if why := m.refusal(name, chain...); why != "" && d.Enabled {
			rt.Fatalf("%s is let in at its hub, and %s is disallowed", name, why)
		}
	}
}
