package provisioning_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/verify"
)

// newSchema is a PostgreSQL database.
func newSchema(t testing.TB) store.Engine {
	t.Helper()
	e, err := postgres.Open(t.Context(), testpg.DSN(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// onBoth runs a test on an empty database of each kind.
func onBoth(t *testing.T, f func(*testing.T, store.Engine)) {
	t.Run("sqlite", func(t *testing.T) { f(t, newFile(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, newSchema(t)) })
}

func shelf(t testing.TB, dir string) *seal.Shelf {
	t.Helper()
	s, err := seal.OpenShelf(dir, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ending is a store whose context ends after a number of Updates: a process that is killed.
type ending struct {
	provisioning.Store
	left int
	end  context.CancelFunc
}

func (e *ending) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	err := e.Store.Update(ctx, f)
	if e.left--; e.left == 0 {
		e.end()
	}
	return err
}

// secrets is a world with some of everything that is sealed.
type secrets struct {
	*world
	engine store.Engine
	keys   map[string][]byte // primary keys of individual enrollments
	group  verify.Secret     // of the group "line"
}

const sealedDevices = 130 // more than a page

func newSecrets(t *testing.T, database store.Engine, box *seal.Box) *secrets {
	s := &secrets{world: newWorldOn(t, database, box), engine: database, keys: map[string][]byte{}}
	for n := range sealedDevices {
		name := fmt.Sprintf("dev-%03d", n)
		key, err := s.key(name)
		s.must(err)
		s.keys[name] = key
	}
	s.group = verify.NewSecret(s.keyed(provisioning.Group, "line"))
	for plane, name := range map[provisioning.Plane]string{provisioning.ServicePlane: provisioning.ServiceOwner, provisioning.HubPlane: provisioning.HubOwner} {
		rights := policies.AllServiceRights
		if plane == provisioning.HubPlane {
			rights = policies.AllHubRights
		}
		_, err := s.world.engine.PutAccess(s.ctx, "operator:test", plane, name, rights, provisioning.Precondition{})
		s.must(err)
	}
	_, err := s.world.engine.PutHubDevice(s.ctx, "operator:test", provisioning.HubDraft{Hub: builtIn, ID: id(s.world, "of-the-hub"), Spelled: "of-the-hub",
		Auth: &provisioning.HubAuth{Type: provisioning.HubSAS}}, provisioning.Precondition{})
	s.must(err)
	s.responder(box)
	s.webhooks("asking-1", "asking-2")
	_, _, err = s.world.engine.PutSubscription(s.ctx, "operator:test", provisioning.SubscriptionDraft{Name: "siem", URL: "https://siem.example.net/?code=1", Enabled: true}, provisioning.Precondition{})
	s.must(err)
	m := newMachine(s.world, "with-a-tpm")
	m.enrolled()
	m.registers()
	_, _, err = s.world.engine.LinkHub(s.ctx, "operator:test", provisioning.Hub{Name: elsewhere, Driver: hubwebhook.Name}, "https://hub.example.net/?code=1", provisioning.Precondition{})
	s.must(err)
	return s
}

// key makes an enrollment with a symmetric key, without a look at all invariants.
func (s *secrets) key(name string) ([]byte, error) {
	owner := provisioning.Owner{Kind: provisioning.Individual, ID: id(s.world, name)}
	_, _, err := s.world.engine.Put(s.ctx, "operator:test", provisioning.Draft{
		Owner: owner, Spelled: name, Enabled: true, Attestation: provisioning.Attestation{Role: provisioning.RoleKey},
		Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(), Profile: "default",
	}, provisioning.Precondition{})
	if err != nil {
		return nil, err
	}
	keys, err := s.world.engine.Keys(s.ctx, "operator:test", owner)
	return keys[0], err
}

const webhookKey = "?code=a-key-of-a-webhook"

// webhooks makes groups that have one, with a key in its address.
func (s *secrets) webhooks(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.keyed(provisioning.Group, name, func(d *provisioning.Draft) {
			d.Custom = provisioning.CustomAllocation{URL: "https://alloc.example.net/" + name + webhookKey, APIVersion: "2021-10-01"}
		})
	}
}

// stored is a group's webhook as it stands in its row.
func (s *secrets) stored(name string) provisioning.SealedValue {
	s.t.Helper()
	v := provisioning.SealedValue{Place: provisioning.SealedWebhooks, Key: []string{"1", name}}
	s.must(s.db.Provisioning().View(s.ctx, func(tx provisioning.Tx) error {
		en, err := tx.Enrollment(s.groupNamed(name))
		v.Sealed = en.SealedWebhook
		return err
	}))
	return v
}

func (s *secrets) groupNamed(name string) provisioning.Owner {
	return provisioning.Owner{Kind: provisioning.Group, ID: id(s.world, name)}
}

// stores puts other bytes in the place of a group's webhook.
func (s *secrets) stores(name string, bytes []byte) {
	s.t.Helper()
	was := s.stored(name)
	s.must(s.db.Provisioning().Update(s.ctx, func(tx provisioning.Tx) error { return tx.Reseal(was, bytes) }))
}

// reads fails unless the engine answers with the group's webhook.
func (s *secrets) reads(name, url, version string) {
	s.t.Helper()
	want := provisioning.CustomAllocation{URL: url, APIVersion: version}
	en, err := s.world.engine.Enrollment(s.ctx, s.groupNamed(name))
	s.must(err)
	list, err := s.world.engine.Enrollments(s.ctx, provisioning.EnrollmentFilter{Kind: provisioning.Group, Prefix: name, Limit: 1})
	s.must(err)
	if en.Custom != want || len(list) != 1 || list[0].Custom != want {
		s.t.Errorf("the webhook of %s is %+v, in a list %+v", name, en.Custom, list)
	}
}

// responder gives the issuing CA an OCSP responder, whose key is sealed too.
func (s *secrets) responder(box *seal.Box) {
	s.t.Helper()
	issuers, err := s.authority.Issuers(s.ctx)
	s.must(err)
	issuer := string(issuers[len(issuers)-1].ID)
	const insert = "INSERT INTO ocsp_responders (issuer, certificate, sealed_key, not_after) VALUES "
	s.must(s.engine.Update(s.ctx, store.Jobs, func(c store.Conn) error {
		return c.Exec(&store.Stmt{Text: insert + "(?, ?, ?, ?)", Numbered: insert + "($1, $2, $3, $4)"},
			issuer, []byte("certificate"), box.Seal("ocsp_responders|"+issuer+"|key", []byte("the key of a responder")), int64(1))
	}))
}

// values is everything that is sealed.
func (s *secrets) values() (all []provisioning.SealedValue) {
	s.t.Helper()
	s.must(s.db.Provisioning().View(s.ctx, func(tx provisioning.Tx) error {
		all = nil
		for _, place := range provisioning.SealedPlaces() {
			page, err := tx.SealedByOthers(place, seal.KEKID{}, nil, 10000)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				s.t.Errorf("nothing is sealed in place %d: the test does not see it", place)
			}
			all = append(all, page...)
		}
		return nil
	}))
	return all
}

// registers registers one device with its own key and one of the group.
func (s *secrets) registers(n int) error {
	name := fmt.Sprintf("dev-%03d", n%sealedDevices)
	attempts := []provisioning.Attempt{s.signing(name, s.keys[name])}
	member := fmt.Sprintf("member-%03d", n%sealedDevices)
	attempts = append(attempts, s.signing(member, verify.DeriveKey(s.group, member).Reveal()))
	for _, a := range attempts {
		if _, err := s.world.engine.Register(s.ctx, provisioning.RegisterRequest{Attempt: a}); err != nil {
			return fmt.Errorf("registering %s: %w", a.Spelled, err)
		}
	}
	return nil
}

// TestAKEKIsReplacedUnderLoad is INV-K3: devices register and operators write while every
// secret is sealed anew, which is cut short once, and nothing is left under the old KEK.
func TestAKEKIsReplacedUnderLoad(t *testing.T) {
	onBoth(t, func(t *testing.T, database store.Engine) {
		dir := t.TempDir()
		keks := shelf(t, dir)
		s := newSecrets(t, database, keks.Box())
		cursor := s.world.engine.Cursor("devices", "dev-007")

		load, stop := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for worker := range 2 {
			callers.Go(func() {
				for n := worker; load.Err() == nil; n += 2 {
					if err := s.registers(n); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		callers.Go(func() {
			for n := 0; load.Err() == nil; n++ {
				if _, err := s.key(fmt.Sprintf("new-%05d", n)); err != nil {
					t.Errorf("making an enrollment: %v", err)
				}
				_, err := s.world.engine.RollAccessKey(s.ctx, "operator:test", provisioning.ServicePlane, provisioning.ServiceOwner, rotation.Slot(n%2), true, provisioning.Precondition{})
				if err != nil && !fault.Is(err, fault.PreconditionFailed) {
					t.Errorf("rolling a key: %v", err)
				}
			}
		})

		sealing, old, err := keks.Rotate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		jobs := s.db.ProvisioningJobs()
		short, end := context.WithCancel(t.Context())
		done, err := provisioning.Rewrap(short, &ending{jobs, 1, end}, keks.Box(), testkit.Now())
		if done == 0 || err == nil {
			t.Fatalf("a run that was cut short: %d values, %v", done, err)
		}
		left, err := provisioning.SealedByOthers(t.Context(), jobs, sealing)
		if err != nil || left == 0 {
			t.Fatalf("after a run that was cut short %d values are left, %v", left, err)
		}
		// What a caller had sealed before the rotation may be committed after this run.
		rest, err := provisioning.Rewrap(t.Context(), jobs, keks.Box(), testkit.Now())
		if err != nil || rest == 0 {
			t.Fatalf("resumed: %d values, %v", rest, err)
		}
		stop()
		callers.Wait()
		if _, err := provisioning.Rewrap(t.Context(), jobs, keks.Box(), testkit.Now()); err != nil {
			t.Fatal(err)
		}
		if left, err = provisioning.SealedByOthers(t.Context(), jobs, sealing); err != nil || left != 0 {
			t.Fatalf("%d values are left under the old key, %v", left, err)
		}
		file, err := keks.Retire()
		if err != nil {
			t.Fatal(err)
		}

		retired, err := seal.LoadKEK(file, nil)
		if err != nil || retired.ID() != old {
			t.Fatalf("the retired key is %s, %v; want %s", retired.ID(), err, old)
		}
		for _, v := range s.values() {
			if seal.KEKID(v.Sealed[:8]) != sealing {
				t.Errorf("%v is under another key", v.Key)
			}
			if _, err := seal.NewBox(retired).Open("any", v.Sealed); fault.RuleOf(err) != "sealed-by-other-key" {
				t.Errorf("%v: the old key alone: %v", v.Key, err)
			}
		}
		if after, err := s.world.engine.AfterCursor("devices", cursor); err != nil || after != "dev-007" {
			t.Errorf("a page of before: %q, %v", after, err)
		}
		entries, err := s.world.engine.Ledger(s.ctx, provisioning.LedgerFilter{Action: audit.SecretsRewrapped, Limit: 10})
		if err != nil || len(entries) == 0 {
			t.Errorf("the ledger has %d runs, %v", len(entries), err)
		}

		// Another process, with the keys that are in the folder now, serves everybody.
		s.restart(shelf(t, dir).Box())
		for n := range sealedDevices {
			if err := s.registers(n); err != nil {
				t.Error(err)
			}
		}
		for _, plane := range []provisioning.Plane{provisioning.ServicePlane, provisioning.HubPlane} {
			name := map[provisioning.Plane]string{provisioning.ServicePlane: provisioning.ServiceOwner, provisioning.HubPlane: provisioning.HubOwner}[plane]
			if _, err := s.world.engine.AccessKeys(s.ctx, "operator:test", plane, name); err != nil {
				t.Errorf("keys of %s: %v", name, err)
			}
		}
		if d, err := s.world.engine.HubDevice(s.ctx, builtIn, id(s.world, "of-the-hub"), "operator:test"); err != nil || d.Auth.Keys[1].IsZero() {
			t.Errorf("the keys of a hub's device: %v", err)
		}
	})
}

// restart replaces the engine by one with another box, on the same database.
func (s *secrets) restart(box *seal.Box) {
	s.world.engine = provisioning.New(provisioning.Config{
		IDScope: scope, Store: store.New(s.engine).Provisioning(), Authority: s.authority, Box: box, Now: s.now, Log: slog.New(slog.DiscardHandler),
	})
}

func TestAServerOpensWhatOneThatRotatedBeforeItHasSealed(t *testing.T) {
	onBoth(t, func(t *testing.T, database store.Engine) {
		dir := t.TempDir()
		slow, quick := shelf(t, dir), shelf(t, dir)
		s := newSecrets(t, database, slow.Box())
		if _, err := quick.Prepare(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := quick.Rotate(time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := provisioning.Rewrap(t.Context(), s.db.ProvisioningJobs(), quick.Box(), testkit.Now()); err != nil {
			t.Fatal(err)
		}
		if err := s.registers(1); err != nil { // nobody has told it
			t.Error(err)
		}
		if slow.Box().Sealing() != quick.Box().Sealing() {
			t.Error("it goes on sealing under the old key")
		}
	})
}

func TestAValueThatDoesNotOpenIsLeftAndNamed(t *testing.T) {
	onBoth(t, func(t *testing.T, database store.Engine) {
		dir := t.TempDir()
		keks := shelf(t, dir)
		s := newSecrets(t, database, keks.Box())
		all := s.values()
		s.must(s.db.Provisioning().Update(s.ctx, func(tx provisioning.Tx) error { // as if it were another row's
			return tx.Reseal(all[3], all[4].Sealed)
		}))
		sealing, _, err := keks.Rotate(time.Now())
		s.must(err)
		done, err := provisioning.Rewrap(s.ctx, s.db.ProvisioningJobs(), keks.Box(), testkit.Now())
		if done != len(all)-1 || fault.RuleOf(err) != "sealed-value-broken" {
			t.Errorf("%d of %d values, %v", done, len(all), err)
		}
		if left, err := provisioning.SealedByOthers(s.ctx, s.db.ProvisioningJobs(), sealing); err != nil || left != 1 {
			t.Errorf("%d values are left, %v: the old key must stay", left, err)
		}
	})
}
