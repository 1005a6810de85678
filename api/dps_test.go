package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// operation is what tests read of an answer.
type operation struct {
	ID     string `json:"operationId"`
	Status string `json:"status"`
	State  state  `json:"registrationState"`
}

type state struct {
	X509 *struct {
		Info  struct{ SubjectName, SHA256Thumbprint, SerialNumber string } `json:"certificateInfo"`
		Group string                                                       `json:"enrollmentGroupId"`
		Sign  *struct{ SubjectName string }                                `json:"signingCertificateInfo"`
	} `json:"x509"`
	SymmetricKey   *struct{ EnrollmentGroupID string } `json:"symmetricKey"`
	RegistrationID string
	AssignedHub    string
	DeviceID       string
	Status         string
	Substatus      string
	ErrorCode      int
	ErrorMessage   string
	ETag           string
	Payload        json.RawMessage
	Chain          [][]byte `json:"issuedCertificateChain"`
}

func read[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if !strings.Contains(a.header.Get("Content-Type"), "application/json") {
		t.Fatalf("%d %s: content type %q is not JSON", a.status, a.body, a.header.Get("Content-Type"))
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}

func want(t testing.TB, a answer, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
}

func TestADeviceOfAnX509GroupRegistersPollsAndLooksItselfUp(t *testing.T) {
	w := newWorld(t)
	client, key := w.client(w.deviceCertificate("dev-1")), newKey()
	body := fmt.Sprintf(`{"registrationId":"dev-1","csr":%q,"payload":{"model":"pump-7"}}`, csrBase64(t, key, "dev-1"))

	registered := w.do(client, w.devices, dps("PUT", "dev-1", "/register"+preview, body))
	want(t, registered, http.StatusAccepted)
	op := read[operation](t, registered)
	if op.Status != "assigned" || op.State.Status != "assigned" || op.State.Substatus != "initialAssignment" ||
		op.State.AssignedHub != hubName || op.State.DeviceID != "dev-1" || string(op.State.Payload) != `{"renewal":{"from":"2026-04-30T07:55:01Z","by":"2026-05-10T07:55:01Z"}}` {
		t.Errorf("operation %+v", op)
	}
	if x := op.State.X509; x == nil || x.Info.SubjectName != "CN=dev-1" || x.Group != "line-3" || x.Sign == nil || x.Sign.SubjectName != "CN=line-3" {
		t.Errorf("attested by %+v", x)
	}
	if len(op.State.Chain) != 3 {
		t.Fatalf("a chain of %d certificates, want leaf, issuer, root", len(op.State.Chain))
	}
	if observed := w.lastObserved(); observed.Door != "dps" || observed.Method != "PUT" || observed.Code != 202 || observed.Duration <= 0 {
		t.Errorf("observed %+v", observed)
	}

	polled := w.do(client, w.devices, dps("GET", "dev-1", "/operations/"+op.ID+preview, "{}"))
	want(t, polled, http.StatusOK)
	if diff := cmp.Diff(op, read[operation](t, polled)); diff != "" {
		t.Errorf("the poll differs from the registration (-registered +polled):\n%s", diff)
	}

	found := w.do(client, w.devices, dps("POST", "dev-1", preview, "{}"))
	want(t, found, http.StatusOK)
	s := read[state](t, found)
	if s.Status != "assigned" || s.RegistrationID != "dev-1" || s.Chain != nil || strings.Contains(found.body, "operationId") {
		t.Errorf("lookup %s", found.body)
	}

	t.Run("and registers again with the certificate it was given", func(t *testing.T) {
		w.advance(time.Hour)
		next := newKey()
		renewing := w.client(credential(t, key, op.State.Chain...))
		body := fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, csrBase64(t, next, "dev-1"))
		renewed := w.do(renewing, w.devices, dps("PUT", "dev-1", "/register"+preview, body))
		want(t, renewed, http.StatusAccepted)
		if op := read[operation](t, renewed); len(op.State.Chain) != 3 || op.State.Substatus != "reprovisionedToInitialAssignment" {
			t.Errorf("operation %+v", op)
		}
	})
}

