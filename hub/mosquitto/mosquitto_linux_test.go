package mosquitto_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/hub/mosquitto"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/test/instance"
	"github.com/passmuster/muster/verify"
)

func TestABrokerIsToldOfItsDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hubtest.Run(t, w.driver(), hubtest.RemembersRemoved, func(t testing.TB) hubtest.Hub {
		for _, name := range w.names() {
			w.ctrl("deleteClient", name)
		}
		return w
	})
}

// generation of the first thing that is said.
const first = 1_700_000_000_000

func identity(t testing.TB, name string, step int64, leaves ...*testkit.Entity) provisioning.HubIdentity {
	t.Helper()
	id, err := verify.ParseRegistrationID(name)
	if err != nil {
		t.Fatal(err)
	}
	is := provisioning.HubIdentity{Hub: hubName, DeviceID: name, RegistrationID: id, Generation: first + step, Present: true, Enabled: true, Auth: provisioning.HubAuth{Type: provisioning.HubSelfSigned}}
	for i, leaf := range leaves {
		is.Auth.Thumbprints[i] = strings.ToUpper(fmt.Sprintf("%x", sha256.Sum256(leaf.Cert.Raw)))
	}
	return is
}

func disabled(is provisioning.HubIdentity) provisioning.HubIdentity {
	is.Enabled = false
	return is
}

func gone(is provisioning.HubIdentity) provisioning.HubIdentity {
	return provisioning.HubIdentity{Hub: is.Hub, DeviceID: is.DeviceID, RegistrationID: is.RegistrationID, Generation: is.Generation}
}

func (w *world) apply(d provisioning.HubDriver, list ...provisioning.HubIdentity) {
	w.Helper()
	if err := errors.Join(d.Apply(w.Context(), w.Access(), list)...); err != nil {
		w.Fatal(err)
	}
}

func TestADeviceWhoseCertificateIsRevokedIsDroppedAndRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	press, drill := w.root.Issue(t, "press-01"), w.root.Issue(t, "drill-01")
	w.apply(d, identity(t, "press-01", 0, press), identity(t, "drill-01", 0, drill))
	stolen, other := w.connected(press), w.connected(drill)
	if !stolen.works(t, "dt/press-01") || !other.works(t, "dt/drill-01") {
		t.Fatal("devices cannot work")
	}

	w.revoke(press)
	w.apply(d, disabled(identity(t, "press-01", 1, press)))

	stolen.isDropped(t)
	if _, err := w.connect(press); err == nil {
		t.Error("the revoked certificate is let in again")
	}
	if !other.IsConnected() || !other.works(t, "dt/drill-01") {
		t.Error("another device lost its connection")
	}

	next := w.root.Issue(t, "press-01")
	w.apply(d, identity(t, "press-01", 2, next))
	if !w.connected(next).works(t, "dt/press-01") {
		t.Error("a device that is enabled again cannot work")
	}
	if _, err := w.connect(press); err == nil {
		t.Error("enabling brought the revoked certificate back")
	}
}

func TestADeviceThatIsDisabledLosesAllRightsThoughItsCertificateStands(t *testing.T) {
	t.Parallel()
	for name, wanted := range map[string]func(provisioning.HubIdentity) provisioning.HubIdentity{"disabled": disabled, "gone": gone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The acl_file is asked where the plugin says nothing.
			acls := filepath.Join(t.TempDir(), "acls")
			if err := os.WriteFile(acls, []byte("pattern readwrite own/%u\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, func(b *instance.Broker) { b.More = "acl_file " + acls })
			press := w.root.Issue(t, "press-01")
			d := w.driver()
			w.apply(d, identity(t, "press-01", 0, press))
			open := w.connected(press)
			if !open.works(t, "dt/press-01") || !open.works(t, "own/press-01") {
				t.Fatal("the device cannot work")
			}
			w.apply(d, wanted(identity(t, "press-01", 1, press)))
			open.isDropped(t)
			again, err := w.connect(press)
			if err != nil {
				t.Fatalf("the broker checks more than this test knows of, and the docs say: %v", err)
			}
			for _, topic := range []string{"dt/press-01", "own/press-01", "$SYS/broker/uptime", "$share/g/dt/x"} {
				if again.works(t, topic) {
					t.Errorf("it works on %s", topic)
				}
			}
			w.apply(d, identity(t, "press-01", 2, press))
			if again = w.connected(press); !again.works(t, "dt/press-01") || !again.works(t, "own/press-01") {
				t.Error("a device that is enabled again cannot work")
			}
		})
	}
}

