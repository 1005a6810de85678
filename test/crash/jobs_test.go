package crash_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/test/instance"
)

// work is something that a sweep moves, each with a row in the ledger.
type work struct {
	action string // of the row
	// make has things come due a moment after it returns, and names their rows' subjects.
	make func(t *testing.T, s *instance.Instance) (subjects []string)
}

// resumeLimit is how long what is due may wait after the leader was killed.
const resumeLimit = 30 * time.Second

func TestWhenTheLeadingServerIsKilledTheOtherMovesEachThingOnce(t *testing.T) {
	for name, w := range map[string]work{
		"issuers that retire":      {"issuer.retired", retiringIssuers},
		"certificates that retire": {"roll.retired", retiringCertificates},
	} {
		t.Run(name, func(t *testing.T) { movedOnce(t, w) })
	}
}

// movedOnce kills the server that leads while something comes due, and wants the other to
// move each thing soon, and nobody twice.
func movedOnce(t *testing.T, w work) {
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte(testpg.DSN(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := instance.Config{Binary: binary(t), Data: folder(t), DSNFile: dsn}
	leader := start(t, c) // nobody else is there to be elected
	ran(t, leader, time.Time{})
	other := start(t, c)
	subjects := w.make(t, leader)
	killed := time.Now()
	leader.Kill()
	ran(t, other, killed)
	for _, subject := range subjects {
		for late := killed.Add(2 * resumeLimit); rows(t, other, w.action, subject) == 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%s was not moved; the server said:\n%s", subject, other.Log())
			}
		}
	}
	resumed := time.Since(killed)
	t.Logf("%d moves, the last %s after the leader was killed", len(subjects), resumed.Round(time.Millisecond))
	if resumed > resumeLimit {
		t.Errorf("work was resumed after %s", resumed)
	}
	again := start(t, c) // whoever joins does nothing again
	ran(t, again, time.Time{})
	for _, subject := range subjects {
		if n := rows(t, other, w.action, subject); n != 1 {
			t.Errorf("%s was moved %d times", subject, n)
		}
	}
	for _, s := range []*instance.Instance{again, other} {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	doctor(t, c)
}

// ran waits until every job has run since a moment.
func ran(t *testing.T, s *instance.Instance, since time.Time) {
	t.Helper()
	type page struct {
		Items []struct {
			Name    string
			LastRun *struct{ StartedDateTimeUtc time.Time }
		}
	}
	for late := time.Now().Add(2 * resumeLimit); ; time.Sleep(50 * time.Millisecond) {
		var all page
		if err := s.Call(t.Context(), http.MethodGet, "/jobs", nil, &all); err != nil {
			t.Fatal(err)
		}
		waiting := ""
		for _, j := range all.Items {
			if j.LastRun == nil || j.LastRun.StartedDateTimeUtc.Before(since) {
				waiting = j.Name
			}
		}
		if waiting == "" && len(all.Items) > 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%q does not run; the server said:\n%s", waiting, s.Log())
		}
	}
}

// rows counts the rows of the ledger with an action and subject.
func rows(t *testing.T, s *instance.Instance, action, subject string) int {
	t.Helper()
	var page struct{ Items []instance.Object }
	query := url.Values{"action": {action}, "subject": {subject}}
	if err := s.Call(t.Context(), http.MethodGet, "/audit?"+query.Encode(), nil, &page); err != nil {
		t.Fatal(err)
	}
	return len(page.Items)
}

// retiringIssuers promotes successors of five issuers, whose overlap is over in a moment.
func retiringIssuers(t *testing.T, s *instance.Instance) (subjects []string) {
	type issuer struct{ ID, Role string }
	var all struct{ Items []issuer }
	call(t, s, http.MethodGet, "/issuers", nil, &all)
	root := ""
	for _, i := range all.Items {
		if i.Role == "root" {
			root = i.ID
		}
	}
	for n := range 5 {
		profile := fmt.Sprintf("line-%d", n)
		call(t, s, http.MethodPut, "/profiles/"+profile, instance.Object{}, nil)
		var made [2]issuer
		for i := range made {
			call(t, s, http.MethodPost, "/issuers", instance.Object{"name": fmt.Sprintf("%s CA %d", profile, i), "parent": root, "profile": profile}, &made[i])
		}
		call(t, s, http.MethodPost, "/issuers/"+made[1].ID+"/promote", instance.Object{"overlap": "PT2S", "force": true}, nil)
		subjects = append(subjects, "issuer:"+made[0].ID)
	}
	return subjects
}

// retiringCertificates has thirty devices go over to their second certificate, whose
// overlaps end one after another, before and after the leader is killed.
func retiringCertificates(t *testing.T, s *instance.Instance) (subjects []string) {
	call(t, s, http.MethodPut, "/profiles/brief", instance.Object{"renewal": instance.Object{"overlap": "PT2S"}}, nil)
	call(t, s, http.MethodPut, "/groups/movers", instance.Object{"attestation": instance.Object{"type": "symmetricKey"}, "credentialPolicyName": "brief"}, nil)
	var keys struct{ SymmetricKey struct{ PrimaryKey string } }
	call(t, s, http.MethodPost, "/groups/movers/attestationmechanism", nil, &keys)
	key, err := device.ParseKey(keys.SymmetricKey.PrimaryKey)
	if err != nil {
		t.Fatal(err)
	}
	at := siteOf(t, s)
	for n := range 30 {
		id := fmt.Sprintf("mover-%d", n)
		onboarding := device.Credential{SymmetricKey: device.DeriveKey(key, id)}
		first := at.register(t, id, onboarding, true)
		second := at.register(t, id, first, true)
		at.register(t, id, second, false)
		subjects = append(subjects, "registration:"+id)
	}
	return subjects
}

// register registers a device, with a request for another key if it shall have a certificate,
// which is what is returned.
func (s site) register(t *testing.T, id string, by device.Credential, issue bool) device.Credential {
	t.Helper()
	client, err := device.New(device.Config{URL: s.url, IDScope: s.scope, RegistrationID: id, CA: s.roots, Credential: by})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	private, err := device.NewKey(device.P256)
	if err != nil {
		t.Fatal(err)
	}
	request := device.Request{}
	if issue {
		if request.CSR, err = device.NewCSR(private, id); err != nil {
			t.Fatal(err)
		}
	}
	result, err := client.Register(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{PrivateKey: private}
	for _, c := range result.Chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return device.Credential{Certificate: cert}
}

func call(t *testing.T, s *instance.Instance, method, path string, in, out any) {
	t.Helper()
	if err := s.Call(t.Context(), method, path, in, out); err != nil {
		t.Fatal(err)
	}
}
