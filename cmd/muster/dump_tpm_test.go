package main

import (
	"testing"
	"time"

	"github.com/passmuster/muster/device"
	chips "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// hubKeyOfTPM registers a device with a TPM and returns the key that its hub knows it by. Its
// challenge stays on record.
func hubKeyOfTPM(t *testing.T, x *house) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	chip, err := chips.Open(testkit.NewSWTPM(t).Socket)
	must(err)
	defer chip.Close()
	const name = "with-a-tpm"
	draft := provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Individual, ID: parsedID(t, name)}, Spelled: name, Enabled: true,
		Attestation: provisioning.Attestation{Role: provisioning.RoleTPM}, Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(),
	}
	draft.Attestation.Slots[rotation.Primary].TPM.Endorsement = chip.EndorsementKey()
	_, _, err = x.engine.Put(t.Context(), actorInit, draft, provisioning.Precondition{})
	must(err)
	ek, err := tpm.ParseEndorsementKey(chip.EndorsementKey())
	must(err)
	srk, err := tpm.ParseStorageRootKey(chip.StorageRootKey())
	must(err)
	a := provisioning.Attempt{ID: draft.ID, Spelled: name, Door: "test", Evidence: provisioning.Evidence{TPM: &provisioning.ShownTPM{Endorsement: ek, StorageRoot: srk}}}
	_, err = x.engine.Register(t.Context(), provisioning.RegisterRequest{Attempt: a})
	asked := fault.As(err)
	if asked == nil || asked.Challenge == nil {
		t.Fatal(err)
	}
	must(chip.Activate(asked.Challenge))
	text, err := device.Token(x.idScope+"/registrations/"+name, "registration", time.Now().Add(time.Hour), chip.MAC)
	must(err)
	token, err := verify.ParseSAS(text)
	must(err)
	a.Evidence.Token = &token
	op, err := x.engine.Register(t.Context(), provisioning.RegisterRequest{Attempt: a})
	must(err)
	at, err := x.engine.HubDevice(t.Context(), op.Hub, draft.ID, actorInit)
	must(err)
	return at.Auth.Keys[rotation.Primary].Reveal()
}
