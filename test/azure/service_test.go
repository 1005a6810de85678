package azure_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

// bulkResult is what a bulk call answers.
type bulkResult struct {
	IsSuccessful bool `json:"isSuccessful"`
	Errors       []struct {
		RegistrationID string `json:"registrationId"`
		DeviceID       string `json:"deviceId"`
		ErrorCode      int    `json:"errorCode"`
	} `json:"errors"`
}

// strangersKey is a connection string with a key that no policy has.
func strangersKey(connectionString string) string {
	return regexp.MustCompile(`SharedAccessKey=[^;]*`).ReplaceAllString(connectionString, "SharedAccessKey="+base64.StdEncoding.EncodeToString(ownKey))
}

// entries is what individual enrollments and groups have in common for a client.
type entries struct {
	id                                string // the name of the member that holds it
	put, get, remove, query, attested string
	from                              string // what a query calls them
}

var (
	individuals = entries{"registrationId", "createOrUpdateIndividualEnrollment", "getIndividualEnrollment", "deleteIndividualEnrollment",
		"createIndividualEnrollmentQuery", "getIndividualEnrollmentAttestationMechanism", "enrollments"}
	groups = entries{"enrollmentGroupId", "createOrUpdateEnrollmentGroup", "getEnrollmentGroup", "deleteEnrollmentGroup",
		"createEnrollmentGroupQuery", "getEnrollmentGroupAttestationMechanism", "enrollmentGroups"}
)

func (w *world) manageEntries(t *testing.T, e entries) {
	generated := object{"type": "symmetricKey"}
	t.Run("an entry is made, read, changed and deleted", func(t *testing.T) {
		id := e.id + "-one"
		w.service(t, e.get, id).fails(404, "Error")
		w.service(t, e.attested, id).fails(404, "Error")
		var made, read, changed object
		w.service(t, e.put, object{e.id: id, "attestation": generated}).gives(&made)
		if made[e.id] != id || made["provisioningStatus"] != "enabled" || made["etag"] == "" || made["createdDateTimeUtc"] == nil {
			t.Errorf("made %v", made)
		}
		w.service(t, e.put, object{e.id: id, "attestation": generated}).fails(409, "DeviceAlreadyExistsError")
		w.service(t, e.get, id).gives(&read)
		read["provisioningStatus"] = "disabled"
		w.service(t, e.put, read).gives(&changed)
		if changed["provisioningStatus"] != "disabled" || changed["etag"] == read["etag"] || changed["createdDateTimeUtc"] != read["createdDateTimeUtc"] {
			t.Errorf("changed %v into %v", read, changed)
		}
		w.service(t, e.put, read).fails(412, "InvalidEtagError")
		w.service(t, e.remove, id, read["etag"]).fails(412, "InvalidEtagError")
		w.service(t, e.remove, changed).gives(nil)
		w.service(t, e.remove, id).fails(404, "Error")
	})
	t.Run("keys that are left out are made, hidden, shown on demand, and kept by read, change, write", func(t *testing.T) {
		id := e.id + "-two"
		var read object
		w.service(t, e.put, object{e.id: id, "attestation": generated}).gives(nil)
		keys := w.keysOf(t, e, id)
		for _, k := range keys {
			if raw, err := base64.StdEncoding.DecodeString(k); err != nil || len(raw) != 64 {
				t.Errorf("the key %q is not of 64 bytes: %v", k, err)
			}
		}
		if keys[0] == keys[1] {
			t.Error("both keys are the same")
		}
		get := w.service(t, e.get, id)
		get.gives(&read)
		if regexp.MustCompile(regexp.QuoteMeta(keys[0])).Match(get.got.Result) {
			t.Error("the entry shows its key")
		}
		read["reprovisionPolicy"] = object{"updateHubAssignment": true, "migrateDeviceData": false}
		w.service(t, e.put, read).gives(nil)
		if again := w.keysOf(t, e, id); again != keys {
			t.Errorf("the keys changed from %v to %v", keys, again)
		}
		w.service(t, e.remove, id).gives(nil)
	})
	t.Run("a query is read page by page", func(t *testing.T) {
		var want []string
		for n := range 5 {
			id := fmt.Sprintf("%s-page-%d", e.id, n)
			w.service(t, e.put, object{e.id: id, "attestation": generated}).gives(nil)
			want = append(want, id)
		}
		var pages [][]object
		w.service(t, e.query, object{"query": "SELECT * FROM " + e.from}, 2).gives(&pages)
		var got []string
		for _, page := range pages {
			if len(page) > 2 {
				t.Errorf("a page of %d", len(page))
			}
			for _, o := range page {
				got = append(got, o[e.id].(string))
			}
		}
		for _, id := range want {
			if !slices.Contains(got, id) {
				t.Errorf("%s is not among %v", id, got)
			}
			w.service(t, e.remove, id).gives(nil)
		}
		w.service(t, e.query, object{"query": "DROP TABLE enrollments"}, 2).fails(400, "ArgumentError")
	})
	t.Run("what cannot be is refused", func(t *testing.T) {
		w.service(t, e.put, object{e.id: e.id + "-none"}).fails(400, "ArgumentError")
		w.service(t, e.put, object{e.id: "a b", "attestation": generated}).fails(400, "ArgumentError")
		w.service(t, e.put, object{e.id: e.id + "-hub", "attestation": generated, "iotHubs": []string{"nobody.example.net"}}).fails(400, "ArgumentError")
		stranger := strangersKey(w.env["MUSTER_SERVICE_CONNECTION_STRING"])
		w.serviceAs(t, stranger, e.get, e.id+"-none").fails(401, "UnauthorizedError")
		w.serviceAs(t, stranger, e.put, object{e.id: e.id + "-none", "attestation": generated}).fails(401, "UnauthorizedError")
	})
}

