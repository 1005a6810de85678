package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/api/admin"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// memoryHubs is a driver of one hub in memory.
type memoryHubs struct{ *hubtest.Registry }

func (memoryHubs) Traits() provisioning.HubTraits { return provisioning.HubTraits{Batch: 1} }

func (memoryHubs) Endpoint(address string) (string, error) { return address, nil }

func (memoryHubs) Test(context.Context, provisioning.HubAccess) error { return nil }

// From the command line: what a hub holds otherwise is shown, put right, and looked at again.
func TestAHubIsCheckedAndRepairedFromTheCommandLine(t *testing.T) {
	hub := memoryHubs{hubtest.NewRegistry()}
	h := houseOf(t, hub)
	const name = "iot.example.net"
	_, _, err := h.engine.LinkHub(t.Context(), "operator:test", provisioning.Hub{Name: name, Driver: "memory", Weight: 1}, "https://iot.example.net", provisioning.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	h.registers(t, "press-1", "press-2", "press-3")
	says := func(code int, args []string, want ...string) {
		t.Helper()
		got, out, talk := muster(args...)
		if got != code {
			t.Fatalf("%s: exit %d\n%s%s", args, got, out, talk)
		}
		for _, text := range want {
			if !strings.Contains(out+talk, text) {
				t.Errorf("%s: no %q in\n%s%s", args, text, out, talk)
			}
		}
	}
	says(exitDone, []string{"hub", "check", name}, "state\tdone", "devices there\t3")
	says(exitDone, []string{"hub", "repair", name, "--yes"}, "nothing to tell")

	hub.Change("press-1", func(d *provisioning.HubFound) { d.Enabled = false })
	hub.Change("stranger", func(*provisioning.HubFound) {})
	says(exitWarning, []string{"hub", "check", name}, "disabled-there\t1\tdisabled there, enabled here\n", "unknown-there\t1\tnot ours\n", "muster hub repair "+name)
	says(exitDone, []string{"hub", "drift", name}, "stranger\tunknown-there\t-\npress-1\tdisabled-there\tpress-1\n")
	says(exitDone, []string{"hub", "show", name, "-o", "wide"}, "drift\t2\n")
	says(exitUsage, []string{"hub", "repair", name}, "will be told again of 1 devices, as of ", "add --yes")
	says(exitDone, []string{"hub", "repair", name, "--remove-unknown", "--yes"}, "disabled-there\t1")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, stranger := hub.Device("stranger")
		is, _ := hub.Device("press-1")
		if !stranger && is.Enabled {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the hub has %+v, and the stranger: %v", is, stranger)
		}
	}
	says(exitDone, []string{"hub", "check", name}, "devices there\t3")

	hub.Away(true)
	says(exitUnreachable, []string{"hub", "check", name}, "state\tfailed", "the hub answered 503")
}

// drivenHouse is a house whose sweeps of hubs go on, behind an admin door.
type drivenHouse struct{ *house }

func houseOf(t *testing.T, driver provisioning.HubDriver) drivenHouse {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	c, err := config{Data: t.TempDir(), dev: true}.checked()
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(t.Context(), c, log, func(provisioning.Outcome) {}, true)
	if err != nil {
		t.Fatal(err)
	}
	h.engine = provisioning.New(provisioning.Config{
		IDScope: h.idScope, Store: h.db.Provisioning(), Authority: h.authority, Box: h.keks.Box(), Now: time.Now, Log: log, Ledger: h.db.Log(),
		HubDrivers: map[string]provisioning.HubDriver{"memory": driver},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, sweep := range []func(context.Context, provisioning.Store) (bool, error){h.engine.SweepHubs, h.engine.SweepHubChecks, h.engine.SweepHubRepairs} {
				if _, err := sweep(ctx, h.db.ProvisioningJobs()); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	door := httptest.NewServer(admin.New(admin.Deps{Engine: h.engine, Authority: h.authority, Log: log, Version: "v1", AfterRevoke: func() {}}))
	t.Cleanup(func() {
		door.Close()
		stop()
		<-done
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	token, _, err := h.engine.CreateToken(t.Context(), "operator:test", "ann", policies.RoleAdmin.Scopes(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_ADMIN_URL", door.URL)
	t.Setenv(tokenEnv, token)
	return drivenHouse{h}
}

// registers has devices of a group with symmetric keys come, and waits until their hub has them.
func (h drivenHouse) registers(t *testing.T, names ...string) {
	t.Helper()
	id := func(name string) verify.RegistrationID {
		parsed, err := verify.ParseRegistrationID(name)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	entry, _, err := h.engine.Put(t.Context(), "operator:test", provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: id("line")}, Spelled: "line", Enabled: true,
		Attestation: provisioning.Attestation{Role: provisioning.RoleKey}, Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(),
	}, provisioning.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := h.engine.Keys(t.Context(), "operator:test", entry.Owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		key := verify.DeriveKey(verify.NewSecret(keys[0]), name)
		token, err := verify.ParseSAS(testkit.SAS(key.Reveal(), h.idScope, name, time.Now().Add(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.engine.Register(t.Context(), provisioning.RegisterRequest{Attempt: provisioning.Attempt{
			ID: id(name), Spelled: name, Evidence: provisioning.Evidence{Token: &token}, Door: "test",
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, err := h.engine.LinkedHubs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if list[0].Ahead == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", list)
		}
	}
}
