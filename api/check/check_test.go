package check_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

const (
	neutral  = "/hub/v1/check"
	emqxPath = "/hub/v1/emqx"
)

// allowed asks both doors and wants them to let the client in.
func (w *world) allowed(name string, e *testkit.Entity) {
	w.t.Helper()
	if status, got := w.ask(neutral, object{"deviceId": name, "certificate": string(e.PEM()), "hub": hub}); status != http.StatusOK || got["allow"] != true || got["reason"] != nil {
		w.t.Errorf("%s: %d %v", name, status, got)
	}
	if status, got := w.ask(emqxPath, emqx(name, e)); status != http.StatusOK || got["result"] != "allow" || got["is_superuser"] != false {
		w.t.Errorf("%s at EMQX: %d %v", name, status, got)
	}
}

// denied asks both doors and wants this reason.
func (w *world) denied(name string, e *testkit.Entity, reason string) {
	w.t.Helper()
	if status, got := w.ask(neutral, object{"deviceId": name, "certificate": string(e.PEM()), "hub": hub}); status != http.StatusOK || got["allow"] != false || got["reason"] != reason || got["until"] != nil {
		w.t.Errorf("%s: %d %v, want the reason %s", name, status, got, reason)
	}
	if status, got := w.ask(emqxPath, emqx(name, e)); status != http.StatusOK || got["result"] != "deny" || got["reason"] != reason || got["expire_at"] != nil {
		w.t.Errorf("%s at EMQX: %d %v, want the reason %s", name, status, got, reason)
	}
}

func TestADeviceIsLetInUntilItIsDisallowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := w.factory.Issue(t, "d1")
	w.denied("d1", stranger, "device-not-found")
	d1, d2 := w.device("d1"), w.device("d2")
	w.allowed("d1", d1)
	w.allowed("D1", d1) // ids are compared without regard to case
	w.denied("d1", d2, "credential-differs")
	w.denied("d1", stranger, "credential-differs")
	w.disallow(d1.Cert.Raw)
	w.denied("d1", d1, "disallowed")
	w.allowed("d2", d2)
	w.disallow(w.factory.Cert.Raw)
	w.denied("d2", d2, "disallowed")
	if w.checked[[2]string{"emqx", ""}] != 3 || w.checked[[2]string{"check", "disallowed"}] != 2 {
		t.Errorf("counted %v", w.checked)
	}
}

func TestAnAnswerSaysHowLongItIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d1 := w.device("d1")
	body := object{"deviceId": "d1", "certificate": string(d1.PEM()), "hub": hub}
	_, got := w.ask(neutral, body)
	if want := w.now.Add(time.Hour).Format(time.RFC3339); got["until"] != want || got["registrationId"] != "d1" || got["deviceId"] != "d1" || got["hub"] != hub {
		t.Errorf("%v, want until %s", got, want)
	}
	w.now = d1.Cert.NotAfter.Add(-time.Minute)
	w.token = w.newToken("again", policies.ScopeHub)
	if _, got = w.ask(neutral, body); got["until"] != d1.Cert.NotAfter.UTC().Format(time.RFC3339) {
		t.Errorf("near its end: %v", got)
	}
	if _, got = w.ask(emqxPath, emqx("d1", d1)); got["expire_at"] != float64(d1.Cert.NotAfter.Unix()) {
		t.Errorf("near its end, at EMQX: %v", got)
	}
	w.now = d1.Cert.NotAfter.Add(2 * time.Second)
	w.denied("d1", d1, "leaf-expired")
}

func TestACertificateIsKnownByItsThumbprint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d1, d2 := w.device("d1"), w.device("d2")
	for _, of := range []*testkit.Entity{d1, d2} {
		thumb := testThumb(of)
		for _, body := range []object{
			{"deviceId": "d1", "thumbprint": thumb.hex}, {"deviceId": "d1", "thumbprint": strings.ToUpper(thumb.hex)}, {"deviceId": "d1", "x5t#S256": thumb.x5t},
			{"deviceId": "d1", "certificate": of.Base64()},
		} {
			status, got := w.ask(neutral, body) // the only hub need not be named
			if status != http.StatusOK || got["allow"] != (of == d1) {
				t.Errorf("%v: %d %v", body, status, got)
			}
		}
	}
}

func TestADeviceWithKeysShowsAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed("k1")
	token := testkit.SAS(key, "", "", w.now.Add(20*time.Minute), testkit.Resource(hub+"/devices/k1"), testkit.KeyName(""))
	other := testkit.SAS(key, "", "", w.now.Add(20*time.Minute), testkit.Resource(hub+"/devices/k2"), testkit.KeyName(""))
	for text, allow := range map[string]bool{token: true, other: false} {
		if _, got := w.ask(neutral, object{"deviceId": "k1", "token": text}); got["allow"] != allow {
			t.Errorf("%v, want %v", got, allow)
		}
	}
	for _, username := range []string{"", "undefined", "k1", hub + "/K1", hub + "/k1/?api-version=2021-04-12"} {
		_, got := w.ask(emqxPath, object{"clientid": "k1", "username": username, "password": token, "cert_pem": "", "hub": hub})
		if got["result"] != "allow" || got["expire_at"] != float64(w.now.Add(20*time.Minute).Unix()) {
			t.Errorf("as %q: %v", username, got)
		}
	}
	for reason, body := range map[string]object{
		"device-names-differ": {"clientid": "k1", "username": hub + "/k2/?api-version=2021-04-12", "password": token},
		"sas-other-resource":  {"clientid": "k1", "password": other},
		"sas-malformed":       {"clientid": "k1", "password": "hunter2"},
		"credential-missing":  {"clientid": "k1", "password": "undefined", "cert_pem": "undefined"},
	} {
		if status, got := w.ask(emqxPath, body); status != http.StatusOK || got["result"] != "deny" || got["reason"] != reason {
			t.Errorf("%d %v, want %s", status, got, reason)
		}
	}
	d1 := w.device("d1")
	body := emqx("d1", d1)
	body["password"] = "of no meaning"
	if _, got := w.ask(emqxPath, body); got["result"] != "allow" {
		t.Errorf("a certificate, and a password beside it: %v", got)
	}
}

func TestBadQuestionsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d1 := w.device("d1")
	whole := string(d1.PEM())
	for name, x := range map[string]struct {
		body   string
		reason string
		status int
	}{
		"no body":               {``, "json", http.StatusBadRequest},
		"no JSON":               {`{`, "json", http.StatusBadRequest},
		"a list":                {`[]`, "json", http.StatusBadRequest},
		"deep":                  {strings.Repeat("[", 40) + strings.Repeat("]", 40), "json-depth", http.StatusBadRequest},
		"another type":          {`{"deviceId": 7, "clientid": 7}`, "json-type", http.StatusBadRequest},
		"no device":             {`{"certificate": "x", "cert_pem": "x"}`, "device-id-missing", http.StatusBadRequest},
		"a device that is none": {`{"deviceId": "d1/../d2", "clientid": "d1/../d2"}`, "registration-id", http.StatusBadRequest},
		"garbage for PEM":       {`{"deviceId": "d1", "clientid": "d1", "certificate": "garbage!", "cert_pem": "garbage!"}`, "certificate-file", http.StatusBadRequest},
		"a hub that is none":    {`{"deviceId": "d1", "clientid": "d1", "hub": "nowhere.example.net"}`, "hub-not-found", http.StatusNotFound},
		"a huge body":           {`{"deviceId": "` + strings.Repeat("a", 65<<10) + `"}`, "body-too-large", http.StatusRequestEntityTooLarge},
	} {
		header := []string{"Authorization", "Bearer " + w.token}
		if status, got := w.post(neutral, x.body, header...); status != x.status || got["allow"] != false || got["reason"] != x.reason || got["detail"] == nil || got["traceId"] == nil {
			t.Errorf("%s: %d %v, want %d %s", name, status, got, x.status, x.reason)
		}
		if status, got := w.post(emqxPath, x.body, header...); status != http.StatusOK || got["result"] != "deny" || got["reason"] != x.reason {
			t.Errorf("%s at EMQX: %d %v, want %s", name, status, got, x.reason)
		}
	}
	for name, x := range map[string]struct {
		body   object
		reason string
	}{
		"two credentials":     {object{"deviceId": "d1", "certificate": whole, "thumbprint": testThumb(d1).hex}, "credential-ambiguous"},
		"half a thumbprint":   {object{"deviceId": "d1", "thumbprint": testThumb(d1).hex[:40]}, "thumbprint"},
		"an x5t#S256 of hex":  {object{"deviceId": "d1", "x5t#S256": testThumb(d1).hex}, "thumbprint"},
		"eleven certificates": {object{"deviceId": "d1", "certificate": strings.Repeat(whole, 11)}, "chain-too-long"},
		"a token of another":  {object{"deviceId": "d1", "token": "Bearer x"}, "sas-malformed"},
	} {
		if status, got := w.ask(neutral, x.body); status != http.StatusBadRequest || got["allow"] != false || got["reason"] != x.reason {
			t.Errorf("%s: %d %v, want %s", name, status, got, x.reason)
		}
	}
}

func TestOnlyABrokerIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d1 := w.device("d1")
	whole := `{"deviceId": "d1", "clientid": "d1", "certificate": "` + d1.Base64() + `", "cert_pem": "` + d1.Base64() + `"}`
	reader := w.newToken("reader", policies.ScopeRead, policies.ScopeSecurity)
	revoked := w.newToken("revoked", policies.ScopeHub)
	w.must(w.engine.RevokeToken(t.Context(), operator, "revoked"))
	for header, want := range map[string]struct {
		status int
		reason string
	}{
		"": {http.StatusUnauthorized, "token"}, "Bearer mst_x": {http.StatusUnauthorized, "token"}, "Basic " + w.token: {http.StatusUnauthorized, "token"},
		"Bearer " + revoked: {http.StatusUnauthorized, "token"}, "Bearer " + reader: {http.StatusForbidden, "scope-missing"},
	} {
		if status, got := w.post(neutral, whole, "Authorization", header); status != want.status || got["allow"] != false || got["reason"] != want.reason {
			t.Errorf("%.12q: %d %v", header, status, got)
		}
		if status, got := w.post(emqxPath, whole, "Authorization", header); status != http.StatusOK || got["result"] != "deny" || got["reason"] != want.reason {
			t.Errorf("%.12q at EMQX: %d %v", header, status, got)
		}
	}
	if _, got := w.post(emqxPath, whole, "Authorization", "Bearer "+w.token, "Content-Type", "application/x-www-form-urlencoded"); got["result"] != "deny" || got["reason"] != "media-type" {
		t.Errorf("a form: %v", got)
	}
	if status, got := w.post("/hub/v1/other", whole, "Authorization", "Bearer "+w.token); status != http.StatusNotFound || got["allow"] != false {
		t.Errorf("another path: %d %v", status, got)
	}
	recorder := httptest.NewRecorder()
	w.door.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, emqxPath, nil))
	if recorder.Code != http.StatusOK || !strings.Contains(recorder.Body.String(), `"deny"`) { // EMQX configured to GET
		t.Errorf("GET: %d %s", recorder.Code, recorder.Body)
	}
}

// What EMQX cannot make out is "ignore" to it: the next authenticator decides.
func TestAStoreThatFailsLetsNobodyIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d1 := w.device("d1")
	w.store.broken = true
	if status, got := w.ask(neutral, object{"deviceId": "d1", "certificate": d1.Base64()}); status != http.StatusInternalServerError || got["allow"] != false || got["reason"] != "internal" {
		t.Errorf("%d %v", status, got)
	}
	if status, got := w.ask(emqxPath, emqx("d1", d1)); status != http.StatusOK || got["result"] != "deny" || got["reason"] != "internal" || strings.Contains(got["detail"].(string), "disk") {
		t.Errorf("at EMQX: %d %v", status, got)
	}
	w.store.broken = false
	w.allowed("d1", d1)
}

func TestAStoreThatHangsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d1 := w.device("d1")
	w.store.stuck = true
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		status, got := w.ask(emqxPath, emqx("d1", d1))
		if took := time.Since(began); took >= 5*time.Second {
			t.Errorf("answered after %v, when EMQX has gone", took)
		}
		if status != http.StatusOK || got["result"] != "deny" || got["reason"] != "timed-out" {
			t.Errorf("%d %v", status, got)
		}
	})
}

type thumb struct{ hex, x5t string }

func testThumb(e *testkit.Entity) thumb {
	x := verify.ThumbprintOf(e.Cert.Raw)
	return thumb{x.String(), base64.RawURLEncoding.EncodeToString(x[:])}
}
