package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/scrypt"

	"github.com/passmuster/muster/ca/keys"
	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// TestNoSecretIsReadInADump is INV-K1 and K4: an installation with every kind of secret is
// used, with its log at debug level; then all that a reader of the database, a backup or
// the log gets is searched for each of them.
func TestNoSecretIsReadInADump(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		h := newHost(t)
		h.init("--keep-root")
		secrets, dumps := h.usedWithSecrets(), map[string][]byte{}
		for _, name := range []string{"muster.db", "running-muster.db", "running-muster.db-wal"} {
			dumps[name] = h.dumped("data/" + name)
		}
		if len(dumps["running-muster.db-wal"]) == 0 {
			t.Error("there was no WAL")
		}
		h.searched(secrets, dumps)
	})
	t.Run("postgres", func(t *testing.T) {
		h := newHost(t)
		dsn := testpg.DSN(t)
		h.write("dsn", dsn+"\n", 0o600)
		h.init("--keep-root", "--dsn-file", h.path("dsn"))
		secrets, dumps := h.usedWithSecrets(), map[string][]byte{}
		dumps["rows"], dumps["rows as text"] = dumpedRows(t, dsn)
		h.searched(secrets, dumps)
	})
	t.Run("an export of an id scope", func(t *testing.T) {
		h := newHost(t)
		h.init("--keep-root")
		id, token := h.newTenant()
		secrets := map[string][]byte{"an operator's token": tokenSecret(t, token)}
		c := h.config(id)
		h.within(c, func(x *house) {
			enrolledWithKeys(t, x)
			secretsOf(t, x, secrets)
		})
		if code, _, talk := h.muster("scope", "export", "--config", h.path("muster.yaml"), id, h.path("scope.tar")); code != exitDone {
			t.Fatalf("export: exit %d: %s", code, talk)
		}
		h.searched(secrets, map[string][]byte{"the archive": h.dumped("scope.tar")})
	})
}

// dumped is a file that may not be there.
func (h host) dumped(name string) []byte {
	h.t.Helper()
	raw, err := os.ReadFile(h.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return raw
}

// searched fails for each secret that is found, and for a search that finds nothing at all.
func (h host) searched(secrets, dumps map[string][]byte) {
	h.t.Helper()
	if len(secrets) < 8 {
		h.t.Errorf("only %d secrets are searched for", len(secrets))
	}
	if log, err := os.ReadFile(h.path("log")); err == nil {
		dumps["the log"] = log
		if !bytes.Contains(log, []byte(`"level":"DEBUG"`)) {
			h.t.Errorf("the log is not at debug level:\n%s", log)
		}
	}
	total := 0
	for where, data := range dumps {
		total += len(data)
		for what, secret := range secrets {
			if len(secret) < 12 {
				h.t.Errorf("%s is too short to be looked for", what)
			}
			if forms := testkit.Leaks(data, secret); len(forms) > 0 {
				h.t.Errorf("%s can be read in %s: %v", what, where, forms)
			}
			planted := append(bytes.Clone(data), base64.StdEncoding.EncodeToString(append([]byte("x"), secret...))...)
			if len(testkit.Leaks(planted, secret)) == 0 {
				h.t.Errorf("%s would not be found in %s", what, where)
			}
		}
	}
	if total < 30_000 {
		h.t.Errorf("only %d bytes were searched", total)
	}
}

// usedWithSecrets serves, is used by devices and operators, and returns every secret that
// is or was in play.
func (h host) usedWithSecrets() map[string][]byte {
	t := h.t
	t.Helper()
	h.write("muster.yaml", strings.Replace(h.read("muster.yaml"), "logLevel: info", "logLevel: debug", 1), 0o600)
	secrets := map[string][]byte{}
	h.within(h.config(""), func(x *house) {
		enrolledWithKeys(t, x)
		secretsOf(t, x, secrets)
		text, _, err := x.engine.CreateToken(t.Context(), actorInit, "dump", policies.RoleAdmin.Scopes(), firstToken)
		if err != nil {
			t.Fatal(err)
		}
		secrets["an operator's token"] = tokenSecret(t, text)
		secrets["the whole token"] = []byte(text)
	})
	at := h.fixPorts("devices", "admin", "pki", "ops")
	said, stop := h.start()
	client := h.client()
	for user, key := range map[string]string{"dev-1": "primary key of dev-1", "member-1": "derived key of member-1"} {
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+base64.StdEncoding.EncodeToString(secrets[key])))
		code, _, body := ask(t, client, http.MethodPost, "https://"+at["devices"]+"/.well-known/est/simpleenroll", estRequest(t, user), "Authorization", basic, "Content-Type", "application/pkcs10")
		if code != http.StatusOK {
			t.Fatalf("enrolling %s: %d %s", user, code, body)
		}
		wrong := "Basic " + base64.StdEncoding.EncodeToString([]byte("somebody:"+base64.StdEncoding.EncodeToString(secrets[key])))
		ask(t, client, http.MethodPost, "https://"+at["devices"]+"/.well-known/est/simpleenroll", estRequest(t, user), "Authorization", wrong, "Content-Type", "application/pkcs10")
	}
	bearer := "Bearer " + string(secrets["the whole token"])
	for path, want := range map[string]int{"/enrollments/dev-1/attestationmechanism": 200, "/access/service/" + provisioning.ServiceOwner + "/keys": 200, "/nowhere": 404} {
		if code, _, body := ask(t, client, http.MethodPost, "https://"+at["admin"]+"/api/v1"+path, "", "Authorization", bearer); code != want {
			t.Errorf("POST %s: %d %s", path, code, body)
		}
	}
	if code, _, body := ask(t, client, http.MethodGet, "https://"+at["admin"]+"/api/v1/enrollments/dev-1", "", "Authorization", bearer); code != http.StatusOK || !strings.Contains(string(body), webhookKey) {
		t.Errorf("GET dev-1: %d %s", code, body)
	}
	for _, name := range []string{"muster.db", "muster.db-wal"} { // as a thief of the disk finds them
		h.write("data/running-"+name, string(h.dumped("data/"+name)), 0o600)
	}
	stop()
	if !strings.Contains(said.String(), "custom allocation failed") {
		t.Error("nobody asked the webhook")
	}
	h.write("log", said.String(), 0o600)
	return secrets
}

