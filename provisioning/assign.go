package provisioning

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// plan is what one registration will write, made from values alone.
type plan struct {
	next  Registration
	issue *policies.Profile // nil: no certificate
	chain []verify.Link     // the outside chain to keep; nil when unchanged
	twin  *Twin             // to be written; nil when the twin stays
	event audit.Event
	kept  *RetainedRequest // the profile retains requests; without a CSR none is kept
	home  homecoming       // what hubs that live elsewhere are to be told
}

// codeUnassignable is the error code in a failed registration's state (contract
// §2.2); Azure's numbers for these cases are not known.
const codeUnassignable = 400000

// plan decides the outcome for an authenticated device: its hub, its twin, whether
// it gets a certificate, and the registration as it will stand.
func (e *Engine) plan(d *decision, r RegisterRequest, csr *x509.CertificateRequest, now time.Time) (*plan, error) {
	p := &plan{next: d.nextRegistration(r, now)}
	if csr != nil {
		profile, err := d.admitCSR(r, csr)
		if err == nil {
			err = first(e.checkBlocked(d.csrKey, csr), d.checkReuse(profile.KeyReuse), d.attestKey(r.Attempt, csr, profile))
		}
		if err != nil {
			return nil, err
		}
		p.issue = &profile
		p.next.Operation.Digest = sha256.Sum256(csr.Raw)
	}
	d.assign(p, r, now)
	if p.next.State == Failed {
		p.issue = nil
	}
	e.attested(d, p, now)
	if err := e.takeTPM(d, r.Attempt); err != nil {
		return nil, err
	}
	d.comeHome(p, now)
	if p.issue == nil { // else when the certificate stands in its slot
		d.conclude(p, r, now)
	}
	return p, nil
}

// conclude dates and tells what the registration has come to.
func (d *decision) conclude(p *plan, r RegisterRequest, now time.Time) {
	d.schedule(p, now)
	p.event = d.event(r, p.next, p.issue != nil, now)
}

// nextRegistration carries over what a registration keeps for its whole life.
func (d *decision) nextRegistration(r RegisterRequest, now time.Time) Registration {
	next := Registration{ID: r.ID, Spelled: r.Spelled, Created: now, Version: 0}
	if d.facts.Registration != nil {
		next = *d.facts.Registration
	}
	next.Version++
	next.Updated = now
	next.Owner = d.entry.Owner
	next.Mechanism = d.identity.Mechanism()
	next.Payload, next.Returned = r.Payload, nil
	next.ErrorCode, next.ErrorMessage = 0, ""
	next.Operation = OperationRecord{ID: newID(), At: now}
	return next
}

// admitCSR applies the issuing profile of the entry to a CSR. What it says is told
// to the device: it has proved who it is.
func (d *decision) admitCSR(r RegisterRequest, csr *x509.CertificateRequest) (policies.Profile, error) {
	profile, err := d.profile(r)
	if err != nil {
		return profile, err
	}
	if err := policies.CheckCSR(profile, csr, d.identity.ID().String()); err != nil {
		return policies.Profile{}, err
	}
	if by := d.csrKeyDisallowed(); by != nil {
		return policies.Profile{}, fault.New(fault.Malformed, "key-disallowed", "the key in the CSR is disallowed; make a new one").About(by.object()).At("/csr")
	}
	return profile, nil
}

// csrKeyDisallowed is the disallowance of the request's key, nil when there is none.
func (d *decision) csrKeyDisallowed() *Disallowance {
	for i, x := range d.facts.Disallowances {
		if x.Key && verify.KeyHash(x.Digest) == d.csrKey {
			return &d.facts.Disallowances[i]
		}
	}
	return nil
}

// profile is the issuing profile of the entry. A device that names one must name that.
func (d *decision) profile(r RegisterRequest) (policies.Profile, error) {
	if d.entry.Profile == "" {
		return policies.Profile{}, fault.New(fault.Malformed, "no-issuing-profile", "the enrollment has no issuing profile (credentialPolicyName), so no certificate can be asked for").About(d.entry.String()).At("/csr")
	}
	if r.Profile != "" && r.Profile != d.entry.Profile {
		return policies.Profile{}, d.otherProfile()
	}
	p, there := d.issuing()
	if !there {
		return policies.Profile{}, fault.New(fault.Unavailable, "profile-missing", "the enrollment's issuing profile does not exist").About("profile " + d.entry.Profile)
	}
	return p, nil
}

// issuing is the issuing profile of the entry, where it is among the facts.
func (d *decision) issuing() (policies.Profile, bool) {
	for i := range d.facts.Profiles {
		if p := &d.facts.Profiles[i]; p.Name == d.entry.Profile {
			return p.Profile, true
		}
	}
	return policies.Profile{}, false
}

func (d *decision) otherProfile() error {
	return fault.New(fault.Forbidden, "profile-not-allowed", "the device's enrollment has another issuing profile than the one asked for").About(d.entry.String())
}

