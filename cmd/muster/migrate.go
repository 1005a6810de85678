package main

import (
	"context"
	"fmt"

	"github.com/passmuster/muster/store"
)

// migrateCmd brings the schema up to date.
type migrateCmd struct {
	anyScope
	DryRun bool `help:"Print what would be done."`
}

// installation names an installation on this host, for the commands that open its
// database themselves.
type installation struct {
	Config  string `help:"Configuration file." default:"muster.yaml" env:"MUSTER_CONFIG" type:"path"`
	Data    string `help:"Data folder of a development server, instead of a configuration file." env:"MUSTER_DATA" type:"path"`
	DSNFile string `help:"File with a PostgreSQL connection string." env:"MUSTER_STORE_DSN_FILE" type:"path"`
}

// anyScope names an installation on this host, or one further ID scope of it.
type anyScope struct {
	installation
	IDScope string `help:"A further id scope of the installation (muster scope list)." name:"id-scope"`
}

func (a anyScope) config() (config, error) {
	c, err := a.installation.config()
	if err != nil {
		return c, err
	}
	return c.scoped(a.IDScope)
}

func (i installation) config() (config, error) {
	c := config{dev: true, Data: i.Data}
	if i.Data == "" {
		var err error
		if c, err = loadConfig(i.Config); err != nil {
			return c, err
		}
	}
	if i.DSNFile != "" {
		c.Store.DSNFile = i.DSNFile
	}
	return c.checked()
}

func (m migrateCmd) Run(ctx context.Context, s streams) error {
	c, err := m.config()
	if err != nil {
		return err
	}
	st, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer st.Close()
	pending, err := st.PendingMigrations(ctx)
	if err != nil {
		return err
	}
	for _, name := range pending {
		fmt.Fprintln(s.Out, name)
	}
	if len(pending) == 0 {
		fmt.Fprintln(s.Err, "the schema is up to date")
	}
	if m.DryRun || len(pending) == 0 {
		return nil
	}
	return st.Migrate(ctx)
}

// doctorCmd checks the named invariants on a live database, reading only.
type doctorCmd struct{ anyScope }

func (d doctorCmd) Run(ctx context.Context, s streams) error {
	c, err := d.config()
	if err != nil {
		return err
	}
	st, err := openStoreReadOnly(ctx, c)
	if err != nil {
		return err
	}
	defer st.Close()
	found, err := store.Check(ctx, store.New(st))
	if err != nil {
		return err
	}
	for _, v := range found {
		fmt.Fprintln(s.Out, v)
	}
	if len(found) > 0 {
		fmt.Fprintf(s.Err, "muster: %d violations\n", len(found))
		return quietExit{exitCritical}
	}
	fmt.Fprintln(s.Err, "every invariant holds")
	return nil
}
