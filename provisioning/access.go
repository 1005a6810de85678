package provisioning

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Plane is the door that a shared access policy opens.
type Plane string

// The planes: the provisioning service's API, and the registry of the built-in hubs.
const (
	ServicePlane Plane = "service"
	HubPlane     Plane = "hub"
)

// Names of the policies that a new id scope has.
const (
	ServiceOwner = "provisioningserviceowner"
	HubOwner     = "iothubowner"
)

// AccessPolicy is a shared access policy: a name, what it grants, and two keys that sign
// tokens (protocols/dps.md §1.2, §4). Names are compared without regard to case.
type AccessPolicy struct {
	Plane      Plane
	Name       string
	Rights     policies.Rights
	SealedKeys [2][]byte // by rotation.Slot, each sealed for this very row and slot
	Keys       [2]AccessKey
	Created    time.Time
	Updated    time.Time
	Version    int64
}

// AccessKey is where a key of a policy stands in its roll.
type AccessKey struct {
	Since time.Time // when it was made
	Used  time.Time // when it last admitted somebody, to some minutes; zero: never
}

// AccessTx is what provisioning reads and writes of shared access policies.
type AccessTx interface {
	AccessPolicy(plane Plane, name string) (AccessPolicy, error)
	// AccessPolicies lists all, by plane and name.
	AccessPolicies() ([]AccessPolicy, error)
	InsertAccessPolicy(AccessPolicy) error
	UpdateAccessPolicy(p AccessPolicy, was int64) error
	DeleteAccessPolicy(plane Plane, name string, version int64) error
}

// Caller is whoever holds a token of a shared access policy.
type Caller struct {
	Plane  Plane
	Policy string
	Rights policies.Rights
}

// Actor is the caller's name in the ledger.
func (c Caller) Actor() string { return "policy:" + string(c.Plane) + "/" + c.Policy }

// AccessRequest is a request that carries a token of a shared access policy. The token
// must be for one of the hosts, with or without a port, and may be narrowed to segments
// that the path begins with.
type AccessRequest struct {
	Plane Plane
	Token verify.SASToken
	Hosts []string
	Path  string // of the request, "/enrollments/dev1"
}

// accessKeySize is that of the keys made for policies, as in Azure.
const accessKeySize = 32

// Admit says who a token's bearer is, from the policy's row as it stands now (INV-T1).
// Every refusal is Unauthenticated: "sas-other-resource", "sas-key-name" when there is no
// such policy, and those of [verify.SASToken.Verify].
func (e *Engine) Admit(ctx context.Context, r AccessRequest) (Caller, error) {
	if !r.forItself() {
		return Caller{}, fault.New(fault.Unauthenticated, "sas-other-resource", "the token is for another host or path")
	}
	var p AccessPolicy
	err := e.store.View(ctx, func(tx Tx) (err error) {
		p, err = tx.AccessPolicy(r.Plane, strings.ToLower(r.Token.KeyName()))
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return Caller{}, fault.New(fault.Unauthenticated, "sas-key-name", "there is no shared access policy of that name")
	}
	if err != nil {
		return Caller{}, err
	}
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		raw, err := e.box.Open(accessPurpose(p, slot), p.SealedKeys[slot])
		if err != nil {
			return Caller{}, err
		}
		now := e.now()
		if err = r.Token.Verify(verify.NewSecret(raw), now); err == nil {
			e.uses.note(keyUse{p.Plane, p.Name, slot, p.Keys[slot].Since}, now)
			return Caller{Plane: p.Plane, Policy: p.Name, Rights: p.Rights}, nil
		} else if fault.RuleOf(err) != "sas-signature" {
			return Caller{}, err
		}
	}
	return Caller{}, fault.New(fault.Unauthenticated, "sas-signature", "the token is signed with neither key of the policy")
}

// forItself says whether the request's token is for this very request.
func (r AccessRequest) forItself() bool {
	host, path := r.Token.Target()
	if !slices.ContainsFunc(r.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return false
	}
	asked := strings.ToLower(strings.TrimPrefix(r.Path, "/"))
	return path == "" || asked == path || strings.HasPrefix(asked, path+"/")
}

// PutAccess creates a policy, with two new keys, or changes what one grants. It is
// Malformed when the name or the rights do not fit the plane.
func (e *Engine) PutAccess(ctx context.Context, actor string, plane Plane, name string, rights policies.Rights, pre Precondition) (AccessPolicy, error) {
	now := e.now()
	p := AccessPolicy{Plane: plane, Name: strings.ToLower(name), Rights: rights, Created: now, Updated: now, Version: firstVersion(now)}
	if err := checkAccess(p); err != nil {
		return p, err
	}
	for slot := range p.SealedKeys {
		p.SealedKeys[slot], p.Keys[slot] = e.newAccessKey(p, rotation.Slot(slot)), AccessKey{Since: now}
	}
	err := e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.AccessPolicy(p.Plane, p.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		action := audit.AccessCreated
		if was.Version == 0 {
			err = tx.InsertAccessPolicy(p)
		} else {
			action = audit.AccessUpdated
			p.SealedKeys, p.Keys, p.Created, p.Version = was.SealedKeys, was.Keys, was.Created, was.Version+1
			err = tx.UpdateAccessPolicy(p, was.Version)
		}
		return first(err, tx.Append(accessEvent(actor, action, p, now)))
	})
	return p, err
}