// assign chooses the hub and what happens to the twin (contract §6.5 to 6.7).
func (d *decision) assign(p *plan, r RegisterRequest, now time.Time) {
	next := &p.next
	move, twin, err := d.move(r, next.Hub)
	if err != nil {
		if r.HubOptional {
			next.State, next.Substatus = Unassigned, ""
			return
		}
		d.fail(p, fault.As(err))
		return
	}
	if alias, taken := d.alias(move.Hub); taken {
		d.fail(p, fault.New(fault.Conflict, "device-id-taken", "the device id is taken on this hub").About("registration "+alias.ID.String()))
		return
	}
	next.State, next.Hub, next.Substatus, next.DeviceID = Assigned, move.Hub, move.Substatus, d.deviceID(*next, move.Hub)
	if d.webhook != nil {
		next.Returned = d.webhook.answer.Payload
		if own := d.webhook.answer.InitialTwin; own != nil {
			twin, move.Twin = own, overMigration(move.Twin)
		}
	}
	switch move.Twin {
	case policies.TwinInitial:
		if twin != nil {
			p.twin = initialTwin(twin, now)
		}
	case policies.TwinReset:
		p.twin = initialTwin(twin, now)
	case policies.TwinKeep, policies.TwinMigrate: // built-in hubs share one table of twins
	}
}

// move is where the device goes, and the twin that it begins with there.
func (d *decision) move(r RegisterRequest, current string) (policies.Move, []byte, error) {
	if d.isQuarantined() {
		move, twin := d.confine()
		return move, twin, nil
	}
	hub, why, err := d.allocate(r)
	stays := d.stays()
	if err != nil && !stays {
		return policies.Move{}, nil, err
	}
	move := d.entry.Reprovision.Decide(current, hub)
	if stays {
		why = "the reprovision policy keeps the device where it is"
	}
	d.trace.note("allocation", "hub "+move.Hub, why)
	return move, d.entry.InitialTwin, nil
}

// overMigration is what becomes of a twin when the webhook has brought one: it goes before
// the one that would migrate (contract §4.7). A device that stays on its hub keeps its own.
func overMigration(act policies.TwinAct) policies.TwinAct {
	if act == policies.TwinMigrate {
		return policies.TwinReset
	}
	return act
}

// stays says that the reprovision policy keeps the device on its hub: nothing is
// allocated.
func (d *decision) stays() bool {
	reg := d.facts.Registration
	return reg != nil && reg.Hub != "" && !d.entry.Reprovision.UpdateHubAssignment
}

// allocate chooses the hub. Nobody is asked here: what a webhook had to say is in the
// decision.
func (d *decision) allocate(r RegisterRequest) (hub, why string, err error) {
	place := policies.Placement{Key: r.ID.String()}
	if d.facts.Registration != nil {
		place.Current = d.facts.Registration.Hub
	}
	switch d.entry.Allocation {
	case policies.GeoLatency:
		place.Location = d.location(r.Payload, place.Current)
	case policies.Custom:
		if d.webhook == nil {
			return "", "", nil // the device stays, or this is no registration but explain
		}
		if d.webhook.err != nil {
			return "", "", d.webhook.err
		}
		place.Named = d.webhook.answer.Hub
	}
	return policies.Allocate(d.entry.Allocation, place, d.candidates())
}

// location is where the device is (scenarios X8): where its operator says in the entry's
// initial twin, else where it says itself in its payload, else where its hub is.
func (d *decision) location(payload []byte, current string) string {
	var twin struct{ Tags located }
	_ = json.Unmarshal(d.entry.InitialTwin, &twin) // a location of another kind is none
	var said located
	_ = json.Unmarshal(payload, &said)
	i := slices.IndexFunc(d.facts.Hubs, func(h Hub) bool { return strings.EqualFold(h.Name, current) })
	if i < 0 {
		return cmp.Or(twin.Tags.Location, said.Location)
	}
	return cmp.Or(twin.Tags.Location, said.Location, d.facts.Hubs[i].Location)
}

// located is anything with a location.
type located struct{ Location string }

// claimsAlias says whether the registration takes a device id other than its own id
// that it did not have on this hub before.
func (p *plan) claimsAlias(was *Registration) bool {
	if p.next.State != Assigned && p.next.State != Assigning || p.next.ID.Matches(p.next.DeviceID) {
		return false
	}
	return was == nil || was.Hub != p.next.Hub || was.DeviceID != p.next.DeviceID
}

func (d *decision) fail(p *plan, f *fault.Error) {
	p.next.State, p.next.Substatus = Failed, ""
	p.next.ErrorCode, p.next.ErrorMessage = codeUnassignable, f.Detail
	if d.webhook != nil && d.webhook.answer.Code != 0 {
		p.next.ErrorCode = d.webhook.answer.Code
	}
	d.trace.note(f.Rule, f.Object, f.Detail)
}

