package demo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// breach is the tour with fewer devices than make demo-breach has.
func breach(t *testing.T, program string, r tour) *exec.Cmd {
	cmd := r.command(t)
	cmd.Env = append(cmd.Env, "BREACH_BIN="+program, "BREACH_DEVICES=200")
	return cmd
}

func TestDemoBreach(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin") // where Debian has the broker
	need(t, "bash", "mosquitto", "mosquitto_ctrl")
	muster, program := built(t), build(t, "bench/breach")
	t.Run("the breach is contained, and every door and hub says so", func(t *testing.T) {
		r := newTour(t, "demo-breach", muster)
		out, err := breach(t, program, r).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		r.leavesNothing(t)
		for _, line := range breachLines {
			if !regexp.MustCompile(line).Match(out) {
				t.Errorf("no line matches %s in\n%s", line, out)
			}
		}
		if report, err := os.ReadFile(filepath.Join(r.folder, "demo-breach", "incident.md")); err != nil || !regexp.MustCompile(`\| state \| done \|`).Match(report) {
			t.Errorf("%v\n%s", err, report)
		}
	})
	t.Run("an interrupted tour stops server and broker", func(t *testing.T) {
		r := newTour(t, "demo-breach", muster)
		interrupt(t, breach(t, program, r))
		r.leavesNothing(t)
	})
	t.Run("a server that does not start fails the tour in its first step", func(t *testing.T) {
		r := newTour(t, "demo-breach", "/bin/false")
		fails(t, breach(t, program, r), "FAILED in step 1")
		r.leavesNothing(t)
	})
}

// breachLines are what the README promises of it, however the words around them change.
var breachLines = []string{
	`group all-presses\s+stays enabled: its devices would slip back in by it, and are refused there too`,
	`(?m)^ +certificates revoked\s+201$`,
	`ghost-1-00000, which no factory made, registers`,
	`(?m)DPS refuses: .* a new one of the thief's$`,
	`every hub has confirmed: 201 receipts, 201 certificates revoked`,
	`read back: \d+ of \d+ devices looked up at the built-in hub, all disabled`,
	`read back: all \d+ connections to the Mosquitto are dropped`,
	`read back: all \d+ came back to it, and were refused in the handshake`,
	`(?m)TIME TO CONTAIN: \d+\.\d s from the act's answer to the last hop read back \(200 devices, \d+ of them on the Mosquitto\)$`,
	`read back: the Mosquitto holds what it shall hold`,
	`20 devices have a certificate by it, and their hubs let them in`,
	`(?m)^ +secondary\s+active\s+CN=Example Works Line 3b\s`,
	`the thief, who tries once more: 401, by both groups`,
	`primary slot emptied; the other one is clean, and it stays enabled`,
	`(?m)^Done in \d+ s\.`,
}
