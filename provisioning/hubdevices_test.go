package provisioning_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const dashboard = "policy:dashboard"

// onHub reads a device of the built-in hub, keys and all.
func (w *world) onHub(name string) provisioning.HubDevice {
	w.t.Helper()
	d, err := w.engine.HubDevice(w.ctx, builtIn, id(w, name), dashboard)
	w.must(err)
	return d
}

func (w *world) notOnHub(name string) {
	w.t.Helper()
	if d, err := w.engine.HubDevice(w.ctx, builtIn, id(w, name), dashboard); !fault.Is(err, fault.NotFound) {
		w.t.Fatalf("%s is on the hub: %+v, %v", name, d, err)
	}
}

func draft(w *world, name string, edits ...func(*provisioning.HubDraft)) provisioning.HubDraft {
	d := provisioning.HubDraft{Hub: builtIn, ID: id(w, name), Spelled: name}
	for _, e := range edits {
		e(&d)
	}
	return d
}

func off(d *provisioning.HubDraft) {
	no, why := false, "stolen"
	d.Enabled, d.Reason = &no, &why
}

func on(d *provisioning.HubDraft) { yes := true; d.Enabled = &yes }

func auth(a provisioning.HubAuth) func(*provisioning.HubDraft) {
	return func(d *provisioning.HubDraft) { d.Auth = &a }
}

// putOnHub changes a device, or makes one.
func (w *world) putOnHub(d provisioning.HubDraft) provisioning.HubDevice {
	w.t.Helper()
	w.pass(time.Second)
	out, err := w.engine.PutHubDevice(w.ctx, dashboard, d, provisioning.Precondition{Any: true})
	if fault.Is(err, fault.NotFound) {
		out, err = w.engine.PutHubDevice(w.ctx, dashboard, d, provisioning.Precondition{})
	}
	w.must(err)
	w.check()
	return out
}

func (w *world) removeFromHub(name string) {
	w.t.Helper()
	w.pass(time.Second)
	w.must(w.engine.DeleteHubDevice(w.ctx, dashboard, builtIn, id(w, name), provisioning.Precondition{}))
	w.check()
	w.notOnHub(name)
}

func thumb(e *testkit.Entity) string {
	return strings.ToUpper(verify.ThumbprintOf(e.Cert.Raw).String())
}

func TestTheHubKnowsWhatADeviceAttestedWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"), func(d *provisioning.Draft) { d.IoTEdge = true })
	device := w.presenting("d1", f.Get("d1").Chain()...)
	w.notOnHub("d1")
	w.assigned(device)
	d := w.onHub("D1")
	if d.Auth.Type != provisioning.HubSelfSigned || d.Auth.Thumbprints != [2]string{thumb(f.Get("d1"))} || !d.Enabled || !d.IoTEdge || d.DeviceID != "d1" {
		t.Errorf("a device with a factory certificate: %+v", d)
	}

	t.Log("npm's filling for a caller who named no authentication changes none")
	if d := w.putOnHub(draft(w, "d1", off, auth(provisioning.HubAuth{Type: provisioning.HubSAS}))); d.Auth.Type != provisioning.HubSelfSigned || d.Enabled {
		t.Errorf("disabled by its status alone: %+v", d)
	}

	t.Log("a certificate of ours takes its place; through the overlap both stand (H5)")
	first, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", first))
	second, err := w.enroll(w.presenting("d1", first))
	w.must(err)
	w.assigned(w.presenting("d1", second))
	ours := func(certs ...[]byte) (out [2]string) {
		for i, der := range certs {
			out[i] = strings.ToUpper(verify.ThumbprintOf(der).String())
		}
		return out
	}
	if got, want := w.onHub("d1").Auth.Thumbprints, ours(second.Raw, first.Raw); got != want {
		t.Errorf("thumbprints %v, want %v", got, want)
	}
	w.pass(25 * time.Hour)
	if got, want := w.onHub("d1").Auth.Thumbprints, ours(second.Raw); got != want {
		t.Errorf("after the overlap %v, want %v", got, want)
	}

	t.Log("keys: an individual entry's own, a group's derived")
	own := w.keyed(provisioning.Individual, "k1")
	group := w.keyed(provisioning.Group, "keys")
	w.assigned(w.signing("k1", own))
	w.assigned(w.signing("K2", derive(group, "K2")))
	for name, key := range map[string][]byte{"k1": own, "k2": derive(group, "K2")} {
		d := w.onHub(name)
		if d.Auth.Type != provisioning.HubSAS || !bytes.Equal(d.Auth.Keys[0].Reveal(), key) || d.Auth.Keys[1].IsZero() {
			t.Errorf("%s does not have the keys it attests with", name)
		}
		if d, err := w.engine.HubDevice(w.ctx, builtIn, id(w, name), ""); err != nil || !d.Auth.Keys[0].IsZero() || !d.Auth.Keys[1].IsZero() {
			t.Errorf("%s shows keys to somebody who may not see them (%v)", name, err)
		}
	}
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{Kind: provisioning.Group, ID: id(w, "keys")}, provisioning.Precondition{Any: true}))
	if d := w.onHub("k2"); d.Auth.Type != provisioning.HubSAS || !d.Auth.Keys[0].IsZero() {
		t.Errorf("a device whose group is gone: %+v", d.Auth.Type)
	}
}

func TestADeviceDisabledAtTheHubStaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	device := w.signing("d1", key)
	w.assigned(device)
	before := w.onHub("d1")

	d := w.putOnHub(draft(w, "d1", off, auth(before.Auth))) // get-change-put
	if d.Enabled || d.StatusReason != "stolen" || d.StatusBy != dashboard || d.Version <= before.Version || !d.StatusAt.Equal(w.now()) {
		t.Errorf("disabled: %+v", d)
	}
	w.pass(time.Hour)
	w.assigned(device)
	if d := w.onHub("d1"); d.Enabled || d.StatusReason != "stolen" || d.StatusBy != dashboard {
		t.Errorf("registering again enabled it: %+v", d)
	}
	if _, disabled, err := w.engine.HubCount(w.ctx, builtIn); err != nil || disabled != 1 {
		t.Errorf("%d devices are disabled (%v), want 1", disabled, err)
	}
	if d := w.putOnHub(draft(w, "d1", on)); !d.Enabled || d.StatusReason != "" {
		t.Errorf("enabled again: %+v", d)
	}
	events, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 10, Actor: dashboard})
	w.must(err)
	var actions []audit.Action
	shown := 0
	for _, e := range events {
		if e.Action == audit.KeysRead { // INV-K5: each look at the device showed its keys
			shown++
			continue
		}
		actions = append(actions, e.Action)
	}
	if shown == 0 {
		t.Error("keys were shown, and the ledger does not tell of it")
	}
	if want := []audit.Action{audit.HubDeviceEnabled, audit.HubDeviceDisabled}; !slices.Equal(actions, want) {
		t.Errorf("the ledger tells of %v, want %v", actions, want)
	}

	t.Log("a key that was only sent back did not become the hub's own: it follows the enrollment")
	made := bytes.Repeat([]byte{9}, 32)
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey, Slots: [2]provisioning.SlotDraft{{Key: made}}})
	if got := w.onHub("d1").Auth.Keys[0].Reveal(); !bytes.Equal(got, made) {
		t.Error("the hub still has the key of before")
	}
}

func TestADeviceDeletedAtTheHubComesBackWhenItRegisters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1", func(d *provisioning.Draft) {
		d.DeviceID, d.InitialTwin = "Pump", []byte(`{"tags":{"line":1},"properties":{"desired":{"a":1}}}`)
	})
	device := w.signing("d1", key)
	w.assigned(device)
	w.putOnHub(draft(w, "pump", off))
	_, err := w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "pump"), Tags: []byte(`{"line":2}`)}, provisioning.Precondition{})
	w.must(err)
	w.removeFromHub("pump")
	if reg := w.registration("d1"); reg.State != provisioning.Unassigned || reg.Hub != "" || reg.DeviceID != "" {
		t.Errorf("its registration: %+v", reg)
	}
	if err := w.engine.DeleteHubDevice(w.ctx, dashboard, builtIn, id(w, "pump"), provisioning.Precondition{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleting it again: %v", err)
	}

	if op := w.assigned(device); op.Substatus != policies.InitialAssignment {
		t.Errorf("it came back as %s", op.Substatus)
	}
	d := w.onHub("pump")
	if !d.Enabled || d.DeviceID != "Pump" || string(d.Twin.Tags) != `{"line":1}` || string(d.Twin.Desired) != `{"a":1}` {
		t.Errorf("it came back as %+v", d)
	}

	t.Log("with the enrollment gone it does not (J2)")
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{ID: id(w, "d1")}, provisioning.Precondition{Any: true}))
	w.onHub("pump") // J1: the identity goes on
	w.removeFromHub("pump")
	w.refused(device, "no-enrollment")
	w.notOnHub("pump")
}