func TestOfTwoCertificatesTheRevokedOneIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, next := w.root.Issue(t, "press-01"), w.root.Issue(t, "press-01")
	d := w.driver()
	w.apply(d, identity(t, "press-01", 0, old, next))
	thief, owner := w.connected(old), w.connected(next)
	w.revoke(old)
	w.apply(d, identity(t, "press-01", 1, next))
	thief.isDropped(t)
	owner.isDropped(t) // the broker tells connections apart by name alone
	if _, err := w.connect(old); err == nil {
		t.Error("the revoked certificate is let in again")
	}
	if !w.connected(next).works(t, "dt/press-01") {
		t.Error("the other certificate is refused")
	}
}

func TestADeviceCouldHaveNoNameThatMusterHas(t *testing.T) {
	t.Parallel()
	d := mosquitto.New(mosquitto.Options{})
	for address, shown := range map[string]string{
		"mqtts://muster~:secret@mqtt.example.net":                "mqtts://mqtt.example.net:8883",
		"mqtts://muster~:secret@mqtt.example.net:8884?role=line": "mqtts://mqtt.example.net:8884",
		"mqtts://mqtt.example.net":                               "mqtts://mqtt.example.net:8883", // by a certificate
		"mqtts://[2001:db8::1]:1883/":                            "mqtts://[2001:db8::1]:1883",
		"mqtts://admin:secret@mqtt.example.net":                  "",
		"mqtt://muster~:secret@127.0.0.1":                        "",
		"https://mqtt.example.net":                               "",
		"mqtts://":                                               "",
		"mqtts://muster~@mqtt.example.net/path":                  "",
		"mqtts://muster~@mqtt.example.net?role=":                 "",
		"mqtts://muster~@mqtt.example.net?role=muster-refused":   "",
		"mqtts://muster~@mqtt.example.net?user=x":                "",
	} {
		got, err := d.Endpoint(address)
		if got != shown || (shown == "") != (fault.RuleOf(err) == "hub-address") {
			t.Errorf("%s is shown as %q, %v", address, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error holds the password", address)
		}
	}
	local := mosquitto.New(mosquitto.Options{Local: true})
	if got, err := local.Endpoint("mqtt://muster~:secret@localhost:1883"); got != "mqtt://localhost:1883" || err != nil {
		t.Error(got, err)
	}
}

func TestWhatABrokerCannotTellApartIsShutOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	press := w.root.Issue(t, "press-01")
	other := identity(t, "press-02", 1, press)
	other.DeviceID = "press-01"
	for name, want := range map[string]provisioning.HubIdentity{
		"a name of the operator's": identity(t, "operator-7", 0),
		"another CN":               other,
	} {
		w.apply(d, identity(t, "press-01", 0, press))
		if name != "another CN" {
			w.ctrl("createClient", "operator-7", "-p", "battery")
		}
		if err := d.Apply(t.Context(), w.Access(), []provisioning.HubIdentity{want})[0]; fault.RuleOf(err) != provisioning.RuleHubRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, there := w.Device("press-01"); !there || got.Enabled {
		t.Errorf("the device whose name another registration has is let in: %+v", got)
	}
	if err := d.Test(t.Context(), w.Access()); err == nil || !strings.Contains(err.Error(), "operator-7") {
		t.Errorf("a client that a device could be passes the test: %v", err)
	}
}

func TestABrokerThatCannotBeWorkedWithSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bare := newWorld(t, func(b *instance.Broker) { b.Bare = true })
	hangs, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections, and nobody speaks
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangs.Close() })
	w.ctrl("createClient", "guest~", "-p", "battery")
	for name, c := range map[string]struct {
		at   *world
		edit func(*url.URL)
		rule string
		says string
	}{
		"nobody listens":             {w, func(u *url.URL) { u.Host = "127.0.0.1:1" }, "hub-unreachable", "could not be reached"},
		"the password is another":    {w, func(u *url.URL) { u.User = url.UserPassword(instance.BrokerOperator, "wrong") }, "hub-unavailable", "refuses the name and password"},
		"it is no administrator":     {w, func(u *url.URL) { u.User = url.UserPassword("guest~", "battery") }, "hub-unavailable", "does not let"},
		"it has no plugin":           {bare, nil, "hub-unavailable", "does not answer"},
		"it has no role for devices": {w, func(u *url.URL) { u.RawQuery = "role=nobody" }, "hub-unavailable", "Role not found"},
		"it does not speak":          {w, func(u *url.URL) { u.Host = hangs.Addr().String() }, "hub-unreachable", "could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := c.at.Access()
			if c.edit != nil {
				to = c.at.access(c.edit)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			d := c.at.driver()
			for what, err := range map[string]error{
				"apply": d.Apply(ctx, to, []provisioning.HubIdentity{identity(t, "press-01", 0)})[0], "test": d.Test(ctx, to),
				"devices": d.Devices(ctx, to, func([]provisioning.HubFound) error { return nil }),
			} {
				if name == "it has no role for devices" && what == "devices" {
					continue // it has none of them
				}
				f := fault.As(err)
				if f == nil || f.Kind != fault.Unavailable {
					t.Errorf("%s: %v", what, err)
				} else if what == "apply" && (f.Rule != c.rule || !strings.Contains(f.Detail, c.says)) {
					t.Errorf("%s: %s: %s", what, f.Rule, f.Detail)
				}
				if err != nil && strings.Contains(err.Error(), "battery") {
					t.Errorf("%s: the error holds the password", what)
				}
			}
		})
	}
}

func TestSeveralProcessesHearTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	var busy sync.WaitGroup
	for p := range 4 {
		busy.Go(func() {
			for n := range 5 {
				var list []provisioning.HubIdentity
				for i := range 8 {
					list = append(list, identity(t, fmt.Sprintf("press-%d-%d-%d", p, n, i), 0))
				}
				if err := errors.Join(d.Apply(t.Context(), w.Access(), list)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	busy.Wait()
	found := map[string]bool{}
	err := d.Devices(t.Context(), w.Access(), func(list []provisioning.HubFound) error {
		for _, f := range list {
			found[f.DeviceID] = f.Enabled
		}
		return nil
	})
	if err != nil || len(found) != 4*5*8 {
		t.Errorf("%d devices, %v", len(found), err)
	}
}

func TestWhatABrokerHoldsIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	press := w.root.Issue(t, "press-01")
	edge := identity(t, "edge-01", 0, press)
	edge.IoTEdge = true
	w.apply(d, edge, identity(t, "press-01", 0, press), identity(t, "press-02", 0), disabled(identity(t, "press-03", 0)), gone(identity(t, "press-04", 0)))
	w.ctrl("removeClientRole", "press-02", "device") // an operator did that
	self := provisioning.HubAuth{Type: provisioning.HubSelfSigned}
	want := []provisioning.HubFound{
		{DeviceID: "edge-01", Enabled: true, Auth: edge.Auth, IoTEdge: true}, {DeviceID: "press-01", Enabled: true, Auth: edge.Auth},
		{DeviceID: "press-02", Auth: self}, {DeviceID: "press-03", Auth: self},
	}
	var got []provisioning.HubFound
	if err := d.Devices(t.Context(), w.Access(), func(page []provisioning.HubFound) error { got = append(got, page...); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b verify.Secret) bool { return a.IsZero() && b.IsZero() })); diff != "" {
		t.Error(diff)
	}
}

func TestABrokerKeepsWhatItWasToldOverARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	press := w.root.Issue(t, "press-01")
	w.apply(d, identity(t, "press-01", 0, press))
	w.revoke(press)
	w.apply(d, disabled(identity(t, "press-01", 1, press)), identity(t, "press-02", 0))
	w.broker.Stop()
	if err := d.Apply(t.Context(), w.Access(), []provisioning.HubIdentity{identity(t, "press-02", 1)})[0]; fault.RuleOf(err) != "hub-unreachable" {
		t.Errorf("a broker that is down: %v", err)
	}
	w.start()
	if _, err := w.connect(press); err == nil {
		t.Error("the restart let the revoked certificate in")
	}
	drill := w.root.Issue(t, "drill-01")
	w.apply(d, identity(t, "drill-01", 0, drill))
	w.revoke(drill)
	w.apply(d, disabled(identity(t, "drill-01", 1, drill)))
	if _, err := w.connect(drill); err == nil {
		t.Error("the new process was not told of the list")
	}
}

// Nobody is let in while the list is not as it shall be; who is shut out loses what rights he
// has, and the engine is not told that it took.
func TestNothingIsConfirmedWithoutTheList(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*testing.T, *world, *mosquitto.Broker){
		"the folder is not there":  func(_ *testing.T, w *world, b *mosquitto.Broker) { b.CRLFile = w.path("none/crls.pem") },
		"there is no process file": func(_ *testing.T, w *world, b *mosquitto.Broker) { b.PIDFile = w.path("none") },
		"the process has ended": func(t *testing.T, w *world, b *mosquitto.Broker) {
			ended := exec.Command("true")
			if err := ended.Run(); err != nil {
				t.Fatal(err)
			}
			b.PIDFile = w.path("other")
			w.write("other", []byte(strconv.Itoa(ended.Process.Pid)))
		},
		"the process is another program": func(_ *testing.T, w *world, b *mosquitto.Broker) {
			b.PIDFile = w.path("other")
			w.write("other", []byte(strconv.Itoa(os.Getpid()))) // SIGHUP would end this test
		},
		"the file holds no number": func(_ *testing.T, w *world, b *mosquitto.Broker) { b.PIDFile = w.path("ca.pem") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			press := w.root.Issue(t, "press-01")
			w.apply(w.driver(), identity(t, "press-01", 0, press))
			open := w.connected(press)

			d := w.driver(func(b *mosquitto.Broker) { broken(t, w, b) })
			answers := d.Apply(t.Context(), w.Access(), []provisioning.HubIdentity{disabled(identity(t, "press-01", 1, press)), identity(t, "press-02", 0)})
			for i, err := range answers {
				if fault.RuleOf(err) != "hub-unavailable" || !strings.Contains(err.Error(), "CRL file") {
					t.Errorf("answer %d: %v", i, err)
				}
			}
			open.isDropped(t)
			if got, _ := w.Device("press-01"); got.Enabled {
				t.Error("the device keeps its rights")
			}
			if _, there := w.Device("press-02"); there {
				t.Error("a device was let in")
			}
			if err := d.Test(t.Context(), w.Access()); fault.KindOf(err) != fault.Unavailable {
				t.Errorf("it passes the test: %v", err)
			}

			w.revoke(press)
			again := w.connected(press) // the list does not have it yet
			w.apply(w.driver(), disabled(identity(t, "press-01", 1, press)), identity(t, "press-02", 0))
			again.isDropped(t)
			if _, err := w.connect(press); err == nil {
				t.Error("what was told again did not shut it out")
			}
		})
	}
}

func TestAListIsKeptFreshWithoutADevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	press := w.root.Issue(t, "press-01")
	w.revoke(press)
	before := w.number
	if err := d.KeepFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.number == before || !strings.Contains(string(w.read("crls.pem")), "X509 CRL") {
		t.Error("the file was not written")
	}
	eventually(t, "the broker goes by the new list", func() bool { _, err := w.connect(press); return err != nil })
}

func TestWithoutItsFilesABrokerIsToldByThePluginAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver(func(b *mosquitto.Broker) { b.CRLFile, b.PIDFile = "", "" })
	if is, other := d.Remark(w.Access()), w.driver().Remark(w.Access()); !strings.Contains(is, "can connect again") || strings.Contains(other, "again") {
		t.Errorf("%q, %q", is, other)
	}
	before := string(w.read("crls.pem"))
	press := w.root.Issue(t, "press-01")
	w.apply(d, identity(t, "press-01", 0, press))
	open := w.connected(press)
	w.revoke(press)
	w.apply(d, disabled(identity(t, "press-01", 1, press)))
	open.isDropped(t)
	if w.connected(press).works(t, "dt/press-01") {
		t.Error("it can work")
	}
	if string(w.read("crls.pem")) != before {
		t.Error("the list was written")
	}
}

func TestABrokerThatIsOpenToEverybodyFailsItsTest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.driver()
	if err := d.Test(t.Context(), w.Access()); err != nil {
		t.Error(err)
	}
	w.broker.Stop() // of 2.0.11 mosquitto_ctrl does not change this
	before := w.read("dynsec.json")
	open := regexp.MustCompile(`"subscribe":\s*false`).ReplaceAll(before, []byte(`"subscribe": true`))
	if bytes.Equal(open, before) {
		t.Fatalf("the plugin's file has another form:\n%s", before)
	}
	w.write("dynsec.json", open)
	w.start()
	if err := d.Test(t.Context(), w.Access()); err == nil || !strings.Contains(err.Error(), "default access lets every client subscribe") {
		t.Error(err)
	}
}