// keysOf asks for the keys of an entry.
func (w *world) keysOf(t *testing.T, e entries, id string) [2]string {
	t.Helper()
	var attested struct {
		SymmetricKey struct {
			Primary   string `json:"primaryKey"`
			Secondary string `json:"secondaryKey"`
		} `json:"symmetricKey"`
	}
	w.service(t, e.attested, id).gives(&attested)
	return [2]string{attested.SymmetricKey.Primary, attested.SymmetricKey.Secondary}
}

func (w *world) manageCertificatesOfEntries(t *testing.T) {
	leaf := testkit.SelfSigned(t, "spelled")
	text := string(leaf.PEM())
	block, _ := pem.Decode(leaf.PEM())
	for what, spelling := range map[string]string{
		"PEM": text, "base64 of PEM": base64.StdEncoding.EncodeToString([]byte(text)), "base64 of DER": base64.StdEncoding.EncodeToString(block.Bytes),
	} {
		t.Run("a certificate is taken as "+what+" and kept by read, change, write", func(t *testing.T) {
			var read object
			w.service(t, individuals.put, object{"registrationId": "spelled", "attestation": clientCertificate(spelling)}).gives(&read)
			read["deviceId"] = "another"
			w.service(t, individuals.put, read).gives(&read)
			primary := read["attestation"].(object)["x509"].(object)["clientCertificates"].(object)["primary"].(object)
			if info, _ := primary["info"].(object); primary["certificate"] != nil || info["subjectName"] != "CN=spelled" {
				t.Errorf("the certificate is shown as %v", primary)
			}
			w.service(t, individuals.remove, read).gives(nil)
		})
	}
}