// RollAccessKey replaces one key of a policy: tokens signed with it are refused from the
// commit on, those of the other key go on. Without force it is refused while the key was
// used within the last 24 hours, as far as is known: Conflict, rule "key-in-use".
func (e *Engine) RollAccessKey(ctx context.Context, actor string, plane Plane, name string, slot rotation.Slot, force bool, pre Precondition) (AccessPolicy, error) {
	now, uses := e.now(), e.uses.all()
	var p AccessPolicy
	err := e.store.Update(ctx, func(tx Tx) (err error) {
		if err := writeUses(tx, uses); err != nil {
			return err
		}
		if p, err = tx.AccessPolicy(plane, strings.ToLower(name)); err != nil {
			return err
		}
		if pre != (Precondition{}) {
			if err := pre.check(p.Version); err != nil {
				return err
			}
		}
		if used := p.Keys[slot].Used; !force && now.Before(used.Add(keyOverlap(nil))) {
			return fault.New(fault.Conflict, "key-in-use", "a client signed in with this key at %s and would be refused: force it if that is meant", used.Format(time.RFC3339)).
				About("access policy " + p.Name)
		}
		p, err = e.renewAccessKey(tx, p, slot, actor, keyByOperator, now)
		return err
	})
	return p, err
}

// renewAccessKey writes a policy with a new key in a slot.
func (e *Engine) renewAccessKey(tx Tx, p AccessPolicy, slot rotation.Slot, actor string, reason rotation.Reason, now time.Time) (AccessPolicy, error) {
	was := p.Version
	p.SealedKeys[slot], p.Keys[slot], p.Updated, p.Version = e.newAccessKey(p, slot), AccessKey{Since: now}, now, was+1
	event := accessEvent(actor, audit.AccessKeyRolled, p, now)
	event.Body = audit.Body(map[string]any{"slot": slot.String(), "reason": string(reason)})
	return p, first(tx.UpdateAccessPolicy(p, was), tx.Append(event))
}

// DeleteAccess removes a policy; its tokens are refused from the commit on.
func (e *Engine) DeleteAccess(ctx context.Context, actor string, plane Plane, name string, pre Precondition) error {
	now := e.now()
	return e.store.Update(ctx, func(tx Tx) error {
		p, err := tx.AccessPolicy(plane, strings.ToLower(name))
		if err != nil {
			return err
		}
		if err := pre.check(p.Version); err != nil {
			return err
		}
		return first(tx.DeleteAccessPolicy(p.Plane, p.Name, p.Version), tx.Append(accessEvent(actor, audit.AccessDeleted, p, now)))
	})
}

// AccessPolicies lists the policies by plane and name, their keys sealed.
func (e *Engine) AccessPolicies(ctx context.Context) (list []AccessPolicy, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.AccessPolicies()
		return err
	})
	return list, err
}

// AccessPolicy reads one policy, its keys sealed.
func (e *Engine) AccessPolicy(ctx context.Context, plane Plane, name string) (p AccessPolicy, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		p, err = tx.AccessPolicy(plane, strings.ToLower(name))
		return err
	})
	return p, err
}

// AccessKeys reveals both keys of a policy. Reading them is audited (INV-K5).
func (e *Engine) AccessKeys(ctx context.Context, actor string, plane Plane, name string) (keys [2][]byte, err error) {
	now := e.now()
	err = e.store.Update(ctx, func(tx Tx) error {
		p, err := tx.AccessPolicy(plane, strings.ToLower(name))
		if err != nil {
			return err
		}
		for slot := range keys {
			if keys[slot], err = e.box.Open(accessPurpose(p, rotation.Slot(slot)), p.SealedKeys[slot]); err != nil {
				return err
			}
		}
		return tx.Append(accessEvent(actor, audit.KeysRead, p, now))
	})
	return keys, err
}

func checkAccess(p AccessPolicy) error {
	all := map[Plane]policies.Rights{ServicePlane: policies.AllServiceRights, HubPlane: policies.AllHubRights}[p.Plane]
	switch {
	case all == 0:
		return fault.New(fault.Malformed, "access-plane", "a shared access policy is of the plane service or hub").At("/plane")
	case p.Name == "" || len(p.Name) > 64 || strings.ContainsFunc(p.Name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}):
		return fault.New(fault.Malformed, "access-name", "a policy's name has 1 to 64 letters, digits and - . _").At("/name")
	case p.Rights == 0 || p.Rights&^all != 0:
		return fault.New(fault.Malformed, "access-rights", "the %s plane grants %s", p.Plane, all).At("/rights")
	}
	return nil
}

func (e *Engine) newAccessKey(p AccessPolicy, slot rotation.Slot) []byte {
	var key [accessKeySize]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return e.box.Seal(accessPurpose(p, slot), key[:])
}

func accessPurpose(p AccessPolicy, slot rotation.Slot) string {
	return "access_policies|" + string(p.Plane) + "|" + p.Name + "|" + slot.String()
}

func accessEvent(actor string, action audit.Action, p AccessPolicy, now time.Time) audit.Event {
	return audit.Event{At: now, Actor: actor, Action: action, Subject: "access:" + string(p.Plane) + "/" + p.Name,
		Body: audit.Body(map[string]any{"rights": p.Rights.String()})}
}
