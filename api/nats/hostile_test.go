package nats

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// questioner is a server, or somebody who would be one.
type questioner struct {
	key, xkey nkeys.KeyPair
	user      string
}

func newQuestioner() questioner {
	return questioner{must(nkeys.CreateServer()), must(nkeys.CreateCurveKeys()), public(must(nkeys.CreateUser()))}
}

// about is a question about d1 with a certificate.
func (s questioner) about(e *testkit.Entity) *jwt.AuthorizationRequestClaims {
	q := jwt.NewAuthorizationRequestClaims(public(s.key))
	q.Audience, q.UserNkey = audience, s.user
	q.Server = jwt.ServerID{ID: public(s.key), XKey: public(s.xkey)}
	q.ClientInformation = jwt.ClientInformation{Kind: "Client"}
	q.ConnectOptions = jwt.ConnectOptions{Username: "d1"}
	q.TLS = &jwt.ClientTLS{VerifiedChains: []jwt.StringList{{string(e.PEM())}}}
	return q
}

// asks signs and seals a question, and opens the answer.
func (s questioner) asks(ctx context.Context, o *Callout, q *jwt.AuthorizationRequestClaims) (*jwt.AuthorizationResponseClaims, error) {
	to := public(o.XKey)
	answer, err := o.answer(ctx, public(s.xkey), must(s.xkey.Seal([]byte(must(q.Encode(s.key))), to)))
	if err != nil {
		return nil, err
	}
	return jwt.DecodeAuthorizationResponseClaims(string(must(s.xkey.Open(answer, to))))
}

// silent is a callout without a server, and d1 with its certificate.
func silent(t *testing.T) (*world, *Callout, *testkit.Entity) {
	t.Helper()
	w := newWorld(t)
	d1 := w.factory.Issue(t, "d1")
	must(w.engine.Register(t.Context(), provisioning.RegisterRequest{
		Attempt: provisioning.Attempt{ID: id("d1"), Spelled: "d1", Door: "test", Evidence: provisioning.Evidence{Chain: must(verify.ReadChain(d1.Chain()))}},
	}))
	return w, &Callout{Config: Config{
		Engine: w.engine, Hub: hub, Issuer: w.issuer, XKey: w.xkey, Account: "DEVICES", AskAgain: time.Hour, Now: time.Now,
		Publish: []string{"devices.{device}.>"}, Log: slog.New(slog.DiscardHandler), Checked: func(string, string) {},
	}}, d1
}

func TestAnAnswerIsForOneServerAndConnection(t *testing.T) {
	t.Parallel()
	_, o, d1 := silent(t)
	s := newQuestioner()
	r := must(s.asks(t.Context(), o, s.about(d1)))
	if r.Error != "" || r.Subject != s.user || r.Audience != public(s.key) || r.Issuer != public(o.Issuer) {
		t.Fatalf("%+v", r)
	}
	u := must(jwt.DecodeUserClaims(r.Jwt))
	if u.Subject != s.user || u.Audience != "DEVICES" || u.Issuer != public(o.Issuer) || u.Name != "device:d1" || len(u.Pub.Allow) != 1 || u.Pub.Allow[0] != "devices.d1.>" || len(u.Sub.Allow) != 0 || len(u.Sub.Deny) != 1 || u.Sub.Deny[0] != ">" ||
		u.AllowedConnectionTypes.Contains(jwt.ConnectionTypeLeafnode) || u.Expires > time.Now().Add(time.Hour+time.Second).Unix() || u.Expires < time.Now().Add(59*time.Minute).Unix() {
		t.Errorf("%+v", u)
	}
}

func TestQuestionsThatAreNoServersAreNotAnswered(t *testing.T) {
	t.Parallel()
	_, o, d1 := silent(t)
	s, other := newQuestioner(), newQuestioner()
	for what, edit := range map[string]func(*questioner, *jwt.AuthorizationRequestClaims){
		"signed by another server": func(_ *questioner, q *jwt.AuthorizationRequestClaims) { q.Server.ID = public(other.key) },
		"for something else":       func(_ *questioner, q *jwt.AuthorizationRequestClaims) { q.Audience = "something" },
		"about no user":            func(_ *questioner, q *jwt.AuthorizationRequestClaims) { q.UserNkey = public(s.key) },
		"sealed by another":        func(by *questioner, _ *jwt.AuthorizationRequestClaims) { by.xkey = other.xkey },
		"with no xkey inside":      func(_ *questioner, q *jwt.AuthorizationRequestClaims) { q.Server.XKey = "" },
	} {
		by, q := s, s.about(d1)
		edit(&by, q)
		if r, err := by.asks(t.Context(), o, q); err == nil {
			t.Errorf("%s: answered %+v", what, r)
		}
	}
	signed := []byte(must(s.about(d1).Encode(s.key)))
	for what, text := range map[string][]byte{"nothing": nil, "noise": []byte("noise"), "unsealed": signed} {
		if r, err := o.answer(t.Context(), public(s.xkey), text); err == nil {
			t.Errorf("%s: answered %s", what, r)
		}
	}
	broken := append([]byte{}, signed...)
	broken[len(broken)-4] ^= 1
	if r, err := o.answer(t.Context(), public(s.xkey), must(s.xkey.Seal(broken, public(o.XKey)))); err == nil {
		t.Errorf("a broken signature: answered %s", r)
	}
}

func TestClientsThatAreNoDevicesAreRefused(t *testing.T) {
	t.Parallel()
	w, o, d1 := silent(t)
	s := newQuestioner()
	for want, edit := range map[string]func(*jwt.AuthorizationRequestClaims){
		"not-a-client":        func(q *jwt.AuthorizationRequestClaims) { q.ClientInformation.Kind = "Leafnode" },
		"credential-missing":  func(q *jwt.AuthorizationRequestClaims) { q.TLS = nil },
		"device-id-missing":   func(q *jwt.AuthorizationRequestClaims) { q.TLS, q.ConnectOptions.Username = nil, "" },
		"certificate-file":    func(q *jwt.AuthorizationRequestClaims) { q.TLS.VerifiedChains[0][0] = "garbage" },
		"registration-id":     func(q *jwt.AuthorizationRequestClaims) { q.ConnectOptions.Username = "d1.>" },
		"device-names-differ": func(q *jwt.AuthorizationRequestClaims) { q.ClientInformation.MQTT = "d2" },
		"device-not-found":    func(q *jwt.AuthorizationRequestClaims) { q.ConnectOptions.Username = "d2" },
	} {
		q := s.about(d1)
		edit(q)
		if r := must(s.asks(t.Context(), o, q)); r.Error != want || r.Jwt != "" {
			t.Errorf("%q %q, want %s", r.Error, r.Jwt, want)
		}
	}
	w.store.broken = true
	if r := must(s.asks(t.Context(), o, s.about(d1))); r.Error != "unavailable" || r.Jwt != "" {
		t.Errorf("a store that fails: %q %q", r.Error, r.Jwt)
	}
}

func TestAPlaceInSubjectsIsOneToken(t *testing.T) {
	t.Parallel()
	for device, want := range map[string]string{"d1": "a.d1.b.d1", "press.1": "a.press//1.b.press//1", "x:1_-": "a.x:1_-.b.x:1_-"} {
		if got := subjects([]string{"a.{device}.b.{device}"}, device); got[0] != want {
			t.Errorf("%s: %s, want %s", device, got[0], want)
		}
	}
}
