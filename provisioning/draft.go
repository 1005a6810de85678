package provisioning

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Draft is an enrollment entry as an operator writes it.
type Draft struct {
	Owner
	Spelled      string
	Enabled      bool
	Attestation  Attestation
	DeviceID     string
	Allocation   policies.AllocationPolicy
	Hubs         []string
	Custom       CustomAllocation
	Reprovision  policies.ReprovisionPolicy
	InitialTwin  []byte
	Profile      string
	IoTEdge      bool
	OptionalInfo []byte
}

// Attestation is what a draft wants in its two slots. For keys a slot left empty
// keeps the stored key, or gets a new one; for the others it is emptied, which is how
// a certificate is rolled out (contract §4.1).
type Attestation struct {
	Role  Role
	Slots [2]SlotDraft
	TPM   TPMConditions // of RoleTPMCA
}

// SlotDraft is one slot as written: exactly one of the fields, or none. Keep is the
// thumbprint of the certificate that stands there already (get-change-put sends
// "info" instead of the certificate), or that stands alone in the other slot.
type SlotDraft struct {
	Certificate []byte // PEM, base64 of PEM or DER, or DER
	Keep        verify.Thumbprint
	Anchor      string
	Key         []byte // 16 to 64 bytes
	TPM         TPMPublic
}

// IsZero says that nothing was written: the slot is to be empty, or keeps its key.
func (s SlotDraft) IsZero() bool {
	return len(s.Certificate) == 0 && s.Keep.IsZero() && s.Anchor == "" && len(s.Key) == 0 && len(s.TPM.Endorsement)+len(s.TPM.StorageRoot) == 0
}

