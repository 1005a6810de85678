package verify_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func TestAChallengeAdmitsItsTPMOnce(t *testing.T) {
	id, err := verify.ParseRegistrationID("press-1")
	if err != nil {
		t.Fatal(err)
	}
	now := testkit.Now()
	key := bytes.Repeat([]byte{7}, 32)
	token, err := verify.ParseSAS(testkit.SAS(key, "0neTEST", "press-1", now.Add(time.Hour), testkit.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		ev   verify.TPMEvidence
		kept verify.KeptChallenge
		now  time.Time
	}
	for name, c := range map[string]struct {
		change func(*step)
		rule   string
	}{
		"as it was made":                             {func(*step) {}, ""},
		"a poll after it was spent":                  {func(s *step) { s.ev.Keys, s.kept.SpentAt = nil, now }, ""},
		"a registration after it was spent":          {func(s *step) { s.kept.SpentAt = now }, "tpm-challenge-spent"},
		"just before it expires":                     {func(s *step) { s.now = s.kept.Expires.Add(-time.Microsecond) }, ""},
		"when it expires":                            {func(s *step) { s.now = s.kept.Expires }, "tpm-challenge-expired"},
		"a poll when it expires":                     {func(s *step) { s.ev.Keys, s.now = nil, s.kept.Expires }, "tpm-challenge-expired"},
		"another endorsement key":                    {func(s *step) { s.ev.Keys.Endorsement[0]++ }, "tpm-challenge-other-keys"},
		"another storage root key":                   {func(s *step) { s.ev.Keys.StorageRoot[0]++ }, "tpm-challenge-other-keys"},
		"another device's":                           {func(s *step) { s.kept.ID = verify.RegistrationID{} }, "tpm-challenge-other-keys"},
		"a token by another key":                     {func(s *step) { s.kept.Key = verify.NewSecret([]byte("another")) }, "sas-signature"},
		"a token by another key, after it was spent": {func(s *step) { s.kept.Key, s.kept.SpentAt = verify.NewSecret([]byte("another")), now }, "sas-signature"},
		"a challenge without a key":                  {func(s *step) { s.kept.Key = verify.Secret{} }, "sas-signature"},
		"a token for another scope":                  {func(s *step) { s.ev.IDScope = "0neOTHER" }, "sas-other-resource"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := verify.TPMKeys{Endorsement: [32]byte{1}, StorageRoot: [32]byte{2}}
			shown := keys
			s := step{
				verify.TPMEvidence{SASEvidence: verify.SASEvidence{IDScope: "0neTEST", ID: id, Token: token}, Keys: &shown},
				verify.KeptChallenge{ID: id, Keys: keys, Key: verify.NewSecret(key), Expires: now.Add(10 * time.Minute)}, now,
			}
			c.change(&s)
			identity, err := verify.TPM(s.ev, s.kept, s.now)
			if fault.RuleOf(err) != c.rule || identity.IsZero() != (c.rule != "") {
				t.Fatalf("identity %v, %v, want rule %q", identity, err, c.rule)
			}
			if err == nil && (identity.Mechanism() != verify.MechanismTPM || identity.ID() != id || identity.Path() != nil || !identity.At().Equal(s.now)) {
				t.Errorf("identity %+v", identity)
			}
		})
	}
}
