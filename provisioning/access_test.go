package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const accessHost = "dps.example.net"

// policy makes a shared access policy and returns its keys.
func (w *world) policy(plane provisioning.Plane, name string, rights policies.Rights) [2][]byte {
	w.t.Helper()
	_, err := w.engine.PutAccess(w.ctx, "operator:test", plane, name, rights, provisioning.Precondition{})
	w.must(err)
	return w.accessKeys(plane, name)
}

func (w *world) accessKeys(plane provisioning.Plane, name string) [2][]byte {
	w.t.Helper()
	keys, err := w.engine.AccessKeys(w.ctx, "operator:test", plane, name)
	w.must(err)
	return keys
}

// admit shows a token for a request of the service plane.
func (w *world) admit(plane provisioning.Plane, header, path string) (provisioning.Caller, error) {
	w.t.Helper()
	token, err := verify.ParseSAS(header)
	w.must(err)
	return w.engine.Admit(w.ctx, provisioning.AccessRequest{Plane: plane, Token: token, Hosts: []string{"localhost", accessHost}, Path: path})
}

// token is signed for a resource by a policy's key, and good for an hour.
func (w *world) token(key []byte, resource, policy string, more ...testkit.SASOption) string {
	options := append([]testkit.SASOption{testkit.Resource(resource), testkit.KeyName(policy)}, more...)
	return testkit.SAS(key, "", "", w.clock.Add(time.Hour), options...)
}

func TestATokenOfAPolicyIsForOneHostAndWhatItWasNarrowedTo(t *testing.T) {
	w := newWorld(t)
	keys := w.policy(provisioning.ServicePlane, "Reader", policies.EnrollmentRead)
	w.policy(provisioning.HubPlane, "reader", policies.RegistryRead)
	for name, tt := range map[string]struct {
		header, path string
		rule         string // "" = admitted
	}{
		"the host":                        {w.token(keys[0], accessHost, "reader"), "/enrollments/a", ""},
		"the secondary key":               {w.token(keys[1], accessHost, "reader"), "/enrollments/a", ""},
		"another name of this server":     {w.token(keys[0], "localhost", "reader"), "/enrollments/a", ""},
		"host and policy in another case": {w.token(keys[0], "DPS.Example.Net", "READER"), "/enrollments/a", ""},
		"a port":                          {w.token(keys[0], accessHost+":8443", "reader"), "/enrollments/a", ""},
		"the resource encoded":            {w.token(keys[0], accessHost+"/enrollments", "reader", testkit.Encoded()), "/enrollments/a", ""},
		"a slash at its end":              {w.token(keys[0], accessHost+"/", "reader"), "/enrollments/a", ""},
		"narrowed to what is asked":       {w.token(keys[0], accessHost+"/enrollments", "reader"), "/Enrollments/a", ""},
		"narrowed to this very one":       {w.token(keys[0], accessHost+"/enrollments/a", "reader"), "/enrollments/a", ""},
		"narrowed to another":             {w.token(keys[0], accessHost+"/enrollments/b", "reader"), "/enrollments/a", "sas-other-resource"},
		"a prefix by characters":          {w.token(keys[0], accessHost+"/enrollments", "reader"), "/enrollmentsgroups/a", "sas-other-resource"},
		"narrowed to more than is asked":  {w.token(keys[0], accessHost+"/enrollments/a/b", "reader"), "/enrollments/a", "sas-other-resource"},
		"another host by one character":   {w.token(keys[0], accessHost+"t", "reader"), "/enrollments/a", "sas-other-resource"},
		"a host that ours is the end of":  {w.token(keys[0], "x."+accessHost, "reader"), "/enrollments/a", "sas-other-resource"},
		"a path without a host":           {w.token(keys[0], "/enrollments", "reader"), "/enrollments/a", "sas-other-resource"},
		"a device's resource":             {w.token(keys[0], "0ne004A1B2C/registrations/a", "registration"), "/enrollments/a", "sas-other-resource"},
		"no policy named":                 {w.token(keys[0], accessHost, ""), "/enrollments/a", "sas-key-name"},
		"a policy there is not":           {w.token(keys[0], accessHost, "writer"), "/enrollments/a", "sas-key-name"},
		"another key":                     {w.token([]byte("another"), accessHost, "reader"), "/enrollments/a", "sas-signature"},
		"expired":                         {testkit.SAS(keys[0], "", "", w.clock.Add(-time.Hour), testkit.Resource(accessHost), testkit.KeyName("reader")), "/enrollments/a", "sas-expired"},
		"good for two years":              {testkit.SAS(keys[0], "", "", w.clock.Add(2*366*24*time.Hour), testkit.Resource(accessHost), testkit.KeyName("reader")), "/enrollments/a", "sas-lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			caller, err := w.admit(provisioning.ServicePlane, tt.header, tt.path)
			if fault.RuleOf(err) != tt.rule || tt.rule != "" && !fault.Is(err, fault.Unauthenticated) {
				t.Fatalf("error %v, want rule %q", err, tt.rule)
			}
			if err == nil && (caller.Actor() != "policy:service/reader" || !caller.Rights.Grants(policies.EnrollmentRead) || caller.Rights.Grants(policies.EnrollmentWrite)) {
				t.Errorf("caller %+v", caller)
			}
		})
	}
	if _, err := w.admit(provisioning.HubPlane, w.token(keys[0], accessHost, "reader"), "/devices/a"); fault.RuleOf(err) != "sas-signature" {
		t.Errorf("the service's key at the hub: %v", err)
	}
}