// newKeys makes the keys an entry without given ones would get: before the
// transaction, because its function may run twice.
func newKeys() (keys [2][]byte, err error) {
	for i := range keys {
		keys[i] = make([]byte, 64)
		if _, err = rand.Read(keys[i]); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// compose turns a draft into the entry to be stored, checking every field.
func (e *Engine) compose(tx Tx, d Draft, was Enrollment, made [2][]byte, now time.Time) (Enrollment, error) {
	en := Enrollment{
		Owner: d.Owner, Spelled: d.Spelled, Enabled: d.Enabled, DeviceID: d.DeviceID, Allocation: d.Allocation,
		Hubs: d.Hubs, Custom: d.Custom, SealedWebhook: sealWebhook(e.box, d.Owner, d.Custom), Reprovision: d.Reprovision, InitialTwin: d.InitialTwin, Profile: d.Profile, IoTEdge: d.IoTEdge,
		OptionalInfo: d.OptionalInfo, Created: now, Updated: now, Version: firstVersion(now),
		DueAt: now,
	}
	if was.Version != 0 {
		en.Spelled, en.Created, en.Version = was.Spelled, was.Created, was.Version+1
	}
	err := first(e.checkCustom(en), checkSettings(tx, en))
	if err != nil {
		return en, err
	}
	if d.Attestation.Role == RoleTPMCA {
		en.TPM = d.Attestation.TPM
	}
	en.Credentials, err = e.credentials(tx, d, was, made, now)
	return en, err
}

func checkSettings(tx Tx, en Enrollment) error {
	if en.DeviceID != "" {
		if en.Kind == Group {
			return fault.New(fault.Malformed, "device-id", "a group has no device id: its devices use their registration ids").At("/deviceId")
		}
		if _, err := verify.ParseRegistrationID(en.DeviceID); err != nil {
			return fault.New(fault.Malformed, "device-id", "a device id follows the grammar of registration ids").At("/deviceId")
		}
	}
	if err := CheckTwin(en.InitialTwin); err != nil {
		return err
	}
	var info any
	if len(en.OptionalInfo) > 0 && json.Unmarshal(en.OptionalInfo, &info) != nil {
		return fault.New(fault.Malformed, "optional-device-information", "it is not JSON, or has a number that is too large").At("/optionalDeviceInformation")
	}
	for _, name := range en.Hubs {
		if _, err := tx.Hub(name); fault.Is(err, fault.NotFound) {
			return fault.New(fault.Malformed, "hub-not-linked", "no hub of this name is linked").About("hub " + name).At("/iotHubs")
		} else if err != nil {
			return err
		}
	}
	if en.Allocation == policies.Static && len(en.Hubs) > 1 {
		return fault.New(fault.Malformed, "static-needs-one-hub", "static allocation names exactly one hub").At("/iotHubs")
	}
	if en.Profile != "" {
		if _, err := tx.Profile(en.Profile); fault.Is(err, fault.NotFound) {
			return fault.New(fault.Malformed, "profile-unknown", "no issuing profile of this name exists").About("profile " + en.Profile).At("/credentialPolicyName")
		} else if err != nil {
			return err
		}
	}
	return nil
}

// credentials builds both slots of an entry.
func (e *Engine) credentials(tx Tx, d Draft, was Enrollment, made [2][]byte, now time.Time) ([]Credential, error) {
	if !allowed(d.Kind, d.Attestation.Role) {
		return nil, fault.New(fault.Malformed, "attestation", "%s", wantedRoles(d.Kind)).At("/attestation")
	}
	var out []Credential
	for slot, s := range d.Attestation.Slots {
		c, err := e.credential(tx, d, rotation.Slot(slot), s, was, made[slot], now)
		if err != nil {
			return nil, err
		}
		if c.Role != "" {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Malformed, "attestation", "the attestation names no credential").At("/attestation")
	}
	if len(out) == 2 && out[0].same(out[1]) {
		return nil, fault.New(fault.Malformed, "same-credential", "both slots have the same credential: one of them is for the next one").At("/attestation/" + string(d.Attestation.Role) + "/secondary")
	}
	settleSlots(out, was, now)
	return out, nil
}

// settleSlots says where the credentials of an entry that is being written stand in its
// roll: what stays in it stays where it stood, what is new is staged, and where nothing is
// active any more it is what stood there before, else what is in the first slot. So each
// order of the steps of a roll by PUT alone ends in the same state (scenarios H14).
func settleSlots(list []Credential, was Enrollment, now time.Time) {
	active, first := false, 0
	for i := range list {
		c := &list[i]
		c.State, c.Since = rotation.Staged, now
		for _, before := range was.Credentials {
			if c.same(before) {
				c.State, c.Since, c.SeenAt, c.RetireAt = before.State, before.Since, before.SeenAt, before.RetireAt
			}
		}
		active = active || c.State == rotation.Active
		if !c.Since.Equal(now) {
			first = i
		}
	}
	if !active {
		list[first].State, list[first].RetireAt = rotation.Active, time.Time{}
	}
}

// same says that two slots hold the same credential. A key is the same while its sealed
// form is: a key that is written again is another one.
func (c Credential) same(o Credential) bool {
	return c.Role == o.Role && c.Anchor == o.Anchor && bytes.Equal(c.Certificate, o.Certificate) && bytes.Equal(c.SealedKey, o.SealedKey) &&
		bytes.Equal(c.TPM.Endorsement, o.TPM.Endorsement) && bytes.Equal(c.TPM.StorageRoot, o.TPM.StorageRoot)
}

func allowed(k Kind, r Role) bool {
	if k == Individual {
		return r == RoleClient || r == RoleKey || r == RoleTPM
	}
	return r == RoleSigning || r == RoleCARef || r == RoleKey || r == RoleTPMList || r == RoleTPMCA
}

func wantedRoles(k Kind) string {
	if k == Individual {
		return "an individual enrollment attests with x509.clientCertificates, symmetricKey or tpm"
	}
	return "an enrollment group attests with x509.signingCertificates, x509.caReferences, symmetricKey, or tpm with listed or caReferences"
}

// credential builds one slot; the zero Credential when it stays empty.
func (e *Engine) credential(tx Tx, d Draft, slot rotation.Slot, s SlotDraft, was Enrollment, made []byte, now time.Time) (Credential, error) {
	at := "/attestation/" + string(d.Attestation.Role) + "/" + slot.String()
	kept, had := was.slot(d.Attestation.Role, slot)
	if d.Attestation.Role == RoleKey {
		switch {
		case len(s.Key) == 0 && had:
			return kept, nil
		case len(s.Key) == 0:
			s.Key = made
		case len(s.Key) < 16 || len(s.Key) > 64:
			return Credential{}, fault.New(fault.Malformed, "symmetric-key", "a symmetric key has 16 to 64 bytes").At(at)
		case had && e.holds(d.Owner, kept, s.Key):
			return kept, nil
		}
		sealed := e.box.Seal(keyPurpose(d.Owner, slot), s.Key)
		return Credential{Role: RoleKey, Slot: slot, SealedKey: sealed}, nil
	}
	switch {
	case d.Attestation.Role == RoleTPMList && slot == rotation.Primary:
		return Credential{Role: RoleTPMList, Slot: slot}, nil // it has one list
	case s.IsZero():
		return Credential{}, nil
	case d.Attestation.Role.refers():
		return reference(tx, d.Attestation.Role, s.Anchor, slot, at)
	case d.Attestation.Role == RoleTPM:
		return tpmCredential(s.TPM, slot, at)
	case len(s.Certificate) == 0:
		if len(was.Credentials) == 1 && was.Role() == d.Attestation.Role {
			kept, had = was.Credentials[0], true
		}
		if !had || verify.ThumbprintOf(kept.Certificate) != s.Keep {
			return Credential{}, fault.New(fault.Malformed, "certificate-missing", "the slot holds another certificate than the one described: send the certificate").At(at)
		}
		kept.Slot = slot
		return kept, nil
	}
	cert, err := verify.ParseCertificate(s.Certificate)
	if err != nil {
		return Credential{}, at400(err, at)
	}
	if err := checkEntryCertificate(d, cert.IsCA, cert.Subject.CommonName, at); err != nil {
		return Credential{}, err
	}
	return Credential{Role: d.Attestation.Role, Slot: slot, Certificate: cert.Raw}, nil
}

func at400(err error, pointer string) error {
	if f := fault.As(err); f != nil {
		return f.At(pointer)
	}
	return err
}

// checkEntryCertificate: leaves pin devices and carry their name (scenarios C3, H2,
// X12); only CAs sign for groups.
func checkEntryCertificate(d Draft, isCA bool, cn, at string) error {
	switch {
	case d.Attestation.Role == RoleClient && isCA:
		return fault.New(fault.Malformed, "client-certificate-is-ca", "a CA certificate is not a device credential").At(at)
	case d.Attestation.Role == RoleClient && !d.ID.Matches(cn):
		return fault.New(fault.Malformed, "client-certificate-name", "the certificate's CN is not the registration id").At(at)
	case d.Attestation.Role == RoleSigning && !isCA:
		return fault.New(fault.Malformed, "signing-certificate-not-ca", "the certificate is not a CA").At(at)
	}
	return nil
}

// reference is a slot that names a trust anchor: it must have proved possession
// before it is used (scenarios X6).
func reference(tx Tx, role Role, name string, slot rotation.Slot, at string) (Credential, error) {
	a, err := tx.Anchor(name)
	if fault.Is(err, fault.NotFound) {
		return Credential{}, fault.New(fault.Malformed, "anchor-unknown", "no trust anchor of this name exists").About("anchor " + name).At(at)
	}
	if err != nil {
		return Credential{}, err
	}
	if !a.IsVerified() {
		return Credential{}, fault.New(fault.Malformed, "anchor-not-verified", "the trust anchor has not proved possession of its key").About("anchor " + name).At(at)
	}
	return Credential{Role: role, Slot: slot, Anchor: a.Name()}, nil
}

// slot returns what an entry holds in a slot, if it is of the role.
func (e Enrollment) slot(r Role, s rotation.Slot) (Credential, bool) {
	i := slices.IndexFunc(e.Credentials, func(c Credential) bool { return c.Role == r && c.Slot == s })
	if i < 0 {
		return Credential{}, false
	}
	return e.Credentials[i], true
}