// A retry of a CSR is answered from the record; but not one from before the hub's device
// was deleted.
func TestADeletedDeviceIsNotAnsweredFromTheRecord(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	key := testkit.NewKey(t, "p256")
	first, err := w.enrollKey(device, key)
	w.must(err)
	w.removeFromHub("d1")
	second, err := w.enrollKey(device, key)
	w.must(err)
	if w.onHub("d1"); first.Equal(second) {
		t.Error("the same certificate was answered again")
	}
	w.assigned(w.presenting("d1", second))
}

func TestCredentialsSetAtTheHubLastUntilTheDeviceRegisters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	device := w.signing("d1", key)
	w.assigned(device)
	by := provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{strings.Repeat("ab", 20), strings.Repeat("0", 64)}}
	w.putOnHub(draft(w, "d1", off, auth(by)))
	want := [2]string{strings.Repeat("AB", 20), strings.Repeat("0", 64)}
	if d := w.onHub("d1"); d.Auth.Type != provisioning.HubSelfSigned || d.Auth.Thumbprints != want {
		t.Errorf("set at the hub: %+v", d.Auth)
	}
	if d := w.putOnHub(draft(w, "d1", auth(provisioning.HubAuth{Type: provisioning.HubSelfSigned}))); d.Auth.Thumbprints != want {
		t.Errorf("nothing was named, and they are now %v", d.Auth.Thumbprints)
	}
	w.assigned(device)
	if d := w.onHub("d1"); d.Auth.Type != provisioning.HubSAS || !bytes.Equal(d.Auth.Keys[0].Reveal(), key) || d.Enabled {
		t.Errorf("after it registered: %v, enabled %t", d.Auth.Type, d.Enabled)
	}
	if d := w.putOnHub(draft(w, "d1", on)); d.Auth.Type != provisioning.HubSAS {
		t.Errorf("a later change brought back %v", d.Auth.Type)
	}
}

func TestADeviceMadeAtTheHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.putOnHub(draft(w, "Own"))
	if !made.Enabled || made.Auth.Type != provisioning.HubSAS || made.Auth.Keys[0].IsZero() || made.Auth.Keys[0].Equal(made.Auth.Keys[1]) || made.DeviceID != "Own" {
		t.Errorf("made: %+v", made)
	}
	kept := w.putOnHub(draft(w, "own", off, auth(provisioning.HubAuth{Type: provisioning.HubSAS})))
	for slot := range kept.Auth.Keys {
		if !kept.Auth.Keys[slot].Equal(made.Auth.Keys[slot]) {
			t.Error("an update without keys changed a key")
		}
	}
	mine := verify.NewSecret(bytes.Repeat([]byte{3}, 16))
	one := w.putOnHub(draft(w, "own", auth(provisioning.HubAuth{Type: provisioning.HubSAS, Keys: [2]verify.Secret{mine}})))
	if !one.Auth.Keys[0].Equal(mine) || !one.Auth.Keys[1].Equal(made.Auth.Keys[1]) || one.Enabled {
		t.Error("one key was to be changed, and nothing else")
	}
	_, err := w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "own"), Tags: []byte(`{"a":1}`)}, provisioning.Precondition{})
	w.must(err)

	t.Log("whoever registers under its name has it, with its twin, and does not enable it")
	key := w.keyed(provisioning.Individual, "own")
	w.assigned(w.signing("own", key))
	taken := w.onHub("own")
	if taken.Enabled || taken.Registration.IsZero() || !bytes.Equal(taken.Auth.Keys[0].Reveal(), key) || string(taken.Twin.Tags) != `{"a":1}` {
		t.Errorf("taken over: %+v", taken)
	}
	_, err = w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "own"), Tags: []byte(`{"b":2}`)}, provisioning.Precondition{})
	w.must(err)
	if got := w.onHub("own").Twin; string(got.Tags) != `{"a":1,"b":2}` || got.Version != 3 {
		t.Errorf("its twin: %s, version %d", got.Tags, got.Version)
	}
	w.forget("own")
	if d := w.onHub("own"); string(d.Twin.Tags) != `{"a":1,"b":2}` || d.Twin.Version != 3 || d.Enabled {
		t.Errorf("with the record gone: %+v", d)
	}
}