func TestADeviceRegisters(t *testing.T) {
	w := newWorld(t)
	t.Run("with a key derived from a group's", func(t *testing.T) { registersWithKey(t, w) })
	t.Run("by an individual entry, and no group is named", func(t *testing.T) { registersIndividually(t, w) })
	t.Run("and is told what is wrong once it has proved itself", func(t *testing.T) { isToldWhy(t, w) })
	t.Run("on a path of any case with one slash at its end", func(t *testing.T) { registersOnAnyPath(t, w) })
	t.Run("with a CSR as the early previews sent it", func(t *testing.T) { registersWithOldCSR(t, w) })
	t.Run("under an id that is a fixed word", func(t *testing.T) { registersAsFixedWord(t, w) })
	t.Run("and no secret reaches the log", func(t *testing.T) { logsNoSecret(t, w) })
}

func registersWithKey(t *testing.T, w *world) {
	client := w.client(nil)
	r := dps("PUT", "Pump-1", "/register"+stable, `{"registrationId":"pump-1","unknown":[1],"tpm":null,"payload":null,"csr":"of a version that has none"}`)
	registered := w.do(client, w.devices, r.with("Authorization", w.sas("Pump-1")))
	want(t, registered, http.StatusAccepted)
	op := read[operation](t, registered)
	if op.Status != "assigned" || op.State.SymmetricKey == nil || op.State.SymmetricKey.EnrollmentGroupID != "sas-line" ||
		op.State.X509 != nil || op.State.Chain != nil || op.State.RegistrationID != "Pump-1" {
		t.Errorf("operation %s", registered.body)
	}
}

func registersWithOldCSR(t *testing.T, w *world) {
	client := w.client(nil)
	request := fmt.Sprintf(`{"registrationId":"pump-4","clientCertificateCsr":%q}`, csrBase64(t, newKey(), "pump-4"))
	registered := w.do(client, w.devices, dps("PUT", "pump-4", "/register?api-version=2021-08-01-preview", request).with("Authorization", w.sas("pump-4")))
	want(t, registered, http.StatusAccepted)
	var a struct {
		RegistrationState struct {
			IssuedClientCertificate string
			IssuedCertificateChain  []string
		}
	}
	check(t, json.Unmarshal([]byte(registered.body), &a))
	chain, err := verify.ParseCertificates([]byte(a.RegistrationState.IssuedClientCertificate))
	if err != nil || len(chain) != 2 || chain[0].Subject.CommonName != "pump-4" || chain[0].CheckSignatureFrom(chain[1]) != nil || a.RegistrationState.IssuedCertificateChain != nil {
		t.Errorf("%v: %s", err, registered.body)
	}
}

func registersIndividually(t *testing.T, w *world) {
	pinned := testkit.SelfSigned(t, "pin-1")
	w.put(provisioning.Individual, "pin-1", provisioning.RoleClient, provisioning.SlotDraft{Certificate: pinned.PEM()})
	own := pinned.TLS()
	a := w.do(w.client(&own), w.devices, dps("PUT", "pin-1", "/register"+stable, `{"registrationId":"pin-1"}`))
	want(t, a, http.StatusAccepted)
	if x := read[operation](t, a).State.X509; x == nil || x.Group != "" || x.Sign != nil {
		t.Errorf("attested by %+v", x)
	}
}

func TestARegistrationThatFailsIsStillAccepted(t *testing.T) {
	w := newWorld(t)
	o := provisioning.Hub{Name: hubName, Driver: provisioning.BuiltIn, Weight: 1, Draining: true}
	must(w.engine.PutHub(t.Context(), operator, o, provisioning.Precondition{Any: true}))
	client := w.client(w.deviceCertificate("dev-1"))
	a := w.do(client, w.devices, dps("PUT", "dev-1", "/register"+stable, `{"registrationId":"dev-1"}`))
	want(t, a, http.StatusAccepted)
	op := read[operation](t, a)
	if op.ID == "" || op.Status != "failed" || op.State.Status != "failed" || op.State.ErrorCode == 0 || op.State.ErrorMessage == "" || op.State.AssignedHub != "" {
		t.Errorf("operation %s", a.body)
	}
	polled := w.do(client, w.devices, dps("GET", "dev-1", "/operations/"+op.ID+stable, ""))
	want(t, polled, http.StatusOK)
	if got := read[operation](t, polled); got.Status != "failed" {
		t.Errorf("polled %s", polled.body)
	}
}

