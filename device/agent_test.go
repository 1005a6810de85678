package device

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// world is one device, its folder and its service, inside a synctest bubble.
type world struct {
	t       *testing.T
	service *fakeService
	folder  *Folder
	agent   *Agent
	events  []Event
	config  AgentConfig
}

func newWorld(t *testing.T, change func(*world)) *world {
	t.Helper()
	w := &world{t: t, service: newFakeService(t)}
	folder, err := Create(filepath.Join(t.TempDir(), testID), testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	w.folder = folder
	w.config = AgentConfig{
		Server: w.service.inMemory(w.service.factoryCredential(t)), Folder: folder,
		Events: func(e Event) { w.events = append(w.events, e) },
	}
	if change != nil {
		change(w)
	}
	w.restart()
	return w
}

func (w *world) restart() {
	w.t.Helper()
	agent, err := NewAgent(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent = agent
}

// run lets the agent run for d of the bubble's time.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := w.agent.Run(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) current() Stored {
	w.t.Helper()
	stored, err := w.folder.Current()
	if err != nil {
		w.t.Fatal(err)
	}
	return stored
}

func (w *world) state() State {
	w.t.Helper()
	state, err := w.folder.State()
	if err != nil {
		w.t.Fatal(err)
	}
	return state
}

// kinds are the events so far, repetitions left out.
func (w *world) kinds() []EventKind {
	var all []EventKind
	for _, e := range w.events {
		if e.Kind != Registering {
			all = append(all, e.Kind)
		}
	}
	return slices.Compact(all)
}

func TestAgentRegistersAndRenewsForAYear(t *testing.T) {
	for _, protocol := range []Protocol{DPS, EST} {
		t.Run(string(protocol), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.config.Protocol = protocol })
				w.run(365 * 24 * time.Hour)
				// 365 days in steps of 54 to 66 days.
				if n := len(w.service.issued); n < 6 || n > 7 {
					t.Fatalf("%d certificates in a year", n)
				}
				if w.service.lastProof != "issuer issuing" {
					t.Errorf("renewed with %s instead of its own certificate", w.service.lastProof)
				}
				seen := map[string]bool{}
				for i, c := range w.service.issued {
					seen[string(c.RawSubjectPublicKeyInfo)] = true
					if i == 0 {
						continue
					}
					if age := c.NotBefore.Sub(w.service.issued[i-1].NotBefore); age < 54*24*time.Hour || age > 66*24*time.Hour+time.Minute {
						t.Errorf("certificate %d came after %s", i, age)
					}
				}
				if len(seen) != len(w.service.issued) {
					t.Error("a key was used twice")
				}
				stored, state := w.current(), w.state()
				if len(stored.Chain) != 3 || !stored.Leaf().Equal(w.service.issued[len(w.service.issued)-1]) {
					t.Errorf("the folder holds a chain of %d", len(stored.Chain))
				}
				if protocol == DPS && (state.AssignedHub != "hub-1.example.net" || state.DeviceID != testID) {
					t.Errorf("state %+v", state)
				}
				if state.Slot != stored.Slot || state.Thumbprint != thumbprint(stored.Leaf()) || state.LastError != "" {
					t.Errorf("state %+v", state)
				}
				if got := w.kinds(); !slices.Equal(got, []EventKind{Registered, Renewed}) {
					t.Errorf("events %v", w.events)
				}
				if protocol == EST && (w.service.count("simpleenroll") != 1 || w.service.count("simplereenroll") != len(w.service.issued)-1) {
					t.Errorf("calls %v", w.service.calls)
				}
			})
		})
	}
}

func TestAgentKeepsTheFoldersFirstKeyAndTheKindOfKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		key, err := NewKey(Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		if w.config.Folder, err = Create(filepath.Join(t.TempDir(), testID), key); err != nil {
			t.Fatal(err)
		}
		w.restart()
		if err := errors.Join(w.agent.Once(t.Context()), w.agent.Once(t.Context())); err != nil {
			t.Fatal(err)
		}
		if len(w.service.issued) != 1 || !certifies(w.service.issued[0], key) {
			t.Fatal("the first certificate is not for the key made beforehand")
		}
		if err := w.agent.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		stored, err := w.config.Folder.Current()
		if err != nil || kindOf(stored.Key) != Ed25519 || sameKey(stored, Stored{Key: key}) {
			t.Errorf("renewed to a %s key, %v", kindOf(stored.Key), err)
		}
	})
}