func TestWhatWasChangedAtAHubEndsWithTheMoveToAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	static := func(hub string) edit {
		return func(d *provisioning.Draft) { d.Allocation, d.Hubs = policies.Static, []string{hub} }
	}
	const quarantine = "quarantine.example.net"
	w.hub(quarantine)
	key := w.keyed(provisioning.Individual, "d1", static(builtIn))
	device := w.signing("d1", key)
	w.assigned(device)
	w.putOnHub(draft(w, "d1", off))
	_, err := w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "d1"), Tags: []byte(`{"a":1}`)}, provisioning.Precondition{})
	w.must(err)
	w.keyed(provisioning.Individual, "d1", static(quarantine))
	w.assigned(device)
	w.notOnHub("d1")
	d, err := w.engine.HubDevice(w.ctx, quarantine, id(w, "d1"), "")
	w.must(err)
	if !d.Enabled || string(d.Twin.Tags) != `{"a":1}` {
		t.Errorf("on the new hub: %+v", d)
	}
	w.keyed(provisioning.Individual, "d1", static(builtIn))
	w.assigned(device)
	if d := w.onHub("d1"); !d.Enabled {
		t.Errorf("back again it is as it was left: %+v", d)
	}
}

func TestWritesToTheHubAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	w.assigned(w.signing("d1", key))
	version := w.onHub("d1").Version
	long := strings.Repeat("é", 129)
	bell := "\a"
	any := provisioning.Precondition{Any: true}
	for name, c := range map[string]struct {
		draft provisioning.HubDraft
		pre   provisioning.Precondition
		kind  fault.Kind
		rule  string
	}{
		"creating what a registration made":     {draft(w, "D1"), provisioning.Precondition{}, fault.PreconditionRequired, "if-match-required"},
		"another version":                       {draft(w, "d1"), provisioning.Precondition{Version: version + 1}, fault.PreconditionFailed, "etag-mismatch"},
		"changing what is not there":            {draft(w, "d2"), any, fault.NotFound, "device-not-found"},
		"changing a version of what is not":     {draft(w, "d2"), provisioning.Precondition{Version: 1}, fault.NotFound, "device-not-found"},
		"a reason without end":                  {draft(w, "d1", func(d *provisioning.HubDraft) { d.Reason = &long }), any, fault.Malformed, "status-reason"},
		"a reason that rings":                   {draft(w, "d1", func(d *provisioning.HubDraft) { d.Reason = &bell }), any, fault.Malformed, "status-reason"},
		"a key that is too short":               {draft(w, "d1", auth(provisioning.HubAuth{Type: "sas", Keys: [2]verify.Secret{verify.NewSecret(make([]byte, 15))}})), any, fault.Malformed, "symmetric-key"},
		"a key that is too long":                {draft(w, "d1", auth(provisioning.HubAuth{Type: "sas", Keys: [2]verify.Secret{{}, verify.NewSecret(make([]byte, 65))}})), any, fault.Malformed, "symmetric-key"},
		"certificates without a thumbprint":     {draft(w, "d1", auth(provisioning.HubAuth{Type: "selfSigned"})), any, fault.Malformed, "hub-thumbprint"},
		"a thumbprint that is no hex":           {draft(w, "d1", auth(provisioning.HubAuth{Thumbprints: [2]string{strings.Repeat("g", 40)}})), any, fault.Malformed, "hub-thumbprint"},
		"a thumbprint that is no hash":          {draft(w, "d1", auth(provisioning.HubAuth{Thumbprints: [2]string{strings.Repeat("a", 41)}})), any, fault.Malformed, "hub-thumbprint"},
		"a way of authentication nobody knows":  {draft(w, "d1", auth(provisioning.HubAuth{Type: "tpm"})), any, fault.Malformed, "hub-authentication"},
		"a new device without its certificates": {draft(w, "d3", auth(provisioning.HubAuth{Type: "selfSigned"})), provisioning.Precondition{}, fault.Malformed, "hub-thumbprint"},
	} {
		before := w.rows()
		_, err := w.engine.PutHubDevice(w.ctx, dashboard, c.draft, c.pre)
		if !fault.Is(err, c.kind) || fault.RuleOf(err) != c.rule {
			t.Errorf("%s: %v (%s), want %s", name, err, fault.RuleOf(err), c.rule)
		}
		if w.rows() != before {
			t.Errorf("%s was refused and told in the ledger", name)
		}
	}
	if d := w.onHub("d1"); d.Version != version {
		t.Errorf("what was refused changed the device: %+v", d)
	}
	if err := w.engine.DeleteHubDevice(w.ctx, dashboard, builtIn, id(w, "d1"), provisioning.Precondition{Version: version + 1}); !fault.Is(err, fault.PreconditionFailed) {
		t.Errorf("deleting another version: %v", err)
	}
	w.notOnHub("d3")
}

