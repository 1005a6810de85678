package provisioning

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

const (
	// challengeLife is how long a challenge is good for (INV-T2).
	challengeLife = 10 * time.Minute
	// tpmKeySize is of the keys that are made for TPMs.
	tpmKeySize = 32
)

// RuleTPMChallenge is the rule word of the answer that asks a TPM to prove itself: a refusal
// in form, which carries the challenge.
const RuleTPMChallenge = "tpm-challenge"

// tpmOnRecord is what is on record of a device with a TPM.
type tpmOnRecord struct {
	shown     *ShownTPM          // by the device, in this request
	enrolled  tpm.EndorsementKey // read where the device does not show it
	challenge *TPMChallenge
	device    *TPMDevice
	others    []verify.RegistrationID // that the TPM has attested, where a group may admit it
	endorsed  verify.Endorsement      // by its manufacturer, where a group admits it by that
	next      *TPMDevice              // to be written; nil when it stays
	secret    []byte                  // of the challenge that was answered, for attestations
}

// readTPM reads it, for a device whose own entry names a TPM and is enabled, or that a group may
// admit by its TPM: to refuse any other costs nothing more (INV-R3).
func (d *decision) readTPM(tx Tx, a Attempt) (err error) {
	d.tpm = tpmOnRecord{shown: a.Evidence.TPM}
	entry, there := d.facts.Individual(d.query.ID)
	switch {
	case a.Evidence.TPM == nil && a.Evidence.Token == nil:
		return nil
	case there && (!entry.Enabled || entry.Role() != RoleTPM), !there && !d.meetsTPMGroup(a):
		return nil
	case there && a.Evidence.TPM == nil:
		err = d.readEnrolled(tx, entry)
	case !there && a.Evidence.TPM != nil:
		err = d.readOthers(tx)
	case !there:
		d.rests, err = outsidePath(tx, *d.facts.Registration)
	}
	if err != nil {
		return err
	}
	challenge, err := tx.TPMChallenge(d.query.ID)
	if err == nil {
		d.tpm.challenge = &challenge
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	if a.Evidence.Token == nil {
		return nil
	}
	device, err := tx.TPMDevice(d.query.ID)
	if err == nil {
		d.tpm.device = &device
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// readEnrolled has the facts cover the endorsement key that an entry names, if it names one: only
// who registers shows it.
func (d *decision) readEnrolled(tx Tx, entry Enrollment) (err error) {
	if entry.Role() != RoleTPM {
		return nil
	}
	if d.tpm.enrolled, err = tpm.ParseEndorsementKey(entry.Credentials[0].TPM.Endorsement); err != nil {
		return err
	}
	if key := verify.KeyHashOf(d.tpm.enrolled.SPKI()); !slices.Contains(d.query.Keys, key) {
		d.query.Keys = append(d.query.Keys, key)
	}
	d.facts, err = d.read(tx)
	return err
}

// judgeTPM admits the TPM that an individual entry names: it has signed its token with the
// key of a challenge that it alone can have opened. Without a token it is refused so that it
// can be asked ([RuleTPMChallenge]), after all else that would refuse it.
func (e *Engine) judgeTPM(d *decision, a Attempt, individual Enrollment, shadowed bool, now time.Time) error {
	t, shown := &d.trace, a.Evidence.TPM
	switch {
	case !shadowed:
		return e.judgeTPMGroup(d, a, now)
	case individual.Role() != RoleTPM:
		return t.refuse("attestation-mismatch", individual.String(), "the individual enrollment attests with a "+individual.Role().noun()+", not with a TPM")
	case shown == nil && a.Evidence.Token == nil:
		return t.refuse("attestation-mismatch", individual.String(), "the individual enrollment attests with a TPM, which the device did not show")
	case shown == nil && !d.polls:
		return t.refuse("tpm-keys-missing", individual.String(), "the request that registers names the keys of the device's TPM")
	}
	if err := d.matchTPM(shown, individual); err != nil {
		return err
	}
	ek := d.tpm.enrolled
	if shown != nil {
		ek = shown.Endorsement
	}
	if err := d.judgeEndorsement(verify.KeyHashOf(ek.SPKI())); err != nil {
		return err
	}
	return e.proveTPM(d, a, individual, now)
}

// judgeEndorsement refuses an endorsement key that is disallowed.
func (d *decision) judgeEndorsement(key verify.KeyHash) error {
	d.key = provenKey{hash: key}
	i := slices.IndexFunc(d.facts.Disallowances, func(x Disallowance) bool { return x.Key && verify.KeyHash(x.Digest) == d.key.hash })
	if i < 0 {
		return nil
	}
	x := d.facts.Disallowances[i]
	return d.trace.refuse("disallowed", x.object(), "the endorsement key is disallowed ("+string(x.Reason)+")")
}

// matchTPM refuses a TPM that is not the entry's: the one shown, or in a poll, which shows none,
// the one whose challenge is on record.
func (d *decision) matchTPM(shown *ShownTPM, individual Enrollment) error {
	t, enrolled := &d.trace, individual.Credentials[0].TPM
	var keys verify.TPMKeys
	switch {
	case shown != nil:
		keys = shown.names()
	case d.tpm.challenge != nil:
		keys = d.tpm.challenge.Keys
	default:
		return nil // it proves nothing
	}
	if keys.Endorsement != tpm.DigestOf(enrolled.Endorsement) {
		return t.refuse("tpm-other-endorsement-key", individual.String(), "the individual enrollment names another endorsement key")
	}
	if len(enrolled.StorageRoot) > 0 && keys.StorageRoot != tpm.DigestOf(enrolled.StorageRoot) {
		return t.refuse("tpm-other-storage-root-key", individual.String(), "the individual enrollment names another storage root key")
	}
	t.pass("endorsement-key", individual.String(), "the endorsement key is the one enrolled")
	return nil
}

// proveTPM checks the token against the challenge on record. Without one the TPM is asked.
func (e *Engine) proveTPM(d *decision, a Attempt, entry Enrollment, now time.Time) error {
	t, kept := &d.trace, d.tpm.challenge
	if a.Evidence.Token == nil {
		return t.refuse(RuleTPMChallenge, entry.String(), "the TPM is asked to prove itself")
	}
	if kept == nil {
		return t.refuse("tpm-challenge-unknown", entry.String(), "the TPM was asked nothing, or too long ago: register without a token first")
	}
	key, err := e.box.Open(challengePurpose(kept.ID), kept.SealedKey)
	if err != nil {
		return err
	}
	evidence := verify.TPMEvidence{SASEvidence: verify.SASEvidence{IDScope: e.idScope, ID: a.ID, Token: *a.Evidence.Token}, Endorsed: d.tpm.endorsed}
	if shown := a.Evidence.TPM; shown != nil {
		keys := shown.names()
		evidence.Keys = &keys
	}
	d.identity, err = verify.TPM(evidence, verify.KeptChallenge{ID: kept.ID, Keys: kept.Keys, Key: verify.NewSecret(key[:tpmKeySize]), Expires: kept.Expires, SpentAt: kept.SpentAt}, now)
	if err != nil {
		return t.refused(entry.String(), err)
	}
	d.entry, d.tpm.secret = entry, key[tpmKeySize:]
	t.pass("credential", entry.String(), "the token is signed by the TPM, with the key that it was sent")
	return nil
}

func (s ShownTPM) names() verify.TPMKeys {
	return verify.TPMKeys{Endorsement: s.Endorsement.Digest(), StorageRoot: s.StorageRoot.Digest()}
}

// challenge asks a device's TPM to prove itself. One that asks again within half a
// challenge's life is answered with the same key, wrapped anew, and nothing is written: an
// answer that got lost costs no row, and who knows the keys does not push the device out.
func (e *Engine) challenge(ctx context.Context, d *decision, a Attempt, now time.Time) error {
	shown := *a.Evidence.TPM
	kept, key, err := e.openChallenge(d, shown, now)
	if err != nil {
		return err
	}
	fresh := kept == nil
	if fresh {
		key = make([]byte, 2*tpmKeySize)
		kept = &TPMChallenge{ID: a.ID, Keys: shown.names(), Expires: now.Add(challengeLife)}
		_, _ = rand.Read(key) // never fails (crypto/rand)
		_, _ = rand.Read(kept.Nonce[:])
		kept.SealedKey = e.box.Seal(challengePurpose(a.ID), key)
	}
	asking, err := shown.ask(key)
	if err != nil {
		return err
	}
	if fresh {
		err = e.store.Update(ctx, func(tx Tx) error {
			if err := d.still(tx, false); err != nil {
				return err
			}
			return tx.PutTPMChallenge(*kept)
		})
	}
	if moved(err) {
		return errMoved
	}
	if err != nil {
		return err
	}
	return asking
}

// openChallenge is the challenge on record and its key, while it serves; nil: it does not.
func (e *Engine) openChallenge(d *decision, shown ShownTPM, now time.Time) (*TPMChallenge, []byte, error) {
	kept := d.tpm.challenge
	if kept == nil || kept.Keys != shown.names() || !kept.SpentAt.IsZero() || kept.Expires.Sub(now) < challengeLife/2 || kept.Expires.Sub(now) > challengeLife {
		return nil, nil, nil
	}
	key, err := e.box.Open(challengePurpose(kept.ID), kept.SealedKey)
	return kept, key, err
}

// spendChallenge makes the challenge that admitted a device good for no other registration.
func (d *decision) spendChallenge(tx Tx, at time.Time) error {
	if d.identity.Mechanism() != verify.MechanismTPM {
		return nil
	}
	return tx.SpendTPMChallenge(d.tpm.challenge.ID, d.tpm.challenge.Nonce, at)
}

// repeat spends the challenge of a device that asks once more for what it was answered.
func (e *Engine) repeat(ctx context.Context, d *decision, now time.Time) error {
	if d.identity.Mechanism() != verify.MechanismTPM {
		return nil
	}
	err := e.store.Update(ctx, func(tx Tx) error { return d.spendChallenge(tx, now) })
	if moved(err) {
		return errMoved
	}
	return err
}

// keepTPM writes the device's TPM, after its registration.
func (d *decision) keepTPM(tx Tx) error {
	if d.tpm.next == nil {
		return nil
	}
	return tx.PutTPMDevice(*d.tpm.next)
}

// sameTPM says that the TPM which attested is on record with the same keys, if one attested.
func (d *decision) sameTPM(a Attempt) bool {
	if d.identity.Mechanism() != verify.MechanismTPM {
		return true
	}
	was, is := d.tpm.device, a.Evidence.TPM
	return was != nil && bytes.Equal(was.TPM.Endorsement, is.Endorsement.Bytes()) && bytes.Equal(was.TPM.StorageRoot, is.StorageRoot.Bytes()) &&
		was.ByGroup == (d.entry.Kind == Group)
}

// takeTPM gives a device its key for hubs, the same for as long as its TPM is the same. It is
// sealed anew in either case: a rewrap that goes on beside it is not undone.
func (e *Engine) takeTPM(d *decision, a Attempt) (err error) {
	if d.sameTPM(a) {
		return nil
	}
	shown := TPMPublic{a.Evidence.TPM.Endorsement.Bytes(), a.Evidence.TPM.StorageRoot.Bytes()}
	key := make([]byte, tpmKeySize)
	if was := d.tpm.device; was != nil && bytes.Equal(was.TPM.Endorsement, shown.Endorsement) {
		if key, err = e.box.Open(tpmDevicePurpose(a.ID), was.SealedKey); err != nil {
			return err
		}
	} else {
		_, _ = rand.Read(key) // never fails (crypto/rand)
	}
	d.tpm.next = &TPMDevice{ID: a.ID, TPM: shown, SealedKey: e.box.Seal(tpmDevicePurpose(a.ID), key), Key: d.key.hash, ByGroup: d.entry.Kind == Group}
	return nil
}

// wrapHubKey is the key of a device for its hub, wrapped for its TPM; nil for a device that
// has none, or did not come by it.
func (e *Engine) wrapHubKey(d *decision, reg Registration) ([]byte, error) {
	device := d.tpm.device
	if d.identity.Mechanism() != verify.MechanismTPM || device == nil || reg.State != Assigned {
		return nil, nil
	}
	to, err := d.tpm.wrapsFor()
	if err != nil {
		return nil, err
	}
	key, err := e.box.Open(tpmDevicePurpose(device.ID), device.SealedKey)
	if err != nil {
		return nil, err
	}
	return tpm.Wrap(to.Endorsement, to.StorageRoot, key)
}

// wrapsFor is the TPM on record: who registers has shown its keys, who polls shows none.
func (t tpmOnRecord) wrapsFor() (to ShownTPM, err error) {
	if t.shown != nil {
		return *t.shown, nil
	}
	if to.Endorsement, err = tpm.ParseEndorsementKey(t.device.TPM.Endorsement); err == nil {
		to.StorageRoot, err = tpm.ParseStorageRootKey(t.device.TPM.StorageRoot)
	}
	return to, err
}

// tpmKeys are a device's keys on its hub. It has one, which stands in both slots: hubs ask
// for two.
func (r *hubReading) tpmKeys(reg Registration) (keys [2]verify.Secret, err error) {
	if !r.keys {
		return keys, nil
	}
	device, err := r.tx.TPMDevice(reg.ID)
	if err != nil {
		return keys, err
	}
	key, err := r.box.Open(tpmDevicePurpose(reg.ID), device.SealedKey)
	if err != nil {
		return keys, err
	}
	secret := verify.NewSecret(key)
	return [2]verify.Secret{secret, secret}, nil
}

// SweepTPMChallenges deletes what expired, a page of it, and answers whether there is more.
func (e *Engine) SweepTPMChallenges(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	var expired []verify.RegistrationID
	err = jobs.View(ctx, func(tx Tx) (err error) {
		expired, err = tx.ExpiredTPMChallenges(now, sweepPage)
		return err
	})
	if err != nil || len(expired) == 0 {
		return false, err
	}
	err = jobs.Update(ctx, func(tx Tx) error {
		for _, id := range expired {
			if err := tx.DeleteTPMChallenge(id, now); err != nil {
				return err
			}
		}
		return nil
	})
	return len(expired) == sweepPage, err
}

func challengePurpose(id verify.RegistrationID) string { return "tpm_challenges|" + id.String() }

func tpmDevicePurpose(id verify.RegistrationID) string { return "tpm_devices|" + id.String() }
