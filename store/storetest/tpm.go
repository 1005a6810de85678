package storetest

import (
	"errors"
	"reflect"
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
	t.Run("a group's list of endorsement keys", func(t *testing.T) {
		w := newWorld(t, open)
		list := provisioning.Enrollment{Owner: w.group("presses"), Spelled: "presses", Enabled: true, Version: 1, Created: w.now, Updated: w.now,
			Credentials: []provisioning.Credential{placed(provisioning.Credential{Role: provisioning.RoleTPMList})}}
		w.update(func(tx provisioning.Tx) error { return tx.InsertEnrollment(list) })
		keys := []provisioning.ListedKey{
			{Group: list.ID, Key: verify.KeyHash{1}, Since: w.now}, {Group: list.ID, Key: verify.KeyHash{2}, ID: w.id("dev-2"), Since: w.now},
		}
		w.update(func(tx provisioning.Tx) error { return errors.Join(tx.PutListedKey(keys[0]), tx.PutListedKey(keys[1])) })
		for want, query := range map[int]provisioning.FactsQuery{
			1: {ID: w.id("dev-1"), Keys: []verify.KeyHash{{1}}, TPM: true},
			2: {ID: w.id("dev-1"), Keys: []verify.KeyHash{{1}, {2}}, Thumbs: []verify.Thumbprint{{9}}, TPM: true},
			0: {ID: w.id("dev-1"), Keys: []verify.KeyHash{{3}}, TPM: true},
		} {
			facts := view(w, func(tx provisioning.Tx) (provisioning.Facts, error) { return tx.Facts(query) })
			if len(facts.Listed) != want || (want > 0) != (len(facts.Enrollments) == 1) {
				t.Errorf("%d keys: %d are listed, by %d groups", want, len(facts.Listed), len(facts.Enrollments))
			}
		}
		got := view(w, func(tx provisioning.Tx) ([]provisioning.ListedKey, error) {
			return tx.ListedKeys(list.ID, verify.KeyHash{1}, 5)
		})
		if len(got) != 1 || got[0].ID != keys[1].ID || !got[0].Since.Equal(w.now) {
			t.Errorf("behind the first: %+v", got)
		}
		count := func() int64 {
			return view(w, func(tx provisioning.Tx) (int64, error) { return tx.CountListedKeys(list.ID) })
		}
		epoch := func() int64 {
			return view(w, func(tx provisioning.Tx) (provisioning.Facts, error) {
				return tx.Facts(provisioning.FactsQuery{ID: w.id("dev-1")})
			}).Epoch
		}
		before := epoch()
		w.update(func(tx provisioning.Tx) error {
			return errors.Join(tx.DeleteListedKey(list.ID, verify.KeyHash{1}), tx.DeleteListedKey(list.ID, verify.KeyHash{8}))
		})
		if n := count(); n != 1 || epoch() == before {
			t.Errorf("%d left, epoch moved %t", n, epoch() != before)
		}
		w.update(func(tx provisioning.Tx) error { return tx.DeleteEnrollment(list.Owner, 1) })
		if n := count(); n != 0 {
			t.Errorf("%d outlive their group", n)
		}
	})
	t.Run("a group's conditions on TPMs", func(t *testing.T) {
		w := newWorld(t, open)
		g := provisioning.Enrollment{Owner: w.group("certified"), Spelled: "certified", Enabled: true, Version: 1, Created: w.now, Updated: w.now,
			TPM: provisioning.TPMConditions{Manufacturers: []string{"id:4E544300"}, Models: []string{"a", "b"}}}
		w.update(func(tx provisioning.Tx) error { return tx.InsertEnrollment(g) })
		got := view(w, func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(g.Owner) })
		facts := view(w, func(tx provisioning.Tx) (provisioning.Facts, error) {
			return tx.Facts(provisioning.FactsQuery{ID: w.id("x")})
		})
		if !reflect.DeepEqual(got.TPM, g.TPM) || len(facts.Enrollments) != 0 {
			t.Errorf("conditions %+v", got.TPM)
		}
	})
	t.Run("a TPM that a group admitted has one registration", func(t *testing.T) {
		w := newWorld(t, open)
		for n, name := range []string{"dev-1", "dev-2"} {
			reg := w.registration(name, provisioning.Owner{})
			d := provisioning.TPMDevice{ID: reg.ID, TPM: provisioning.TPMPublic{Endorsement: []byte{1}, StorageRoot: []byte{2}}, SealedKey: []byte{3}, Key: verify.KeyHash{7}, ByGroup: true}
			w.update(func(tx provisioning.Tx) error { return tx.PutRegistration(reg) })
			put := func(tx provisioning.Tx) error { return tx.PutTPMDevice(d) }
			if n == 0 {
				w.update(put)
			} else {
				w.refused(fault.Conflict, "tpm-claimed", put)
			}
		}
		found := view(w, func(tx provisioning.Tx) ([]verify.RegistrationID, error) {
			return tx.TPMRegistrations(verify.KeyHash{7}, 5)
		})
		if len(found) != 1 || found[0] != w.id("dev-1") {
			t.Errorf("its registrations: %v", found)
		}
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
