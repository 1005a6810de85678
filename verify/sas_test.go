package verify_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

const scope = "0ne004A1B2C"

var deviceKey = []byte("sixteen bytes at least")

// Scenario L4, and C2's refusals.
func TestSAS(t *testing.T) {
	now := testkit.Now()
	soon := now.Add(time.Hour)
	good := testkit.SAS(deviceKey, scope, "Dev-1", soon)
	field := func(name string) string {
		for f := range strings.SplitSeq(strings.TrimPrefix(good, "SharedAccessSignature "), "&") {
			if strings.HasPrefix(f, name+"=") {
				return f
			}
		}
		return ""
	}
	for _, tc := range []struct {
		name, header, rule string
	}{
		{"the resource unencoded, as npm signs it", good, ""},
		{"the resource encoded, as Python signs it", testkit.SAS(deviceKey, scope, "Dev-1", soon, testkit.Encoded()), ""},
		{"the id in another case", testkit.SAS(deviceKey, scope, "dEV-1", soon), ""},
		{"the scope in another case", testkit.SAS(deviceKey, strings.ToLower(scope), "dev-1", soon), ""},
		{"fields in the order of the documents", "SharedAccessSignature " + strings.Join([]string{field("sig"), field("se"), field("skn"), field("sr")}, "&"), ""},
		{"the scheme in another case", "sharedaccesssignature" + strings.TrimPrefix(good, "SharedAccessSignature"), ""},
		{"an unknown field", good + "&x=1", ""},
		{"no skn, which is not signed", testkit.SAS(deviceKey, scope, "dev-1", soon, testkit.KeyName("")), ""},
		{"expired four minutes ago, within the skew", testkit.SAS(deviceKey, scope, "dev-1", now.Add(-4*time.Minute)), ""},
		{"good for 366 days", testkit.SAS(deviceKey, scope, "dev-1", now.Add(366*24*time.Hour)), ""},

		{"expired five minutes ago", testkit.SAS(deviceKey, scope, "dev-1", now.Add(-5*time.Minute)), "sas-expired"},
		{"good for longer than 366 days", testkit.SAS(deviceKey, scope, "dev-1", now.Add(366*24*time.Hour+time.Second)), "sas-lifetime"},
		{"an expiry in milliseconds, npm's first", testkit.SAS(deviceKey, scope, "dev-1", time.Unix(soon.UnixMilli(), 0)), "sas-lifetime"},
		{"another key", testkit.SAS([]byte("another key of a device"), scope, "dev-1", soon), "sas-signature"},
		{"an empty key", testkit.SAS(nil, scope, "dev-1", soon), "sas-signature"},
		{"an expiry put off after signing", strings.Replace(good, field("se"), field("se")+"0", 1), "sas-lifetime"},
		{"an expiry put off by a second", strings.Replace(good, field("se"), fmt.Sprintf("se=%d", soon.Unix()+1), 1), "sas-signature"},
		{"another id", testkit.SAS(deviceKey, scope, "dev-2", soon), "sas-other-resource"},
		{"an id that only begins like this one", testkit.SAS(deviceKey, scope, "dev-12", soon), "sas-other-resource"},
		{"another scope", testkit.SAS(deviceKey, "0ne00000000", "dev-1", soon), "sas-other-resource"},
		{"all ids of the scope", testkit.SAS(deviceKey, "", "", soon, testkit.Resource(scope+"/registrations")), "sas-other-resource"},
		{"a segment more", testkit.SAS(deviceKey, "", "", soon, testkit.Resource(scope+"/registrations/dev-1/x")), "sas-other-resource"},
		{"another skn", testkit.SAS(deviceKey, scope, "dev-1", soon, testkit.KeyName("iothubowner")), "sas-key-name"},

		{"nothing", "", "sas-malformed"},
		{"a bearer token", "Bearer abc", "sas-malformed"},
		{"the scheme alone", "SharedAccessSignature", "sas-malformed"},
		{"no expiry", strings.Replace(good, "&"+field("se"), "", 1), "sas-malformed"},
		{"no signature", strings.Replace(good, "&"+field("sig"), "", 1), "sas-malformed"},
		{"no resource", strings.Replace(good, field("sr")+"&", "", 1), "sas-malformed"},
		{"an expiry twice", good + "&" + field("se"), "sas-malformed"},
		{"an expiry below zero", strings.Replace(good, "se=", "se=-", 1), "sas-malformed"},
		{"an expiry with a fraction", strings.Replace(good, field("se"), field("se")+".5", 1), "sas-malformed"},
		{"an expiry beyond 64 bits", strings.Replace(good, field("se"), "se=99999999999999999999", 1), "sas-malformed"},
		{"a signature that is no base64", strings.Replace(good, field("sig"), "sig=!!", 1), "sas-malformed"},
		{"an escape cut short", strings.Replace(good, "sr=", "sr=%z", 1), "sas-malformed"},
		{"a field without a value", good + "&x", "sas-malformed"},
		{"too long", good + "&x=" + strings.Repeat("x", 4096), "sas-malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var who verify.Identity
			token, err := verify.ParseSAS(tc.header)
			if err == nil {
				who, err = verify.SAS(verify.SASEvidence{IDScope: scope, ID: mustID(t, "dev-1"), Token: token}, verify.NewSecret(deviceKey), now)
			}
			checkOutcome(t, who, err, tc.rule)
			if err == nil && (who.ID() != mustID(t, "dev-1") || who.Mechanism() != verify.MechanismSymmetricKey || who.Path() != nil || !who.At().Equal(now)) {
				t.Errorf("got %+v", who)
			}
		})
	}
}