func TestABulkDoesWhatItCan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	w.assigned(w.signing("d1", key))
	any := provisioning.Precondition{Any: true}
	refused, err := w.engine.ChangeHubDevices(w.ctx, dashboard, []provisioning.HubAct{
		{Draft: draft(w, "new")},
		{Draft: draft(w, "d1")},
		{Draft: draft(w, "d1", off), Pre: any},
		{Draft: draft(w, "gone"), Pre: any},
		{Draft: draft(w, "new", off), Upsert: true},
		{Draft: draft(w, "other"), Upsert: true},
		{Draft: draft(w, "other"), Remove: true, Pre: provisioning.Precondition{Version: 1}},
		{Draft: draft(w, "other"), Remove: true, Pre: any},
		{Draft: draft(w, "gone"), Remove: true, Pre: any},
	})
	w.must(err)
	w.check()
	var got []string
	for _, err := range refused {
		got = append(got, fault.RuleOf(err))
	}
	want := []string{"", "if-match-required", "", "device-not-found", "", "", "etag-mismatch", "", "device-not-found"}
	if !slices.Equal(got, want) {
		t.Errorf("refused %q, want %q", got, want)
	}
	if w.onHub("d1").Enabled || w.onHub("new").Enabled {
		t.Error("what could be done was not")
	}
	w.notOnHub("other")
	for _, n := range []int{0, 101} {
		if _, err := w.engine.ChangeHubDevices(w.ctx, dashboard, make([]provisioning.HubAct, n)); fault.RuleOf(err) != "bulk-size" {
			t.Errorf("a bulk of %d: %v", n, err)
		}
	}
}

func TestTwinsAreMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.putOnHub(draft(w, "d1"))
	change := func(tags, desired string, replace bool, pre provisioning.Precondition) (provisioning.HubDevice, error) {
		d := provisioning.TwinDraft{Hub: builtIn, ID: id(w, "d1"), Replace: replace}
		if tags != "" {
			d.Tags = []byte(tags)
		}
		if desired != "" {
			d.Desired = []byte(desired)
		}
		return w.engine.ChangeTwin(w.ctx, dashboard, d, pre)
	}
	first := w.onHub("d1")
	if first.Twin.Version != 1 || string(first.Twin.Tags) != "{}" {
		t.Errorf("a twin nobody wrote: %+v", first.Twin)
	}
	for i, c := range []struct {
		tags, desired string
		replace       bool
		want          string
		versions      [2]int64
	}{
		{`{"a":1,"b":{"c":1,"d":[1,2]}}`, "", false, `{"a":1,"b":{"c":1,"d":[1,2]}} {}`, [2]int64{2, 1}},
		{`{"a":null,"b":{"c":null,"e":{"f":null,"g":true}}}`, `{"x":12345678901234567890}`, false, `{"b":{"d":[1,2],"e":{"g":true}}} {"x":12345678901234567890}`, [2]int64{3, 2}},
		{"", `{"$version":7,"$metadata":{"x":1},"y":"a.b"}`, false, `{"b":{"d":[1,2],"e":{"g":true}}} {"x":12345678901234567890,"y":"a.b"}`, [2]int64{4, 3}},
		{`{"b":3}`, "", false, `{"b":3} {"x":12345678901234567890,"y":"a.b"}`, [2]int64{5, 3}},
		{`{"b":{"new":{}}}`, `{}`, false, `{"b":{"new":{}}} {"x":12345678901234567890,"y":"a.b"}`, [2]int64{6, 3}},
		{"null", "", false, `{} {"x":12345678901234567890,"y":"a.b"}`, [2]int64{7, 3}},
		{`{"z":1}`, "", true, `{"z":1} {}`, [2]int64{8, 4}},
	} {
		d, err := change(c.tags, c.desired, c.replace, provisioning.Precondition{})
		w.must(err)
		if got := fmt.Sprintf("%s %s", d.Twin.Tags, d.Twin.Desired); got != c.want {
			t.Errorf("change %d: %s, want %s", i, got, c.want)
		}
		if got := [2]int64{d.Twin.Version, d.Twin.DesiredVersion}; got != c.versions {
			t.Errorf("change %d: versions %v, want %v", i, got, c.versions)
		}
		if again := w.onHub("d1"); again.TwinVersion != d.TwinVersion || again.Version != first.Version {
			t.Errorf("change %d: etags %d and %d, want %d and %d", i, again.TwinVersion, again.Version, d.TwinVersion, first.Version)
		}
	}
	last := w.onHub("d1")
	for name, c := range map[string]struct {
		tags, desired string
		pre           provisioning.Precondition
		rule          string
	}{
		"another version":    {`{}`, "", provisioning.Precondition{Version: first.TwinVersion}, "etag-mismatch"},
		"tags of a list":     {`[]`, "", provisioning.Precondition{}, "twin-part"},
		"desired of a text":  {"", `"x"`, provisioning.Precondition{}, "twin-part"},
		"what is no JSON":    {`{`, "", provisioning.Precondition{}, "twin-part"},
		"a key with a dot":   {`{"a.b":1}`, "", provisioning.Precondition{}, "twin-key"},
		"a hidden dollar":    {"", `{"a":{"$b":1}}`, provisioning.Precondition{}, "twin-key"},
		"too many tags":      {`{"a":"` + strings.Repeat("x", 8<<10) + `"}`, "", provisioning.Precondition{}, "twin-size"},
		"too much is wanted": {"", `{"a":"` + strings.Repeat("x", 32<<10) + `"}`, provisioning.Precondition{}, "twin-size"},
	} {
		if _, err := change(c.tags, c.desired, false, c.pre); fault.RuleOf(err) != c.rule {
			t.Errorf("%s: %v, want %s", name, err, c.rule)
		}
	}
	if d, err := change(`{"ok":1}`, "", false, provisioning.Precondition{Version: last.TwinVersion}); err != nil || d.Twin.Version != 9 {
		t.Errorf("with its version: %+v, %v", d.Twin, err)
	}
	if _, err := w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "gone")}, provisioning.Precondition{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a twin of nobody: %v", err)
	}
}

func FuzzTwin(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `{"a":{"b":null}}`, `null`, `[]`, `{"$version":1}`, `{"a":1e999}`, `{"\u0000":"x"}`, "{\"\xff\":1}"} {
		f.Add([]byte(seed))
	}
	w := newWorld(f)
	w.putOnHub(draft(w, "d1"))
	device := id(w, "d1")
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: device, Tags: text, Replace: true}, provisioning.Precondition{})
		switch {
		case err != nil && !fault.Is(err, fault.Malformed):
			t.Errorf("%q: %v is not the caller's error", text, err)
		case err == nil && (d.Twin.Tags[0] != '{' || len(d.Twin.Tags) > 8<<10):
			t.Errorf("%q made the tags %q", text, d.Twin.Tags)
		}
	})
}