func (w *world) manageInBulk(t *testing.T) {
	const method = "runBulkEnrollmentOperation"
	batch := func(mode string, enrollments ...object) object {
		return object{"mode": mode, "enrollments": enrollments}
	}
	member := func(n int) object {
		return object{"registrationId": fmt.Sprint("bulk-", n), "attestation": object{"type": "symmetricKey"}}
	}
	run := func(t *testing.T, b object, good bool) (out bulkResult) {
		t.Helper()
		w.service(t, method, b).gives(&out)
		if out.IsSuccessful != good {
			t.Errorf("%v: %+v", b["mode"], out)
		}
		return out
	}
	run(t, batch("create", member(1), member(2)), true)
	out := run(t, batch("create", member(2), member(3)), false)
	if len(out.Errors) != 1 || out.Errors[0].RegistrationID != "bulk-2" || out.Errors[0].ErrorCode/1000 != 409 {
		t.Errorf("creating one twice: %+v", out)
	}
	var read object
	w.service(t, individuals.get, "bulk-3").gives(&read) // its neighbour's failure is its own
	run(t, batch("update", with(member(1), "deviceId", "pump-1")), true)
	run(t, batch("update", member(4)), false)
	run(t, batch("updateIfMatchETag", with(read, "deviceId", "pump-3")), true)
	run(t, batch("updateIfMatchETag", with(read, "deviceId", "pump-4")), false)
	run(t, batch("delete", member(1), member(2), member(3)), true)
	var eleven []object
	for n := range 11 {
		eleven = append(eleven, member(n))
	}
	w.service(t, method, batch("create", eleven...)).fails(400, "ArgumentError")
}

func (w *world) manageRegistrations(t *testing.T) {
	const query, get, remove = "createEnrollmentGroupDeviceRegistrationStateQuery", "getDeviceRegistrationState", "deleteDeviceRegistrationState"
	recordedKey := bytes.Repeat([]byte{4}, 64)
	w.service(t, groups.put, object{"enrollmentGroupId": "recorded", "attestation": symmetric(recordedKey, spareKey)}).gives(nil)
	ids := []string{"recorded-1", "recorded-2", "recorded-3"}
	w.service(t, get, ids[0]).fails(404, "Error")
	for _, id := range ids {
		w.device(t, "https", "register: key derived from a group's", derived(recordedKey, id)).gives(nil)
	}
	var pages [][]state
	w.service(t, query, object{"query": "SELECT * FROM registrations"}, "recorded", 2).gives(&pages)
	if got := registered(pages); !slices.Equal(got, ids) {
		t.Errorf("the group has %v, want %v", got, ids)
	}
	w.service(t, query, object{"query": "SELECT * FROM registrations"}, "nobodys", 2).fails(404, "Error")
	var record object
	w.service(t, get, ids[0]).gives(&record)
	if record["status"] != "assigned" || record["deviceId"] != ids[0] || record["etag"] == nil {
		t.Errorf("the record is %v", record)
	}
	w.service(t, remove, with(record, "etag", `"another"`)).fails(412, "InvalidEtagError")
	w.service(t, remove, record).gives(nil)
	w.service(t, remove, ids[1]).gives(nil)
	w.service(t, remove, ids[0]).fails(404, "Error")
	w.service(t, groups.remove, "recorded").gives(nil)
	w.service(t, get, ids[2]).gives(nil) // an orphan
	w.service(t, remove, ids[2]).gives(nil)
	var left []object
	for _, id := range ids { // the hub's devices do not go with their records
		w.registry(t, "get", id).gives(nil)
		left = append(left, object{"deviceId": id})
	}
	w.registry(t, "removeDevices", left, true).gives(nil)
	w.serviceAs(t, strangersKey(w.env["MUSTER_SERVICE_CONNECTION_STRING"]), get, ids[0]).fails(401, "UnauthorizedError")
}

// manageByToken has the client show an operator's token where Azure's shows Entra ID's.
func (w *world) manageByToken(t *testing.T) {
	var made object
	w.service(t, individuals.put, object{"registrationId": "by-token", "attestation": object{"type": "symmetricKey"}}).gives(&made)
	w.serviceByToken(t, w.env["MUSTER_TOKEN"], individuals.get, "by-token").gives(nil)
	w.serviceByToken(t, "nobody's", individuals.get, "by-token").fails(401, "UnauthorizedError")
	w.service(t, individuals.remove, made).gives(nil)
}

// registered are the ids of all pages, in order.
func registered(pages [][]state) (ids []string) {
	for _, page := range pages {
		for _, s := range page {
			ids = append(ids, s.RegistrationID)
		}
	}
	slices.Sort(ids)
	return ids
}