// checkOutcome wants an identity where no rule is named, else a refusal by that rule.
func checkOutcome(t *testing.T, who verify.Identity, err error, rule string) {
	t.Helper()
	if rule == "" {
		if err != nil || who.IsZero() {
			t.Errorf("refused: %v (%s)", err, fault.RuleOf(err))
		}
		return
	}
	if fault.RuleOf(err) != rule || !fault.Is(err, fault.Unauthenticated) || !who.IsZero() {
		t.Errorf("want rule %q, got %q: %v", rule, fault.RuleOf(err), err)
	}
}

func TestNoKeyAdmitsNobody(t *testing.T) {
	token, err := verify.ParseSAS(testkit.SAS(nil, scope, "dev-1", testkit.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	id := mustID(t, "dev-1")
	for name, none := range map[string]verify.Secret{"the zero secret": {}, "an empty secret": verify.NewSecret(nil)} {
		if _, err := verify.SAS(verify.SASEvidence{IDScope: scope, ID: id, Token: token}, none, testkit.Now()); err == nil {
			t.Errorf("%s signed a token", name)
		}
		if _, err := verify.SharedKey(verify.KeyEvidence{ID: id, Key: none}, none, testkit.Now()); err == nil {
			t.Errorf("%s was a password", name)
		}
		if !verify.DeriveKey(none, "dev-1").IsZero() {
			t.Errorf("%s derived a key", name)
		}
	}
	if _, err := verify.SAS(verify.SASEvidence{IDScope: scope, ID: id}, verify.NewSecret(deviceKey), testkit.Now()); err == nil {
		t.Error("a token that was never parsed was good")
	}
}

func TestSharedKey(t *testing.T) {
	key := verify.NewSecret(deviceKey)
	for _, tc := range []struct {
		name  string
		id    verify.RegistrationID
		shown verify.Secret
		rule  string
	}{
		{"the enrolled key", mustID(t, "dev-1"), verify.NewSecret(deviceKey), ""},
		{"another key", mustID(t, "dev-1"), verify.NewSecret([]byte("another")), "key-mismatch"},
		{"a part of the key", mustID(t, "dev-1"), verify.NewSecret(deviceKey[:8]), "key-mismatch"},
		{"no key", mustID(t, "dev-1"), verify.Secret{}, "key-mismatch"},
		{"nobody with the key", verify.RegistrationID{}, verify.NewSecret(deviceKey), "key-mismatch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			who, err := verify.SharedKey(verify.KeyEvidence{ID: tc.id, Key: tc.shown}, key, testkit.Now())
			checkOutcome(t, who, err, tc.rule)
		})
	}
}

func TestDeriveKeyIsAzures(t *testing.T) {
	got := fmt.Sprintf("%x", verify.DeriveKey(verify.NewSecret([]byte("group-key")), "sn-007-888-abc-mac").Reveal())
	if want := opensslHMAC(t, "group-key", "sn-007-888-abc-mac"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if verify.DeriveKey(verify.NewSecret(deviceKey), "Dev-1").Equal(verify.DeriveKey(verify.NewSecret(deviceKey), "dev-1")) {
		t.Error("the spelling does not count")
	}
}

// The derived key is an HMAC by another hand, whatever the lengths: keys of Azure's are up to
// 64 octets, SHA-256's own block is as long.
func TestDeriveKeyIsHMAC(t *testing.T) {
	for _, lengths := range [][2]int{{1, 0}, {16, 1}, {63, 128}, {64, 511}, {65, 512}, {200, 513}, {4096, 4096}} {
		key, text := bytes.Repeat([]byte{0x5c}, lengths[0]), strings.Repeat("6", lengths[1])
		want := hmac.New(sha256.New, key)
		want.Write([]byte(text))
		if got := verify.DeriveKey(verify.NewSecret(key), text).Reveal(); !bytes.Equal(got, want.Sum(nil)) {
			t.Errorf("a key of %d octets and a text of %d: got %x, want %x", lengths[0], lengths[1], got, want.Sum(nil))
		}
	}
}

func TestSecretsDoNotPrintThemselves(t *testing.T) {
	secret := verify.NewSecret([]byte("hunter2"))
	holder := struct {
		Shown  verify.Secret
		hidden verify.Secret
	}{secret, secret}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", secret, "holder", holder)
	marshalled, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(marshalled) + secret.String() + secret.GoString()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U"} {
		out += fmt.Sprintf(verb+verb+verb, secret, &secret, holder)
	}
	for _, leak := range []string{"hunter2", "68756e74657232", "68756E74657232", "104 117", "U+0068", "0x68, 0x75"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q leaks from %s", leak, out)
		}
	}
	if string(secret.Reveal()) != "hunter2" {
		t.Error("the secret was lost")
	}
}

func FuzzParseSAS(f *testing.F) {
	f.Add(testkit.SAS(deviceKey, scope, "dev-1", testkit.Now()))
	f.Add(testkit.SAS(deviceKey, scope, "dev-1", testkit.Now(), testkit.Encoded()))
	f.Add("SharedAccessSignature sr=&sig=&se=&skn=")
	f.Add("SharedAccessSignature sr=%&sig=a=&se=-1")
	f.Fuzz(func(t *testing.T, header string) {
		token, err := verify.ParseSAS(header)
		if err != nil {
			if fault.RuleOf(err) != "sas-malformed" {
				t.Errorf("%v", err)
			}
			return
		}
		if who, err := verify.SAS(verify.SASEvidence{IDScope: scope, ID: mustID(t, "dev-1"), Token: token}, verify.NewSecret(deviceKey), testkit.Now()); err == nil {
			if !strings.Contains(strings.ToLower(token.Resource()), "dev-1") || who.IsZero() {
				t.Errorf("%q was believed", header)
			}
		}
	})
}