func TestAgentBacksOffAndRepeatsTheSameRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var asked []time.Time
		w.service.before = func(rw http.ResponseWriter, _ *http.Request) bool {
			asked = append(asked, time.Now())
			if len(asked) > 3 {
				return false
			}
			rw.Header().Set("Retry-After", "120")
			dpsError(rw, http.StatusServiceUnavailable, 503000, "later")
			return true
		}
		w.run(24 * time.Hour)
		if len(asked) != 4 || len(w.service.issued) != 1 {
			t.Fatalf("asked %d times, %d certificates", len(asked), len(w.service.issued))
		}
		for i := 1; i < 4; i++ {
			if gap := asked[i].Sub(asked[i-1]); gap < 120*time.Second || gap > 133*time.Second {
				t.Errorf("try %d came %s after the one before", i, gap)
			}
		}
		if state := w.state(); state.LastError != "" {
			t.Errorf("an old error is still shown: %s", state.LastError)
		}
	})
}

// After an answer lost on its way the server has issued; the same request gets the
// same certificate, a new one would fill the device's other slot.
func TestAnAnswerLostOnItsWayCostsNoSecondCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		lost := 3
		reach := w.config.Server.Transport
		w.config.Server.Transport = func(c *tls.Config) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				resp, err := reach(c).RoundTrip(r)
				if lost--; lost >= 0 {
					return nil, errors.New("connection reset")
				}
				return resp, err
			})
		}
		w.restart()
		w.run(24 * time.Hour)
		if n := w.service.count("/register"); n != 4 || len(w.service.issued) != 1 {
			t.Errorf("%d registrations, %d certificates", n, len(w.service.issued))
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestADiskThatIsFullForAnHourCostsNoSecondCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.folder.disk = &journal{failAt: 0}
		ctx := t.Context()
		if err := w.agent.Once(ctx); !errors.Is(err, errInjected) {
			t.Fatalf("%v", err)
		}
		w.folder.disk = osDisk{}
		if err := w.agent.Once(ctx); err != nil || len(w.service.issued) != 1 || w.current().Leaf() == nil {
			t.Errorf("%d certificates, %v", len(w.service.issued), err)
		}
	})
}

func TestAgentFallsBackWhenItsCertificateIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name, proof string
		refuse      func(w *world, previous, own Stored)
	}{
		{"to the certificate before", "issuer issuing", func(w *world, _, own Stored) {
			w.service.disallowed[thumbprint(own.Leaf())] = true
		}},
		{"to the onboarding credential when both are refused", "factory issuing", func(w *world, previous, own Stored) {
			w.service.disallowed[thumbprint(own.Leaf())] = true
			w.service.disallowed[thumbprint(previous.Leaf())] = true
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				if err := errors.Join(w.agent.Once(t.Context()), w.agent.Renew(t.Context())); err != nil {
					t.Fatal(err)
				}
				previous, err := w.folder.Previous()
				if err != nil {
					t.Fatal(err)
				}
				own := w.current()
				tc.refuse(w, previous, own)
				if err := w.agent.Renew(t.Context()); !IsRefused(err, http.StatusUnauthorized) || !w.current().Leaf().Equal(own.Leaf()) {
					t.Fatalf("Renew uses the own certificate only: %v", err)
				}
				if !strings.Contains(w.state().LastError, "401") {
					t.Errorf("state %+v", w.state())
				}
				w.run(80 * 24 * time.Hour)
				if w.service.lastProof != tc.proof && w.service.count("/register") < 5 || w.current().Leaf().Equal(own.Leaf()) {
					t.Errorf("last proof %s; events %v", w.service.lastProof, w.events)
				}
				if !slices.Contains(w.kinds(), Rejected) {
					t.Errorf("the refusal was not told: %v", w.events)
				}
			})
		})
	}
}

func TestARefusedDeviceGoesOnAskingSlowlyAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.service.disallowedAll = true })
		w.run(24 * time.Hour)
		// Doubling to an hour: about twelve tries to get there, then one or two an hour.
		if n := len(w.service.calls); n < 20 || n > 70 {
			t.Errorf("%d tries in a day", n)
		}
		if got := w.kinds(); !slices.Equal(got, []EventKind{Rejected}) {
			t.Errorf("events %v", got)
		}
		if first := w.state().LastErrorAt; time.Since(first) < 23*time.Hour {
			t.Errorf("the same error was written again at %s", first)
		}
		w.service.disallowedAll = false
		w.run(2 * time.Hour)
		if w.current().Leaf() == nil || w.state().LastError != "" {
			t.Errorf("re-enabled, but %+v", w.state())
		}
	})
}

func TestHubRefusalRegistersAgainAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { done <- w.agent.Run(ctx) }()
		time.Sleep(time.Hour + time.Second)
		w.service.do(func() { w.service.hub = "hub-2.example.net" })
		for range 600 { // an application that reconnects every second for ten minutes
			w.agent.HubRefused()
			time.Sleep(time.Second)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := len(w.service.issued); n < 3 || n > 12 {
			t.Errorf("%d certificates", n)
		}
		if hub := w.state().AssignedHub; hub != "hub-2.example.net" {
			t.Errorf("still at %s", hub)
		}
	})
}

func TestADeviceSwitchedOffPastItsCertificateStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if err := w.agent.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * 24 * time.Hour)
		w.restart()
		if err := w.agent.Once(t.Context()); err != nil || w.service.lastProof != "factory issuing" || len(w.service.issued) != 2 {
			t.Errorf("%s, %v", w.service.lastProof, err)
		}

		w.config.Server.Credential = Credential{}
		w.restart()
		time.Sleep(200 * 24 * time.Hour)
		if err := w.agent.Once(t.Context()); !errors.Is(err, ErrNoProof) {
			t.Errorf("without an onboarding credential: %v", err)
		}
	})
}

func TestALostStateIsLearnedAgain(t *testing.T) {
	for protocol, certificates := range map[Protocol]int{DPS: 2, EST: 1} {
		t.Run(string(protocol), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.config.Protocol = protocol })
				if err := w.agent.Once(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(w.folder.path(stateFile), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := w.agent.Once(t.Context()); err != nil {
					t.Fatal(err)
				}
				if state := w.state(); len(w.service.issued) != certificates || state.Thumbprint != thumbprint(w.current().Leaf()) {
					t.Errorf("%d certificates, state %+v", len(w.service.issued), state)
				}
			})
		})
	}
}

func TestADamagedCredentialIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if err := w.agent.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.folder.path("current", keyFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.agent.Once(t.Context()); err != nil || w.current().Leaf() == nil || w.service.lastProof != "factory issuing" {
			t.Errorf("%v", err)
		}
	})
}

func TestARequestRefusedForItsContentIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		first := w.current().Key
		left := 1
		w.service.before = func(rw http.ResponseWriter, _ *http.Request) bool {
			if left--; left < 0 {
				return false
			}
			dpsError(rw, http.StatusBadRequest, 400004, "that key is on the block list")
			return true
		}
		w.run(time.Hour)
		if leaf := w.current().Leaf(); leaf == nil || certifies(leaf, first) {
			t.Errorf("events %v", w.events)
		}
	})
}

func TestESTServersMaySendTheLeafAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.config.Protocol = EST
			w.config.Server.Credential = w.service.symmetricCredential()
			w.service.shortChain = true
		})
		if err := w.agent.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(w.current().Chain); n != 3 || w.service.lastProof != "basic" {
			t.Errorf("a chain of %d by %s", n, w.service.lastProof)
		}
		w.config.Server.Credential = Credential{}
		w.restart()
		if err := w.agent.Register(t.Context()); err != nil || w.service.count("simplereenroll") != 1 {
			t.Errorf("register without an onboarding credential uses the own certificate: %v", err)
		}
	})
}

// Near the end of an issuer's life every certificate is shorter than the one before;
// the agent must not renew in a tight loop.
func TestShorterAndShorterCertificatesAreNotRenewedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		end := time.Now().Add(24 * time.Hour)
		w.service.before = func(http.ResponseWriter, *http.Request) bool {
			w.service.lifetime = max(time.Until(end), 2*time.Minute)
			return false
		}
		w.run(24 * time.Hour)
		if n := len(w.service.issued); n > 40 {
			t.Errorf("%d certificates in a day", n)
		}
	})
}

func TestNewAgentRefusesWhatCannotWork(t *testing.T) {
	folder, _ := newFolder(t)
	good := AgentConfig{Folder: folder, Server: Config{URL: "https://dps.example.net", RegistrationID: testID}}
	if _, err := NewAgent(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*AgentConfig){
		"no folder":          func(c *AgentConfig) { c.Folder = nil },
		"a strange protocol": func(c *AgentConfig) { c.Protocol = "scep" },
		"a bad server":       func(c *AgentConfig) { c.Server.URL = "http://x" },
	} {
		config := good
		spoil(&config)
		if _, err := NewAgent(config); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAHubsRefusalDoesNotHoldUpARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.service.do(func() { w.service.lifetime = time.Minute })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { done <- w.agent.Run(ctx) }()
		time.Sleep(time.Second)
		for range 300 {
			w.agent.HubRefused()
			time.Sleep(time.Second)
			if now, err := w.agent.stored(); err != nil || time.Now().After(now.Leaf().NotAfter) {
				t.Fatalf("without a certificate in date: %v", err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