func (h host) config(idScope string) config {
	h.t.Helper()
	c, err := (anyScope{installation: installation{Config: h.path("muster.yaml")}, IDScope: idScope}).config()
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// within opens an installation that no server has open.
func (h host) within(c config, f func(*house)) {
	h.t.Helper()
	x, err := openHouse(context.Background(), c, slog.New(slog.DiscardHandler), nil, false)
	if err != nil {
		h.t.Fatal(err)
	}
	f(x)
	if err := x.Close(); err != nil {
		h.t.Fatal(err)
	}
}

var keyed = map[string]provisioning.Kind{"dev-1": provisioning.Individual, "line": provisioning.Group}

func parsedID(t *testing.T, s string) verify.RegistrationID {
	t.Helper()
	id, err := verify.ParseRegistrationID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// webhookKey is the key in the address of dev-1's webhook, where it gets no answer.
const webhookKey = "xK3-gTz7Qm_2vRb9wLp5"

// enrolledWithKeys makes what is proved by symmetric keys: a device, a group and a hub's device.
func enrolledWithKeys(t *testing.T, x *house) {
	t.Helper()
	for name, kind := range keyed {
		draft := provisioning.Draft{
			Owner: provisioning.Owner{Kind: kind, ID: parsedID(t, name)}, Spelled: name, Enabled: true, Attestation: provisioning.Attestation{Role: provisioning.RoleKey},
			Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(), Profile: policies.DefaultProfile().Name,
		}
		if name == "dev-1" {
			draft.Allocation, draft.Custom = policies.Custom, provisioning.CustomAllocation{URL: "https://169.254.169.254/?code=" + webhookKey, APIVersion: "2021-10-01"}
		}
		_, _, err := x.engine.Put(t.Context(), actorInit, draft, provisioning.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	const hub = "hub-2.example.net"
	if _, err := x.engine.PutHub(t.Context(), actorInit, provisioning.Hub{Name: hub, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}); err != nil {
		t.Fatal(err)
	}
	_, _, err := x.engine.PutSubscription(t.Context(), actorInit, provisioning.SubscriptionDraft{Name: "siem", URL: "https://169.254.169.254/?code=" + webhookKey, Enabled: true}, provisioning.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = x.engine.LinkHub(t.Context(), actorInit, provisioning.Hub{Name: "hub-3.example.net", Driver: hubwebhook.Name}, "https://169.254.169.254/?code="+webhookKey, provisioning.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = x.engine.PutHubDevice(t.Context(), actorInit, provisioning.HubDraft{Hub: hub, ID: parsedID(t, "pump"), Spelled: "pump", Auth: &provisioning.HubAuth{Type: provisioning.HubSAS}}, provisioning.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
}

// secretsOf are the secrets of an installation, in the clear.
func secretsOf(t *testing.T, x *house, secrets map[string][]byte) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	passphrase, err := x.config.passphrase()
	must(err)
	secrets["the passphrase"] = passphrase
	secrets["the key-encryption key"] = openedKEK(t, kekFile(x.config), passphrase)
	for name, kind := range keyed {
		pair, err := x.engine.Keys(t.Context(), actorInit, provisioning.Owner{Kind: kind, ID: parsedID(t, name)})
		must(err)
		secrets["primary key of "+name], secrets["secondary key of "+name] = pair[0], pair[1]
	}
	secrets["the key of a webhook"] = []byte(webhookKey)
	secrets["the hub's key of a device with a TPM"] = hubKeyOfTPM(t, x)
	subscriber, err := x.engine.Subscription(t.Context(), "siem")
	must(err)
	_, secrets["the key of a subscriber"], err = x.engine.RollSubscriptionKey(t.Context(), actorInit, "siem", provisioning.Precondition{Version: subscriber.Version})
	must(err)
	_, secrets["the key of a hub"], err = x.engine.RollHubKey(t.Context(), actorInit, "hub-3.example.net", provisioning.Precondition{Any: true})
	must(err)
	secrets["derived key of member-1"] = verify.DeriveKey(verify.NewSecret(secrets["primary key of line"]), "member-1").Reveal()
	list, err := x.engine.AccessPolicies(t.Context())
	must(err)
	for _, p := range list {
		pair, err := x.engine.AccessKeys(t.Context(), actorInit, p.Plane, p.Name)
		must(err)
		secrets["primary key of "+p.Name], secrets["secondary key of "+p.Name] = pair[0], pair[1]
	}
	pump, err := x.engine.HubDevice(t.Context(), "hub-2.example.net", parsedID(t, "pump"), actorInit)
	must(err)
	secrets["primary key of the hub's device"], secrets["secondary key of the hub's device"] = pump.Auth.Keys[0].Reveal(), pump.Auth.Keys[1].Reveal()
	issuers, err := x.authority.Issuers(t.Context())
	must(err)
	folder, err := keys.OpenFolder(keysFolder(x.config), passphrase)
	must(err)
	for _, i := range issuers {
		if i.KeyURI == "" {
			continue
		}
		signer, err := folder.Open(t.Context(), i.KeyURI)
		must(err)
		scalar, err := signer.(*ecdsa.PrivateKey).Bytes()
		must(err)
		secrets["the key of "+i.Name] = scalar
	}
}

// tokenSecret is the part of a token that is not its id scope.
func tokenSecret(t *testing.T, token string) []byte {
	t.Helper()
	parts := strings.SplitN(token, "_", 3) // mst, the id scope, the secret
	if len(parts) != 3 || len(parts[2]) < 16 {
		t.Fatalf("a token is %q", token)
	}
	return []byte(parts[2])
}

// openedKEK reads a key file as an attacker who has its passphrase would.
func openedKEK(t *testing.T, path string, passphrase []byte) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	n, err := strconv.Atoi(block.Headers["Scrypt-N"])
	if err != nil {
		t.Fatal(err)
	}
	derived, err := scrypt.Key(passphrase, block.Bytes[:16], n, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	cipherBlock, err := aes.NewCipher(derived)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(cipherBlock)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := aead.Open(nil, nil, block.Bytes[16:], []byte(block.Type))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// dumpedRows is every value of a schema, as the wire has it and as pg_dump would write it.
func dumpedRows(t *testing.T, dsn string) (raw, text []byte) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	collect := func(query string, each func(pgx.Rows)) {
		t.Helper()
		rows, err := conn.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			each(rows)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	var tables []string
	collect("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()", func(r pgx.Rows) { tables = append(tables, string(r.RawValues()[0])) })
	for _, table := range tables {
		name := pgx.Identifier{table}.Sanitize()
		collect("SELECT * FROM "+name, func(r pgx.Rows) {
			for _, v := range r.RawValues() {
				raw = append(raw, v...)
			}
		})
		collect("SELECT x::text FROM "+name+" x", func(r pgx.Rows) { text = append(append(text, r.RawValues()[0]...), '\n') })
	}
	if len(tables) < 20 || len(text) < 10_000 {
		t.Errorf("%d tables, %d bytes of text", len(tables), len(text))
	}
	return raw, text
}
