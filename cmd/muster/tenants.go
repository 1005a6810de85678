package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// One installation holds one ID scope in its data folder, and any number of others in
// DATA/scopes/ID, each with a database, keys and key-encryption key of its own: a tenant is
// backed up, moved and deleted alone (architecture §7).

// idScopes is what a new id scope may be called: as Azure's look, or alike.
var idScopes = regexp.MustCompile(`^[A-Za-z0-9]{4,32}$`)

func scopesFolder(c config) string { return filepath.Join(c.Data, "scopes") }

// tenant is the configuration of one further ID scope of an installation.
func (c config) tenant(idScope string) config {
	t := c
	t.idScope = idScope
	t.Data = filepath.Join(scopesFolder(c), strings.ToLower(idScope))
	if c.Store.DSNFile != "" {
		t.Store.DSNFile = filepath.Join(t.Data, "dsn")
	}
	return t
}

// tenants are the configurations of the further ID scopes, by name.
func (c config) tenants() ([]config, error) {
	entries, err := os.ReadDir(scopesFolder(c))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []config
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(scopesFolder(c), e.Name(), idScopeFile))
		if errors.Is(err, os.ErrNotExist) {
			continue // it is being made, or was not finished
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c.tenant(strings.TrimSpace(string(raw))))
	}
	return out, nil
}

// idScopeFile is written last into a tenant's folder: with it the tenant is whole.
const idScopeFile = "id-scope"

// scoped is the configuration of the ID scope an act of the host is about; "" is the
// installation's own.
func (c config) scoped(idScope string) (config, error) {
	if idScope == "" {
		return c, nil
	}
	return c.further(idScope)
}

// further is the configuration of a further ID scope, which the installation's own is not.
func (c config) further(idScope string) (config, error) {
	all, err := c.tenants()
	if err != nil {
		return c, err
	}
	i := slices.IndexFunc(all, func(t config) bool { return strings.EqualFold(t.idScope, idScope) })
	if i < 0 {
		return c, fault.New(fault.NotFound, "id-scope-unknown", "this installation has no further id scope %q; muster scope list shows them", idScope)
	}
	return all[i], nil
}

// openHouses opens every ID scope of an installation, its own first.
func openHouses(ctx context.Context, c config, log *slog.Logger, observe func(provisioning.Outcome)) (all []*house, err error) {
	tenants, err := c.tenants()
	if err != nil {
		return nil, err
	}
	for i, t := range append([]config{c}, tenants...) {
		if i > 0 {
			t.device = all[0].config.device
		}
		h, err := openHouse(ctx, t, log, observe, i == 0 && c.dev)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening %s: %w", t.Data, err), closeHouses(all))
		}
		all = append(all, h)
	}
	return all, nil
}

func closeHouses(all []*house) (err error) {
	for _, h := range all {
		err = errors.Join(err, h.Close())
	}
	return err
}