func TestDisablingRefusesOnTheOpenConnectionAndEnablingAdmits(t *testing.T) {
	w := newWorld(t)
	client := w.client(w.deviceCertificate("dev-1"))
	register := dps("PUT", "dev-1", "/register"+stable, `{"registrationId":"dev-1"}`)
	first := w.do(client, w.devices, register)
	want(t, first, http.StatusAccepted)
	poll := dps("GET", "dev-1", "/operations/"+read[operation](t, first).ID+stable, "")
	want(t, w.do(client, w.devices, poll), http.StatusOK)

	w.enable(provisioning.Group, "line-3", false)
	want(t, w.do(client, w.devices, register), http.StatusUnauthorized)
	want(t, w.do(client, w.devices, poll), http.StatusUnauthorized)
	want(t, w.do(client, w.devices, dps("POST", "dev-1", stable, "")), http.StatusUnauthorized)

	w.enable(provisioning.Group, "line-3", true)
	want(t, w.do(client, w.devices, register), http.StatusAccepted)
}

// tellTale is what may differ between two answers to strangers.
var tellTale = regexp.MustCompile(`"(trackingId|timestampUtc)":"[^"]*"`)

// outside is an answer as a stranger can tell it from another one. Retry-After counts how
// often he asked, whatever about.
func outside(a answer) string {
	header := a.header.Clone()
	for _, name := range []string{"Date", "X-Ms-Request-Id", "X-Request-Id", "Retry-After"} {
		header.Del(name)
	}
	return fmt.Sprintf("%d %v %s", a.status, header, tellTale.ReplaceAllString(a.body, `"$1":"…"`))
}

func TestEveryRefusalOfACredentialLooksTheSame(t *testing.T) {
	w := newWorld(t)
	w.put(provisioning.Individual, "off-1", provisioning.RoleKey, provisioning.SlotDraft{Key: make([]byte, 32)})
	w.enable(provisioning.Individual, "off-1", false)
	tooMany := w.deviceCertificate("dev-1")
	for len(tooMany.Certificate) <= 10 {
		tooMany.Certificate = append(tooMany.Certificate, tooMany.Certificate[1])
	}
	leafAlone := w.factory.Get("dev-1").TLS()
	leafAlone.Certificate = leafAlone.Certificate[:1]
	hour := w.now().Add(time.Hour)
	register := func(id string) request {
		return dps("PUT", id, "/register"+preview, `{"registrationId":"`+id+`"}`)
	}
	tests := map[string]struct {
		client  *http.Client
		request request
	}{
		"no credential":                           {w.client(nil), register("dev-1")},
		"no credential, poll":                     {w.client(nil), dps("GET", "dev-1", "/operations/abc"+preview, "")},
		"no credential, lookup":                   {w.client(nil), dps("POST", "dev-1", preview, "{}")},
		"a certificate for another id":            {w.client(w.deviceCertificate("dev-1")), register("dev-2")},
		"a certificate of a stranger's CA":        {w.client(w.deviceCertificate("dev-3")), register("dev-3")},
		"an expired certificate":                  {w.client(w.deviceCertificate("dev-9")), register("dev-9")},
		"a leaf without its intermediate":         {w.client(&leafAlone), register("dev-1")},
		"more than ten certificates":              {w.client(tooMany), register("dev-1")},
		"a token of the wrong key":                {w.client(nil), register("p-1").with("Authorization", testkit.SAS([]byte("no"), idScope, "p-1", hour))},
		"the group's own key":                     {w.client(nil), register("p-1").with("Authorization", testkit.SAS(w.groupKey, idScope, "p-1", hour))},
		"a token that has expired":                {w.client(nil), register("p-1").with("Authorization", testkit.SAS(w.deviceKey("p-1"), idScope, "p-1", w.now().Add(-time.Hour)))},
		"a token that lives for years":            {w.client(nil), register("p-1").with("Authorization", testkit.SAS(w.deviceKey("p-1"), idScope, "p-1", w.now().AddDate(3, 0, 0)))},
		"a token for another id":                  {w.client(nil), register("p-1").with("Authorization", w.sas("p-2"))},
		"a token for another id scope":            {w.client(nil), register("p-1").with("Authorization", testkit.SAS(w.deviceKey("p-1"), "0neOTHER", "p-1", hour))},
		"a token for a service":                   {w.client(nil), register("p-1").with("Authorization", testkit.SAS(w.deviceKey("p-1"), idScope, "p-1", hour, testkit.KeyName("provisioningserviceowner")))},
		"a malformed token":                       {w.client(nil), register("p-1").with("Authorization", "SharedAccessSignature sr=x")},
		"another scheme":                          {w.client(nil), register("p-1").with("Authorization", "Bearer x")},
		"a disabled entry":                        {w.client(nil), register("off-1").with("Authorization", testkit.SAS(make([]byte, 32), idScope, "off-1", hour))},
		"a certificate where a key is enrolled":   {w.client(w.deviceCertificate("dev-1")), register("off-1")},
		"a bad token beside a good certificate":   {w.client(w.deviceCertificate("dev-1")), register("dev-1").with("Authorization", "x")},
		"an operation of a device not registered": {w.client(nil), dps("GET", "nobody", "/operations/abc"+stable, "")},
	}
	var first string
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w.advance(time.Second) // who is refused is decided once a second
			a := w.do(tt.client, w.devices, tt.request)
			want(t, a, http.StatusUnauthorized)
			got := outside(a)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("this refusal can be told from another:\n%s\n%s", got, first)
			}
		})
	}
	if !strings.Contains(first, `"errorCode":401002`) || !strings.Contains(first, `"message":"Unauthorized"`) {
		t.Errorf("the refusal is %s", first)
	}
}

