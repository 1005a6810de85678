package azure_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

// The rows of devices with a TPM. The first answer is the challenge.
const (
	byTPM    = "register: TPM"
	otherTPM = "refused: another TPM"
)

// registerTPMs has Azure's TPM client register with a TPM in software, as it is but for the
// way to the TPM: it makes the keys, activates what it is sent, signs, and takes the key for
// the hub.
func (w *world) registerTPMs(t *testing.T) {
	chip, other := testkit.NewSWTPM(t), testkit.NewSWTPM(t)
	ask := func(call string, at *testkit.SWTPM, more object, out any) {
		t.Helper()
		request := with(with(more, "call", call), "tpm", at.Socket)
		if got := w.device(t, "https", byTPM, request); got.got.Error != nil || len(got.got.Seen) != 0 {
			t.Fatal(got)
		} else {
			got.gives(out)
		}
	}
	var public struct{ RegistrationID, EndorsementKey string }
	ask("keys", chip, object{}, &public)
	id := public.RegistrationID
	w.service(t, individuals.put, object{"registrationId": id, "attestation": object{"type": "tpm", "tpm": object{"endorsementKey": public.EndorsementKey}}}).gives(nil)

	for range 2 {
		var operation struct {
			State state `json:"registrationState"`
		}
		w.device(t, "https", byTPM, object{"registrationId": id, "tpm": chip.Socket}).challenged(&operation)
		if s := operation.State; s.Status != "assigned" || s.RegistrationID != id {
			t.Fatalf("it was told %+v", s)
		}
		var signed []byte
		ask("sign", chip, object{"registrationId": id, "text": "to the hub"}, &signed)
		var hub struct {
			Authentication struct{ SymmetricKey struct{ PrimaryKey []byte } }
		}
		w.registry(t, "get", id).gives(&hub)
		mac := hmac.New(sha256.New, hub.Authentication.SymmetricKey.PrimaryKey)
		mac.Write([]byte("to the hub"))
		if !hmac.Equal(signed, mac.Sum(nil)) {
			t.Error("its TPM signs otherwise than its hub expects")
		}
	}
	w.device(t, "https", otherTPM, object{"registrationId": id, "tpm": other.Socket}).fails(http.StatusUnauthorized, "FormatError") // the SDK takes every 401 here for a challenge
}

// challenged wants a challenge, and then success.
func (c call) challenged(out any) {
	c.t.Helper()
	if len(c.got.Seen) == 0 || c.got.Seen[0].Status != http.StatusUnauthorized {
		c.t.Fatalf("%s; want a challenge first", c)
	}
	c.w.seen.add(c.of, c.got.Seen[0].Version, outcome{http.StatusUnauthorized, ""})
	c.got.Seen = c.got.Seen[1:]
	c.gives(out)
}