// candidates are the linked hubs the entry allows.
func (d *decision) candidates() []policies.Candidate {
	out := make([]policies.Candidate, 0, len(d.facts.Hubs))
	for _, h := range d.facts.Hubs {
		if len(d.entry.Hubs) == 0 || slices.ContainsFunc(d.entry.Hubs, func(n string) bool { return strings.EqualFold(n, h.Name) }) {
			out = append(out, policies.Candidate{Hub: h.Name, Location: h.Location, Weight: h.Weight, Draining: h.Draining})
		}
	}
	return out
}

func (d *decision) alias(hub string) (Alias, bool) {
	i := slices.IndexFunc(d.facts.Aliases, func(a Alias) bool { return strings.EqualFold(a.Hub, hub) })
	if i < 0 {
		return Alias{}, false
	}
	return d.facts.Aliases[i], true
}

// deviceID is the id on the hub (contract §6.6): the entry's own, or the registration
// id as the device first spelled it. Hubs may tell ids apart by case: one that the device has
// there keeps its spelling.
func (d *decision) deviceID(next Registration, hub string) string {
	id := cmp.Or(d.entry.DeviceID, next.Spelled)
	if strings.EqualFold(next.Hub, hub) && strings.EqualFold(next.DeviceID, id) {
		return next.DeviceID
	}
	return id
}

// attested records what proved the device: first use of a staged certificate promotes
// it; outside evidence is kept so that a later renewal still rests on it.
func (e *Engine) attested(d *decision, p *plan, now time.Time) {
	next := &p.next
	path := d.identity.Path()
	if d.rebases(now) && e.revives(d) {
		next.Pair = rotation.Pair{}
	}
	switch {
	case d.own:
		next.Pair = next.Pair.Seen(rotation.Ref(path[0].Thumbprint), now, d.rotation().Overlap)
	case len(path) == 0:
		next.Leaf, next.LeafKey, next.Chain = verify.Thumbprint{}, d.key.hash, 0
	default:
		next.Leaf, next.LeafKey = path[0].Thumbprint, path[0].KeyHash
		next.Chain = chainID(path[1:])
		p.chain = path[1:]
		if next.Chain == 0 {
			p.chain = nil
		}
	}
}

// schedule says when the planner looks at the device's certificates next. While the pair
// stays as it is, so does that.
func (d *decision) schedule(p *plan, now time.Time) {
	was := d.facts.Registration
	if was != nil && p.next.Pair == was.Pair {
		return
	}
	p.next.DueAt = laterHour(p.next.Pair.Due(d.rotation()), now)
	switch {
	case was == nil:
	case len(p.next.Pair.Left(was.Pair)) > 0:
		p.next.DueAt = now
	case !was.DueAt.IsZero() && !was.DueAt.After(now):
		p.next.DueAt = was.DueAt // what it was due for has not been done yet
	}
}

// laterHour puts off what is more than two days away to the full hour, so that the index of
// what is due is written on neighbouring pages (store design §1).
func laterHour(due, now time.Time) time.Time {
	if due.Sub(now) < 48*time.Hour {
		return due
	}
	return due.Add(time.Hour - 1).Truncate(time.Hour)
}

// rotation is the rule by which the device's certificates roll.
func (d *decision) rotation() policies.RotationPolicy {
	if p, there := d.issuing(); there {
		return p.Renewal
	}
	return policies.DefaultRotationPolicy()
}

// grace is how long past its end the certificate being renewed may be; nothing else
// that a certificate is shown for has any.
func (d *decision) grace() time.Duration {
	if !d.renewal {
		return 0
	}
	p, _ := d.issuing()
	return p.Renewal.Grace
}

// stage puts the signed certificate into the device's standby slot.
func (p *plan) stage(u ca.Unrecorded) (err error) {
	p.next.Pair, err = p.next.Pair.Stage(rotation.Ref(u.Thumbprint()), u.NotBefore(), u.NotAfter())
	p.next.Certificate = CertificateRef{Issuer: u.Issuer(), Serial: u.Serial()}
	return err
}

// chainID is the first 8 bytes of the digest over the links' thumbprints; 0 for none.
func chainID(links []verify.Link) ChainID {
	if len(links) == 0 {
		return 0
	}
	h := sha256.New()
	for _, l := range links {
		h.Write(l.Thumbprint[:])
	}
	return ChainID(binary.BigEndian.Uint64(h.Sum(nil)) | 1) // never 0
}

// knownChains remembers which chains are on record, to spare a statement per
// registration. Rows of chains are never deleted; forgetting one costs a statement.
type knownChains struct {
	mu  sync.Mutex
	ids map[ChainID]struct{}
}

func (k *knownChains) has(id ChainID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.ids[id]
	return ok
}

func (k *knownChains) add(id ChainID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil || len(k.ids) >= maxHeld {
		k.ids = make(map[ChainID]struct{})
	}
	k.ids[id] = struct{}{}
}