func TestRollingAKeyRefusesItsTokensAndNotTheOthers(t *testing.T) {
	w := newWorld(t)
	keys := w.policy(provisioning.ServicePlane, "owner", policies.AllServiceRights)
	p, err := w.engine.RollAccessKey(w.ctx, "operator:test", provisioning.ServicePlane, "OWNER", rotation.Primary, true, provisioning.Precondition{})
	w.must(err)
	if _, err := w.admit(provisioning.ServicePlane, w.token(keys[0], accessHost, "owner"), "/enrollments/a"); fault.RuleOf(err) != "sas-signature" {
		t.Errorf("the old primary key: %v", err)
	}
	_, err = w.admit(provisioning.ServicePlane, w.token(keys[1], accessHost, "owner"), "/enrollments/a")
	w.must(err)
	now := w.accessKeys(provisioning.ServicePlane, "owner")
	_, err = w.admit(provisioning.ServicePlane, w.token(now[0], accessHost, "owner"), "/enrollments/a")
	w.must(err)

	stale := provisioning.Precondition{Version: p.Version - 1}
	if _, err := w.engine.RollAccessKey(w.ctx, "operator:test", provisioning.ServicePlane, "owner", rotation.Primary, true, stale); !fault.Is(err, fault.PreconditionFailed) {
		t.Errorf("rolling an older version: %v", err)
	}
	if err := w.engine.DeleteAccess(w.ctx, "operator:test", provisioning.ServicePlane, "owner", stale); !fault.Is(err, fault.PreconditionFailed) {
		t.Errorf("deleting an older version: %v", err)
	}
	w.must(w.engine.DeleteAccess(w.ctx, "operator:test", provisioning.ServicePlane, "owner", provisioning.Precondition{Version: p.Version}))
	if _, err := w.admit(provisioning.ServicePlane, w.token(now[0], accessHost, "owner"), "/enrollments/a"); fault.RuleOf(err) != "sas-key-name" {
		t.Errorf("after deleting the policy: %v", err)
	}
	w.check()
}

func TestAPolicyHasANameAndRightsOfItsPlane(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		plane  provisioning.Plane
		name   string
		rights policies.Rights
		rule   string
	}{
		"another plane":                {"cloud", "a", policies.RegistryRead, "access-plane"},
		"no name":                      {provisioning.HubPlane, "", policies.RegistryRead, "access-name"},
		"a name with a slash":          {provisioning.HubPlane, "a/b", policies.RegistryRead, "access-name"},
		"no rights":                    {provisioning.HubPlane, "a", 0, "access-rights"},
		"rights of the other plane":    {provisioning.HubPlane, "a", policies.RegistryRead | policies.EnrollmentRead, "access-rights"},
		"a right of both planes, here": {provisioning.ServicePlane, "a", policies.DeviceConnect, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.engine.PutAccess(w.ctx, "operator:test", tt.plane, tt.name, tt.rights, provisioning.Precondition{})
			if fault.RuleOf(err) != tt.rule {
				t.Errorf("error %v, want rule %q", err, tt.rule)
			}
		})
	}
	if _, err := w.engine.PutAccess(w.ctx, "operator:test", provisioning.ServicePlane, "A", policies.DeviceConnect, provisioning.Precondition{}); !fault.Is(err, fault.PreconditionRequired) {
		t.Errorf("writing over one: %v", err)
	}
	// Changing what it grants keeps its keys; reading them is on record.
	before := w.accessKeys(provisioning.ServicePlane, "a")
	_, err := w.engine.PutAccess(w.ctx, "operator:test", provisioning.ServicePlane, "a", policies.EnrollmentRead, provisioning.Precondition{Any: true})
	w.must(err)
	if after := w.accessKeys(provisioning.ServicePlane, "a"); string(after[0]) != string(before[0]) || string(before[0]) == string(before[1]) {
		t.Error("the keys changed, or are one")
	}
	entries, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 10, Action: audit.KeysRead, Subject: "access:service/a"})
	w.must(err)
	if len(entries) != 2 {
		t.Errorf("%d ledger entries tell of reading the keys, want 2", len(entries))
	}
	w.check()
}
