package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	actorDev    = "operator:dev"
	devHub      = "local"
	devGroup    = "demo"
	devLifetime = 30 * 24 * time.Hour
)

// furnish makes what an installation cannot do without, each thing only if it is not
// there: the default profile, the two owners' access policies and, with hub, a built-in hub.
func furnish(ctx context.Context, h *house, actor, hub string) error {
	if _, err := h.engine.PutProfile(ctx, actor, policies.DefaultProfile(), provisioning.Precondition{}); ignore(err, fault.PreconditionRequired) != nil {
		return err
	}
	for _, owner := range []struct {
		plane  provisioning.Plane
		name   string
		rights policies.Rights
	}{
		{provisioning.ServicePlane, provisioning.ServiceOwner, policies.AllServiceRights},
		{provisioning.HubPlane, provisioning.HubOwner, policies.AllHubRights},
	} {
		if _, err := h.engine.PutAccess(ctx, actor, owner.plane, owner.name, owner.rights, provisioning.Precondition{}); ignore(err, fault.PreconditionRequired) != nil {
			return err
		}
	}
	if hub == "" {
		return nil
	}
	_, err := h.engine.PutHub(ctx, actor, provisioning.Hub{Name: hub, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{})
	return ignore(err, fault.PreconditionRequired)
}

// ignore drops an error of a kind: it says that the thing is there already.
func ignore(err error, kind fault.Kind) error {
	if fault.Is(err, kind) {
		return nil
	}
	return err
}

// furnishDev makes the rest of a development folder: CAs, the demo group, the token.
// All of it is kept over restarts.
func furnishDev(ctx context.Context, h *house) error {
	if err := devIssuers(ctx, h); err != nil {
		return err
	}
	if err := furnish(ctx, h, actorDev, devHub); err != nil {
		return err
	}
	if err := demoGroup(ctx, h); err != nil {
		return err
	}
	return devToken(ctx, h)
}

func devIssuers(ctx context.Context, h *house) error {
	issuers, err := h.authority.Issuers(ctx)
	if err != nil || len(issuers) > 0 {
		return err
	}
	root, err := h.authority.CreateRoot(ctx, actorDev, ca.RootRequest{Name: "Muster DEV Root CA", Lifetime: devLifetime})
	if err != nil {
		return err
	}
	if _, err = h.authority.CreateIssuing(ctx, actorDev, root.ID, ca.IssuingRequest{Name: "Muster DEV Issuing CA", Lifetime: devLifetime}); err != nil {
		return err
	}
	return h.sweeper.Reload(ctx)
}

// demoGroup makes a symmetric-key group, and leaves its key beside the token so that
// a first device can be tried with no more than the folder.
func demoGroup(ctx context.Context, h *house) error {
	id, err := verify.ParseRegistrationID(devGroup)
	if err != nil {
		return err
	}
	owner := provisioning.Owner{Kind: provisioning.Group, ID: id}
	_, _, err = h.engine.Put(ctx, actorDev, provisioning.Draft{
		Owner: owner, Spelled: devGroup, Enabled: true, Attestation: provisioning.Attestation{Role: provisioning.RoleKey},
		Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(), Profile: policies.DefaultProfile().Name,
	}, provisioning.Precondition{})
	if fault.Is(err, fault.PreconditionRequired) {
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := h.engine.Keys(ctx, actorDev, owner)
	if err != nil {
		return err
	}
	return seal.ReplaceFile(filepath.Join(h.config.Data, "demo-group.key"), []byte(base64.StdEncoding.EncodeToString(keys[0])+"\n"))
}

// devToken makes the operator token of a development folder, kept in DIR/token.
func devToken(ctx context.Context, h *house) error {
	path := filepath.Join(h.config.Data, "token")
	raw, err := os.ReadFile(path)
	text := strings.TrimSpace(string(raw))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if text != "" {
		if _, err := h.engine.Authenticate(ctx, text); err == nil {
			return nil
		}
	}
	// A folder restored without its token, or a first start.
	var b [32]byte
	_, _ = rand.Read(b[:])
	text = "mst_" + h.idScope + "_" + base64.RawURLEncoding.EncodeToString(b[:])
	if err := seal.ReplaceFile(path, []byte(text+"\n")); err != nil {
		return err
	}
	name := "dev-" + time.Now().UTC().Format("20060102T150405.000")
	_, err = h.engine.AdoptToken(ctx, actorDev, name, text, policies.RoleAdmin.Scopes(), 0)
	return err
}

// writeDevEnv leaves everything needed to talk to the server in DIR/dev.env, ready to
// be sourced by a shell.
func (s *server) writeDevEnv(ctx context.Context) error {
	h, c := s.houses[0], s.config
	token, err := os.ReadFile(filepath.Join(c.Data, "token"))
	if err != nil {
		return err
	}
	caFile, err := filepath.Abs(filepath.Join(c.Data, "ca.pem"))
	if err != nil {
		return err
	}
	service, err := h.connectionString(ctx, provisioning.ServicePlane, provisioning.ServiceOwner, c.TLS.Names[0])
	if err != nil {
		return err
	}
	hub, err := h.connectionString(ctx, provisioning.HubPlane, provisioning.HubOwner, c.TLS.Names[0])
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, v := range [][2]string{
		{"MUSTER_ADMIN_URL", "http://" + c.Listen.Admin}, {"MUSTER_DEVICE_URL", c.devicesURL()}, {"MUSTER_PKI_URL", c.pkiURL()},
		{"MUSTER_TOKEN", strings.TrimSpace(string(token))}, {"MUSTER_CA_FILE", caFile}, {"MUSTER_ID_SCOPE", h.idScope},
		{"MUSTER_MQTT_URL", "mqtts://" + c.Listen.MQTT}, {"MUSTER_ARM_URL", c.devicesURL()},
		{"MUSTER_SERVICE_CONNECTION_STRING", service}, {"MUSTER_HUB_CONNECTION_STRING", hub},
	} {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], shellWord(v[1]))
	}
	return seal.ReplaceFile(filepath.Join(c.Data, "dev.env"), []byte(b.String()))
}

// connectionString is what Azure's clients are given to use a shared access policy: a bare
// host name, which has no port (protocols/dps.md §4).
func (h *house) connectionString(ctx context.Context, plane provisioning.Plane, policy, host string) (string, error) {
	keys, err := h.engine.AccessKeys(ctx, actorDev, plane, policy)
	if err != nil {
		return "", err
	}
	return "HostName=" + host + ";SharedAccessKeyName=" + policy + ";SharedAccessKey=" + base64.StdEncoding.EncodeToString(keys[0]), nil
}

// shellWord quotes a value only where a shell needs it, so that simpler readers of the
// file manage too.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("-._/:", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