func TestBadInputToDPS(t *testing.T) {
	w := newWorld(t)
	nobody, known := w.client(nil), w.client(w.deviceCertificate("dev-1"))
	key := newKey()
	good := fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, csrBase64(t, key, "dev-1"))
	register := func(body string) request { return dps("PUT", "dev-1", "/register"+preview, body) }
	at := func(path string) request { return request{method: "PUT", path: path, body: "{}"} }
	deep := `{"registrationId":"dev-1","payload":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40) + `}`
	truncated := testkit.CSR(t, key, "dev-1")
	truncated = truncated[:len(truncated)-9]
	twoPEM := strings.Repeat(`-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n`, 2)
	tests := map[string]struct {
		client  *http.Client
		request request
		code    int
		message string // a part
	}{
		"no body":                            {nobody, register(""), 400000, "registrationId"},
		"a body that is not JSON":            {nobody, register("registrationId=dev-1"), 400000, "JSON"},
		"JSON cut short":                     {nobody, register(good[:len(good)/2]), 400000, "JSON"},
		"JSON followed by something":         {nobody, register(good + "{}"), 400000, "JSON"},
		"a list":                             {nobody, register("[]"), 400000, "JSON"},
		"null":                               {nobody, register("null"), 400000, "registrationId"},
		"a registration id that is a number": {nobody, register(`{"registrationId":7}`), 400000, "registrationId"},
		"no registration id":                 {nobody, register(`{}`), 400000, "registrationId"},
		"another registration id":            {nobody, register(`{"registrationId":"dev-2"}`), 400000, "registrationId"},
		"too deep":                           {nobody, register(deep), 400000, "32"},
		"a payload that is no object":        {nobody, register(`{"registrationId":"dev-1","payload":"x"}`), 400000, "payload"},
		"a TPM":                              {nobody, register(`{"registrationId":"dev-1","tpm":{"endorsementKey":"AA=="}}`), 400000, "endorsement key"},
		"a CSR that is a number":             {nobody, register(`{"registrationId":"dev-1","csr":1}`), 400000, "base64"},
		"a CSR that is not base64":           {nobody, register(`{"registrationId":"dev-1","csr":"*"}`), 400000, "base64"},
		"a CSR of two PEM blocks":            {nobody, register(`{"registrationId":"dev-1","csr":"` + twoPEM + `"}`), 400000, "base64"},
		"an empty CSR":                       {nobody, register(`{"registrationId":"dev-1","csr":""}`), 400000, "request"},
		"a CSR cut short":                    {nobody, register(fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, b64(truncated))), 400000, "request"},
		"a CSR followed by something":        {nobody, register(fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, b64(append(testkit.CSR(t, key, "dev-1"), 0)))), 400000, "request"},
		"an oversized CSR":                   {nobody, register(fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, b64(make([]byte, 40<<10)))), 413000, "32768"},
		"an oversized body":                  {nobody, register(`{"registrationId":"dev-1","x":"` + strings.Repeat("x", 129<<10) + `"}`), 413000, "128 KiB"},
		"a compressed body":                  {nobody, register(good).with("Content-Encoding", "gzip"), 415000, "compressed"},
		"another content type":               {nobody, register(good).with("Content-Type", "text/plain"), 415000, "application/json"},
		"a content type that is none":        {nobody, register(good).with("Content-Type", ";"), 415000, "application/json"},
		"no api-version":                     {nobody, at("/" + idScope + "/registrations/dev-1/register"), 400000, "api-version"},
		"an api-version that is no date":     {nobody, at("/" + idScope + "/registrations/dev-1/register?api-version=2021-13-01"), 400000, "api-version"},
		"an unknown id scope":                {nobody, at("/0neOTHER/registrations/dev-1/register" + preview), 404001, "id scope"},
		"a word of another API as id scope":  {nobody, at("/enrollments/registrations/dev-1/register" + preview), 404000, "address"},
		"an id with a slash in it":           {nobody, at("/" + idScope + "/registrations/a%2Fb/register" + preview), 400000, "registration id"},
		"an id with a blank in it":           {nobody, at("/" + idScope + "/registrations/a%20b/register" + preview), 400000, "registration id"},
		"an id with a line break in it":      {nobody, at("/" + idScope + "/registrations/a%0Ab/register" + preview), 400000, "registration id"},
		"an id that ends with a dot":         {nobody, at("/" + idScope + "/registrations/a./register" + preview), 400000, "registration id"},
		"an id of another alphabet":          {nobody, at("/" + idScope + "/registrations/%C3%BC/register" + preview), 400000, "registration id"},
		"an id of 129 characters":            {nobody, at("/" + idScope + "/registrations/" + strings.Repeat("a", 129) + "/register" + preview), 400000, "128"},
		"an empty id":                        {nobody, at("/" + idScope + "/registrations//register" + preview), 400000, "registration id"},
		"no id":                              {nobody, at("/" + idScope + "/registrations" + preview), 405000, "method"},
		"no id and a slash":                  {nobody, at("/" + idScope + "/registrations/" + preview), 405000, "method"},
		"a method that is not there":         {nobody, dps("DELETE", "dev-1", "/register"+preview, ""), 405000, "method"},
		"a method nobody knows":              {nobody, dps("BREW", "dev-1", "/register"+preview, ""), 405000, "method"},
		"an address that is not there":       {nobody, at("/" + idScope + "/registration/dev-1" + preview), 404000, "address"},
		"the root":                           {nobody, at("/"), 404000, "address"},
		"a service call":                     {nobody, at("/enrollments/dev-1" + stable), 401000, "Unauthorized"},
		"a lookup with a CSR":                {known, dps("POST", "dev-1", preview, good), 400000, "csr"},
		"a lookup before registering":        {known, dps("POST", "dev-1", preview, ""), 404202, "registration"},
		"a CSR for another device":           {known, register(fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, csrBase64(t, key, "dev-2"))), 400000, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := w.do(tt.client, w.devices, tt.request)
			want(t, a, tt.code/1000)
			e := read[struct {
				ErrorCode                         int
				TrackingID, Message, TimestampUTC string
			}](t, a)
			if e.ErrorCode != tt.code || a.header.Get("x-ms-error-code") != fmt.Sprint(tt.code) {
				t.Errorf("error code %d (header %q), want %d", e.ErrorCode, a.header.Get("x-ms-error-code"), tt.code)
			}
			if !strings.Contains(e.Message, tt.message) {
				t.Errorf("message %q does not say %q", e.Message, tt.message)
			}
			if !uuid.MatchString(e.TrackingID) || e.TimestampUTC != "2026-03-01T08:00:01.0000000Z" {
				t.Errorf("tracking id %q, timestamp %q", e.TrackingID, e.TimestampUTC)
			}
		})
	}
	if count := len(must(w.engine.Registrations(t.Context(), provisioning.RegistrationFilter{Limit: 10}))); count != 0 {
		t.Errorf("bad input left %d registrations", count)
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func isToldWhy(t *testing.T, w *world) {
	draft := provisioning.Draft{
		Owner: provisioning.Owner{ID: must(verify.ParseRegistrationID("bare-1"))}, Spelled: "bare-1", Enabled: true,
		Attestation: provisioning.Attestation{Role: provisioning.RoleKey, Slots: [2]provisioning.SlotDraft{{Key: make([]byte, 32)}}},
		Allocation:  "hashed",
	}
	_, _, err := w.engine.Put(t.Context(), operator, draft, provisioning.Precondition{})
	check(t, err)
	r := dps("PUT", "bare-1", "/register"+preview, fmt.Sprintf(`{"registrationId":"bare-1","csr":%q}`, csrBase64(t, newKey(), "bare-1")))
	a := w.do(w.client(nil), w.devices, r.with("Authorization", testkit.SAS(make([]byte, 32), idScope, "bare-1", w.now().Add(time.Hour))))
	want(t, a, http.StatusBadRequest)
	if !strings.Contains(a.body, "issuing profile") {
		t.Errorf("it is told %s", a.body)
	}
}

func registersOnAnyPath(t *testing.T, w *world) {
	client := w.client(w.deviceCertificate("dev-1"))
	body := `{"registrationId":"dev-1"}`
	for _, path := range []string{
		"/" + idScope + "/Registrations/dev-1/Register",
		"/" + strings.ToLower(idScope) + "/registrations/DEV-1/register/",
		"/" + idScope + "/registrations/dev%2D1/register",
	} {
		r := request{method: "PUT", path: path + stable, body: body}.with("Content-Type", "application/json")
		if a := w.do(client, w.devices, r); a.status != http.StatusAccepted {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	two := request{method: "PUT", path: "/" + idScope + "/registrations/dev-1/register//" + stable, body: body}
	want(t, w.do(client, w.devices, two), http.StatusNotFound)
}

func registersAsFixedWord(t *testing.T, w *world) {
	for _, id := range []string{"Register", "operations", "Registrations", "enrollments"} {
		r := dps("PUT", id, "/REGISTER"+stable, `{"registrationId":"`+id+`"}`).with("Authorization", w.sas(id))
		a := w.do(w.client(nil), w.devices, r)
		want(t, a, http.StatusAccepted)
		if got := read[operation](t, a).State.RegistrationID; got != id {
			t.Errorf("registered as %q, want %q as spelled", got, id)
		}
	}
}

func TestAServerThatCannotCommitAsksToComeBack(t *testing.T) {
	w := newWorld(t)
	check(t, w.down())
	a := w.do(w.client(w.deviceCertificate("dev-1")), w.devices, dps("PUT", "dev-1", "/register"+stable, `{"registrationId":"dev-1"}`))
	want(t, a, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" || read[struct{ ErrorCode int }](t, a).ErrorCode != 503000 {
		t.Errorf("answer %v %s", a.header, a.body)
	}
	e := w.do(w.client(w.deviceCertificate("dev-1")), w.devices, enroll("simpleenroll", testkit.CSR(t, newKey(), "dev-1")))
	want(t, e, http.StatusServiceUnavailable)
	if e.header.Get("Retry-After") == "" {
		t.Errorf("answer %v %s", e.header, e.body)
	}
}

func logsNoSecret(t *testing.T, w *world) {
	token := w.sas("p-1")
	r := dps("PUT", "p-1", "/register"+stable, `{"registrationId":"p-1"}`).with("Authorization", token)
	want(t, w.do(w.client(nil), w.devices, r), http.StatusAccepted)
	want(t, w.do(w.client(nil), w.devices, dps("PUT", "%0Aevil", "/register"+stable, "{}")), http.StatusBadRequest)
	text := w.log.String()
	if !strings.Contains(text, "op=/:idScope/registrations/:id/register") || !strings.Contains(text, "code=202") {
		t.Errorf("the log has no line of the request:\n%s", text)
	}
	if strings.Contains(text, token[len(token)-40:]) || strings.Contains(text, "evil") {
		t.Errorf("the log holds what it must not:\n%s", text)
	}
}
