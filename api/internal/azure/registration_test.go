package azure_test

import (
	"encoding/json"
	"testing"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func TestADeviceIsToldByWhatItProvedItself(t *testing.T) {
	for name, c := range map[string]struct {
		op   provisioning.Operation
		want string
	}{
		"a TPM that waits for its hub": {provisioning.Operation{Attested: verify.MechanismTPM}, `{"tpm":{}}`},
		"a TPM that has one":           {provisioning.Operation{Attested: verify.MechanismTPM, TPMKey: []byte{1}}, `{"tpm":{"authenticationKey":"AQ=="}}`},
		"a key":                        {provisioning.Operation{Attested: verify.MechanismSymmetricKey, Group: "line"}, `{"symmetricKey":{"enrollmentGroupId":"line"}}`},
	} {
		s := azure.StateOf(c.op)
		told, err := json.Marshal(map[string]any{"tpm": s.TPM, "symmetricKey": s.SymmetricKey, "x509": s.X509})
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(told, &members); err != nil {
			t.Fatal(err)
		}
		for member, value := range members {
			if value == nil {
				delete(members, member)
			}
		}
		if got, _ := json.Marshal(members); string(got) != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
