package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func (w *world) challenge(n byte, device string) provisioning.TPMChallenge {
	return provisioning.TPMChallenge{
		ID: w.id(device), Nonce: [16]byte{n}, Keys: verify.TPMKeys{Endorsement: [32]byte{n, 1}, StorageRoot: [32]byte{n, 2}},
		SealedKey: []byte{n, 3}, Expires: w.now.Add(10 * time.Minute),
	}
}

func (w *world) challenged(device string) func(provisioning.Tx) (provisioning.TPMChallenge, error) {
	return func(tx provisioning.Tx) (provisioning.TPMChallenge, error) { return tx.TPMChallenge(w.id(device)) }
}

func tpms(t *testing.T, open Open) {
	t.Run("a challenge replaces the one before, and is spent once", func(t *testing.T) {
		w := newWorld(t, open)
		first, second, at := w.challenge(1, "dev-1"), w.challenge(2, "dev-1"), w.now.Add(time.Minute)
		absent(w, w.challenged("dev-1"))
		for _, c := range []provisioning.TPMChallenge{first, second} {
			w.update(func(tx provisioning.Tx) error { return tx.PutTPMChallenge(c) })
			same(w, view(w, w.challenged("dev-1")), c)
		}
		spend := func(c provisioning.TPMChallenge) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.SpendTPMChallenge(c.ID, c.Nonce, at) }
		}
		w.refused(fault.Conflict, "tpm-challenge-moved", spend(first))
		w.update(spend(second))
		w.refused(fault.Conflict, "tpm-challenge-moved", spend(second))
		second.SpentAt = at
		same(w, view(w, w.challenged("dev-1")), second)
	})
	t.Run("challenges are deleted when they have expired", func(t *testing.T) {
		w := newWorld(t, open)
		early, late := w.challenge(1, "dev-1"), w.challenge(2, "dev-2")
		late.Expires = late.Expires.Add(time.Minute)
		w.update(func(tx provisioning.Tx) error {
			if err := tx.PutTPMChallenge(early); err != nil {
				return err
			}
			return tx.PutTPMChallenge(late)
		})
		expired := func(by time.Time, limit int) []verify.RegistrationID {
			return view(w, func(tx provisioning.Tx) ([]verify.RegistrationID, error) { return tx.ExpiredTPMChallenges(by, limit) })
		}
		same(w, len(expired(early.Expires.Add(-time.Microsecond), 9)), 0)
		same(w, expired(early.Expires, 9), []verify.RegistrationID{early.ID})
		same(w, expired(late.Expires, 1), []verify.RegistrationID{early.ID})
		w.update(func(tx provisioning.Tx) error {
			if err := tx.DeleteTPMChallenge(early.ID, early.Expires); err != nil {
				return err
			}
			return tx.DeleteTPMChallenge(late.ID, early.Expires)
		})
		absent(w, w.challenged("dev-1"))
		same(w, view(w, w.challenged("dev-2")), late)
	})
	t.Run("a device's TPM goes with its registration", func(t *testing.T) {
		w := newWorld(t, open)
		reg := w.registration("dev-1", provisioning.Owner{})
		d := provisioning.TPMDevice{ID: reg.ID, TPM: provisioning.TPMPublic{Endorsement: []byte{1}, StorageRoot: []byte{2}}, SealedKey: []byte{3}}
		read := func(tx provisioning.Tx) (provisioning.TPMDevice, error) { return tx.TPMDevice(reg.ID) }
		w.update(func(tx provisioning.Tx) error { return tx.PutRegistration(reg) })
		for _, root := range []byte{2, 4} {
			d.TPM.StorageRoot = []byte{root}
			w.update(func(tx provisioning.Tx) error { return tx.PutTPMDevice(d) })
			same(w, view(w, read), d)
		}
		w.update(func(tx provisioning.Tx) error { return tx.DeleteRegistration(reg.ID, reg.Version) })
		absent(w, read)
	})
}
