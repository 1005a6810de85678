package provisioning_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// forget deletes a registration's record.
func (w *world) forget(name string) {
	w.t.Helper()
	w.pass(time.Second)
	w.must(w.engine.DeleteRegistration(w.ctx, "operator:test", id(w, name), provisioning.Precondition{Any: true}))
	w.check()
	if _, err := w.engine.Device(w.ctx, id(w, name)); !fault.Is(err, fault.NotFound) {
		w.t.Fatalf("the record of %s is still there (%v)", name, err)
	}
}

func (w *world) tag(name, tags string) {
	w.t.Helper()
	w.pass(time.Second)
	_, err := w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, name), Tags: []byte(tags)}, provisioning.Precondition{})
	w.must(err)
}

func TestADeviceOutlivesItsRecord(t *testing.T) {
	t.Parallel()
	mine := provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{strings.Repeat("AB", 20)}}
	for name, prepare := range map[string]func(w *world, device provisioning.Attempt){
		"as it registered":                  func(*world, provisioning.Attempt) {},
		"with its twin changed":             func(w *world, _ provisioning.Attempt) { w.tag("pump", `{"line":2}`) },
		"disabled":                          func(w *world, _ provisioning.Attempt) { w.putOnHub(draft(w, "pump", off)) },
		"with credentials set at the hub":   func(w *world, _ provisioning.Attempt) { w.putOnHub(draft(w, "pump", off, auth(mine))) },
		"with no enrollment any more":       func(w *world, _ provisioning.Attempt) { w.leave("d1") },
		"no edge device, whatever it was":   func(w *world, _ provisioning.Attempt) { no := false; w.putOnHub(draft(w, "pump", edge(&no))) },
		"with credentials it has rewritten": func(w *world, d provisioning.Attempt) { w.putOnHub(draft(w, "pump", auth(mine))); w.assigned(d) },
		"for the second time": func(w *world, d provisioning.Attempt) {
			w.tag("pump", `{"line":2}`)
			w.forget("d1")
			w.assigned(d)
			w.tag("pump", `{"line":3}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			key := w.keyed(provisioning.Individual, "d1", func(d *provisioning.Draft) { d.DeviceID, d.IoTEdge = "Pump", true })
			device := w.signing("d1", key)
			w.assigned(device)
			prepare(w, device)
			before := w.onHub("pump")
			w.forget("d1")
			got := w.onHub("pump")
			if !got.Registration.IsZero() || got.Version <= before.Version || got.TwinVersion != before.TwinVersion {
				t.Errorf("it is of registration %s, version %d after %d, its twin %d after %d", got.Registration, got.Version, before.Version, got.TwinVersion, before.TwinVersion)
			}
			for slot := range got.Auth.Keys {
				if !bytes.Equal(got.Auth.Keys[slot].Reveal(), before.Auth.Keys[slot].Reveal()) {
					t.Errorf("another %d. key", slot+1)
				}
			}
			if g, want := flat(got), flat(before); g != want {
				t.Errorf("left is\n%s, want\n%s", g, want)
			}
			w.tag("pump", `{"line":7}`)
			w.putOnHub(draft(w, "pump", off))
			w.removeFromHub("pump")
		})
	}
}

func edge(on *bool) func(*provisioning.HubDraft) {
	return func(d *provisioning.HubDraft) { d.IoTEdge = on }
}

// leave deletes a device's own enrollment.
func (w *world) leave(name string) {
	w.t.Helper()
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{ID: id(w, name)}, provisioning.Precondition{Any: true}))
}

// flat is all of a device but its keys and what its record's end changes.
func flat(d provisioning.HubDevice) string {
	d.Registration, d.Version, d.Auth.Keys = verify.RegistrationID{}, 0, [2]verify.Secret{}
	return fmt.Sprintf("%+v %s %s", d, d.Twin.Tags, d.Twin.Desired)
}

func TestARecordsEndIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.assigned(w.signing("d1", w.keyed(provisioning.Individual, "d1")))
	w.forget("d1")
	events, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 2})
	w.must(err)
	if len(events) != 2 || events[0].Action != audit.RegistrationDeleted || events[1].Action != audit.HubDeviceKept || events[1].Subject != "hub-device:"+builtIn+"/d1" {
		t.Errorf("the ledger ends with %+v", events)
	}
	if total, _, err := w.engine.HubCount(w.ctx, builtIn); err != nil || total != 1 {
		t.Errorf("%d devices are on the hub (%v), want 1", total, err)
	}
	w.leave("d1")
	if err := w.engine.DeleteHub(w.ctx, "operator:test", builtIn, provisioning.Precondition{Any: true}); fault.RuleOf(err) != "hub-in-use" {
		t.Errorf("unlinking the hub under it: %v", err)
	}
	w.removeFromHub("d1")
	w.must(w.engine.DeleteHub(w.ctx, "operator:test", builtIn, provisioning.Precondition{Any: true}))
}

// The record gone, the device begins anew; what was decided at its hub still holds there.
func TestADeviceThatOutlivedItsRecordIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	device := w.signing("d1", key)
	w.assigned(device)
	w.tag("d1", `{"line":2}`)
	w.putOnHub(draft(w, "d1", off))
	w.forget("d1")

	t.Log("its new key is the enrollment's business; the hub goes on with the one it knows")
	next := bytes.Repeat([]byte{9}, 32)
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey, Slots: [2]provisioning.SlotDraft{{Key: next}}})
	left := w.onHub("d1")
	if !bytes.Equal(left.Auth.Keys[0].Reveal(), key) {
		t.Error("the key of a device of its own followed an enrollment")
	}
	if op := w.assigned(w.signing("d1", next)); op.Substatus != policies.InitialAssignment {
		t.Errorf("it registered as %s", op.Substatus)
	}
	d := w.onHub("d1")
	if d.Registration.IsZero() || d.Enabled || d.StatusReason != "stolen" || d.StatusBy != dashboard || !bytes.Equal(d.Auth.Keys[0].Reveal(), next) ||
		string(d.Twin.Tags) != `{"line":2}` || d.Version <= left.Version {
		t.Errorf("taken over it is %+v", d)
	}
}

func TestOfTheCertificatesInAnOverlapTheNewOneStays(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", first))
	second, err := w.enroll(w.presenting("d1", first))
	w.must(err)
	w.assigned(w.presenting("d1", second))
	if got := w.onHub("d1").Auth.Thumbprints; got[1] == "" {
		t.Fatalf("there is no overlap: %v", got)
	}
	w.forget("d1")
	want := [2]string{strings.ToUpper(verify.ThumbprintOf(second.Raw).String())}
	if d := w.onHub("d1"); d.Auth.Type != provisioning.HubSelfSigned || d.Auth.Thumbprints != want {
		t.Errorf("left is %+v, want %v", d.Auth, want)
	}

	t.Log("to register it takes what the factory gave the device; certificates of before attest nobody")
	w.refused(w.presenting("d1", second), "certificate-not-standing")
	before := w.onHub("d1").Version

	t.Log("revoked, it is nothing to the hub either")
	_, err = w.engine.Revoke(w.ctx, "operator:test", "", serial(second), ca.KeyCompromise)
	w.must(err)
	w.check()
	if d := w.onHub("d1"); d.Auth.Type != provisioning.HubSelfSigned || d.Auth.Thumbprints != [2]string{} || d.Version <= before {
		t.Errorf("left is %+v", d)
	}
	w.assigned(device)
	if d := w.onHub("d1"); d.Auth.Thumbprints[0] == "" {
		t.Errorf("after it registered: %+v", d.Auth)
	}
}

func TestARecordWithoutAHubLeavesNothing(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	w.assigned(device)
	w.removeFromHub("d1")
	w.forget("d1")
	w.notOnHub("d1")
}

func TestARevokedCertificateLeavesTheHub(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	other := thumb(testkit.SelfSigned(t, "x"))
	ours := strings.ToUpper(verify.ThumbprintOf(leaf.Raw).String())
	w.putOnHub(draft(w, "d2", auth(provisioning.HubAuth{Thumbprints: [2]string{other, ours}})))
	_, err = w.engine.Revoke(w.ctx, "operator:test", "", serial(leaf), ca.Superseded)
	w.must(err)
	if got := w.onHub("d2").Auth.Thumbprints; got != [2]string{other} {
		t.Errorf("left is %v", got)
	}
}
