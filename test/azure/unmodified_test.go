package azure_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/passmuster/muster/test/instance"
)

// ownAddress is a loopback address that nothing else on this machine listens on.
const ownAddress = "127.0.0.2"

// TestTheSDKsAsTheyAre has the SDKs as the samples have them: nothing is filled in, and
// nothing watched. The server is where they expect it, on 443 and 8883.
func TestTheSDKsAsTheyAre(t *testing.T) {
	devices, mqtt := net.JoinHostPort(ownAddress, "443"), net.JoinHostPort(ownAddress, "8883")
	free(t, devices, mqtt)
	w := serve(t, instance.Config{Devices: devices, MQTT: mqtt})
	w.host, w.unwatched = ownAddress, true
	for _, name := range []string{"MUSTER_SERVICE_CONNECTION_STRING", "MUSTER_HUB_CONNECTION_STRING"} {
		w.env[name] = strings.Replace(w.env[name], "HostName=localhost", "HostName="+ownAddress, 1)
	}
	w.node = startDriver(t, w.CAFile, nil)
	w.service(t, groups.put, object{"enrollmentGroupId": "line-3", "attestation": symmetric(groupKey, spareKey)}).gives(nil)
	works := newFactory(t, powerShell)
	w.prove(t, "works", works)
	w.service(t, groups.put, object{"enrollmentGroupId": "works", "attestation": signingCertificate(works.read(t, "root.pem"))}).gives(nil)
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			keyed, certified := "keyed-"+transport, "certified-"+transport
			w.device(t, transport, "register: key derived from a group's", derived(groupKey, keyed)).gives(nil)
			w.device(t, transport, byCertificate, works.device(t, certified)).gives(nil)
			w.device(t, transport, "operation status: symmetric key", with(derived(groupKey, keyed), "call", "poll")).gives(nil)
			w.turnsAway(t, transport, "refused: another key", withKey(keyed, ownKey))
			w.service(t, "getDeviceRegistrationState", keyed).gives(nil)
			w.registry(t, "getTwin", certified).gives(nil)
		})
	}
}

// free skips the test where it may not listen on these ports: they are root's.
func free(t *testing.T, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 || errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Skipf("it takes root, and Linux: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
