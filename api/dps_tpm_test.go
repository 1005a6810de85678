package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/device"
	chips "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// tpmBody is the body by which a device with a TPM registers.
func tpmBody(id string, ek, srk []byte) string {
	return fmt.Sprintf(`{"registrationId":%q,"tpm":{"endorsementKey":%q,"storageRootKey":%q}}`, id, b64(ek), b64(srk))
}

// certified is the body of press-1 with the certificate of the endorsement key, and those above.
func certified(ek, srk []byte, ders ...[]byte) string {
	var chain []string
	for _, der := range ders {
		chain = append(chain, strconv.Quote(b64(der)))
	}
	return strings.TrimSuffix(tpmBody("press-1", ek, srk), "}}") + `,"endorsementCertificateChain":[` + strings.Join(chain, ",") + `]}}`
}

// activated has the TPM take the key of an answer.
func activated(t testing.TB, d *chips.TPM, key string) {
	t.Helper()
	blob, err := base64.StdEncoding.DecodeString(key)
	if err == nil {
		err = d.Activate(blob)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestADeviceWithATPMRegistersOverHTTPS(t *testing.T) {
	w := newWorld(t)
	d := must(chips.Open(testkit.NewSWTPM(t).Socket))
	defer d.Close()
	name := d.RegistrationID()
	w.put(provisioning.Individual, name, provisioning.RoleTPM, provisioning.SlotDraft{TPM: provisioning.TPMPublic{Endorsement: d.EndorsementKey()}})
	client, body := w.client(nil), tpmBody(name, d.EndorsementKey(), d.StorageRootKey())
	register := dps("PUT", name, "/register"+stable, body)

	asked := w.do(client, w.devices, register)
	want(t, asked, http.StatusUnauthorized)
	var fields map[string]string
	if err := json.Unmarshal([]byte(asked.body), &fields); err != nil {
		t.Fatal(err)
	}
	if len(fields) != 3 || fields["message"] != "Authorization required" || fields["keyName"] != "registration" {
		t.Fatalf("asked by %s", asked.body)
	}
	activated(t, d, fields["authenticationKey"])
	token := must(device.Token(idScope+"/registrations/"+name, "registration", w.now().Add(time.Hour), d.MAC))

	registered := w.do(client, w.devices, register.with("Authorization", token))
	want(t, registered, http.StatusAccepted)
	op := read[tpmOperation](t, registered)
	if op.Status != "assigned" || op.State.TPM.AuthenticationKey == "" || strings.Contains(registered.body, `"symmetricKey"`) {
		t.Fatalf("operation %s", registered.body)
	}
	polled := w.do(client, w.devices, dps("GET", name, "/operations/"+op.ID+stable, "{}").with("Authorization", token))
	want(t, polled, http.StatusOK)
	activated(t, d, read[tpmOperation](t, polled).State.TPM.AuthenticationKey)
	found := w.do(client, w.devices, dps("POST", name, stable, body).with("Authorization", token))
	want(t, found, http.StatusOK)
	activated(t, d, read[struct {
		TPM struct{ AuthenticationKey string } `json:"tpm"`
	}](t, found).TPM.AuthenticationKey)

	hub := must(w.engine.HubDevice(t.Context(), hubName, must(verify.ParseRegistrationID(name)), operator))
	toHub := must(verify.ParseSAS(must(device.Token(hubName+"/devices/"+name, "", w.now().Add(time.Hour), d.MAC))))
	if err := toHub.Verify(hub.Auth.Keys[0], w.now()); err != nil {
		t.Errorf("its hub would refuse it: %v", err)
	}
}

func TestATPMThatIsNotAdmittedIsToldNothing(t *testing.T) {
	w := newWorld(t)
	d, other := must(chips.Open(testkit.NewSWTPM(t).Socket)), must(chips.Open(testkit.NewSWTPM(t).Socket))
	defer d.Close()
	defer other.Close()
	ek, srk := d.EndorsementKey(), d.StorageRootKey()
	w.put(provisioning.Individual, "press-1", provisioning.RoleTPM, provisioning.SlotDraft{TPM: provisioning.TPMPublic{Endorsement: ek}})
	w.put(provisioning.Individual, "press-off", provisioning.RoleTPM, provisioning.SlotDraft{TPM: provisioning.TPMPublic{Endorsement: ek}})
	w.enable(provisioning.Individual, "press-off", false)
	client, cert := w.client(nil), testkit.SelfSigned(t, "any").Cert.Raw
	flipped := func(key []byte, at int, bit byte) []byte {
		out := bytes.Clone(key)
		out[at] ^= bit
		return out
	}
	refused := map[string]int64{} // how often, as explain counts
	for name, c := range map[string]struct {
		id, body string
		code     int
	}{
		"nobody":                          {"stranger", tpmBody("stranger", ek, srk), 401002},
		"a disabled device":               {"press-off", tpmBody("press-off", ek, srk), 401002},
		"another TPM":                     {"press-1", tpmBody("press-1", other.EndorsementKey(), srk), 401002},
		"a storage root key in its place": {"press-1", tpmBody("press-1", srk, srk), 401002},
		"a device with a certificate":     {"dev-1", tpmBody("dev-1", ek, srk), 401002},
		"no keys":                         {"press-1", `{"registrationId":"press-1","tpm":{}}`, 400000},
		"no storage root key":             {"press-1", tpmBody("press-1", ek, nil), 400000},
		"a text":                          {"press-1", `{"registrationId":"press-1","tpm":"x"}`, 400000},
		"no base64":                       {"press-1", `{"registrationId":"press-1","tpm":{"endorsementKey":"%"}}`, 400000},
		"a key cut short":                 {"press-1", tpmBody("press-1", ek[:len(ek)-1], srk), 400000},
		"a certificate cut short":         {"press-1", certified(ek, srk, cert[:len(cert)-1]), 400000},
		"a certificate that is none":      {"press-1", certified(ek, srk, []byte("x")), 400000},
		"eleven certificates":             {"press-1", certified(ek, srk, slices.Repeat([][]byte{cert}, 11)...), 401002},
		"a key that goes on":              {"press-1", tpmBody("press-1", append(bytes.Clone(ek), 0), srk), 400000},
		"a key of 64 KiB":                 {"press-1", tpmBody("press-1", make([]byte, 64<<10), srk), 400000},
		"a key that is not restricted":    {"press-1", tpmBody("press-1", ek, flipped(srk, 7, 1)), 400000},
		"a key that may leave its TPM":    {"press-1", tpmBody("press-1", ek, flipped(srk, 9, 2)), 400000},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.do(client, w.devices, dps("PUT", c.id, "/register"+stable, c.body))
			want(t, got, c.code/1000)
			body := read[struct{ ErrorCode int }](t, got)
			if body.ErrorCode != c.code || strings.Contains(got.body, "authenticationKey") {
				t.Errorf("answer %s", got.body)
			}
			x, err := w.engine.Explain(t.Context(), must(verify.ParseRegistrationID(c.id)), nil)
			if err != nil || x.LastRefusal == nil || x.LastRefusal.Rule == "" || len(x.LastRefusal.Trace) == 0 || x.LastRefusal.Count <= refused[c.id] {
				t.Fatalf("explain remembers %+v, %v", x.LastRefusal, err)
			}
			refused[c.id] = x.LastRefusal.Count
		})
	}
}

// tpmOperation is what a device with a TPM reads of an answer.
type tpmOperation struct {
	ID     string `json:"operationId"`
	Status string `json:"status"`
	State  struct {
		TPM struct{ AuthenticationKey string } `json:"tpm"`
	} `json:"registrationState"`
}
