package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// keysCmd is about the key-encryption key (KEK), under which every secret in the database
// is sealed. These are acts of the host; the server goes on.
type keysCmd struct {
	Rotate keysRotateCmd `cmd:"" help:"Seal under a new key-encryption key from now on; the old one still opens."`
	Rewrap keysRewrapCmd `cmd:"" help:"Seal everything that is left under the old key anew, and put that away."`
}

type keysRotateCmd struct {
	anyScope
	Prepare bool `help:"Only make the new key: where servers run on several hosts, copy its file to each before any of them rotates."`
}

func (r keysRotateCmd) Run(s streams) error {
	c, err := r.config()
	if err != nil {
		return err
	}
	keks, err := c.shelf()
	if err != nil {
		return err
	}
	if r.Prepare {
		id, err := keks.Prepare()
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Err, "made key-encryption key %s as kek-next.pem in %s: copy that file to every other host, then run muster keys rotate on each\n", id, keysFolder(c))
		return nil
	}
	sealing, old, err := keks.Rotate(time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "key-encryption key %s seals from now on; %s still opens, until muster keys rewrap has put it away\nback up %s now\n", sealing, old, keysFolder(c))
	return nil
}

func (c config) shelf() (*seal.Shelf, error) {
	passphrase, err := c.passphrase()
	if err != nil {
		return nil, err
	}
	return openShelf(c, passphrase, false)
}

type keysRewrapCmd struct {
	anyScope
	Settle time.Duration `help:"How long after keys rotate a server may still seal under the old key." default:"30s"`
}

// Run seals anew where it can write the database. Beside a server on SQLite it cannot, and
// need not: that server does, and this waits for it.
func (r keysRewrapCmd) Run(ctx context.Context, s streams) error {
	c, err := r.config()
	if err != nil {
		return err
	}
	keks, err := c.shelf()
	if err != nil {
		return err
	}
	old, since, waits := keks.Old()
	if !waits {
		fmt.Fprintln(s.Err, "nothing is under an old key-encryption key: muster keys rotate comes first")
		return nil
	}
	if err := r.finish(ctx, s, c, keks, since); err != nil {
		return err
	}
	file, err := keks.Retire()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "nothing is left under key-encryption key %s; its file is now %s and is not read any more: keep it with the backups of the database that are older than this, then destroy it\n", old, file)
	return nil
}

// finish returns when nothing is left under an old key and nothing can be sealed with it.
func (r keysRewrapCmd) finish(ctx context.Context, s streams, c config, keks *seal.Shelf, since time.Time) error {
	told := int64(-1)
	for {
		left, err := rewrapOnce(ctx, c, keks.Box())
		if err != nil {
			return err
		}
		// What was begun just before the key changed may yet be committed.
		settled := time.Since(since) >= r.Settle
		if left == 0 && settled {
			return nil
		}
		if left != told {
			fmt.Fprintf(s.Err, "%d values are under the old key; waiting until servers have taken up the new one\n", left)
			told = left
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// rewrapOnce seals anew what it can, and counts what is left.
func rewrapOnce(ctx context.Context, c config, box *seal.Box) (left int64, err error) {
	st, err := openStore(ctx, c)
	if fault.RuleOf(err) == "database-locked" {
		return countSealed(ctx, c, box)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := st.Migrate(ctx); err != nil {
		return 0, err
	}
	db := store.New(st)
	if _, err := provisioning.Rewrap(ctx, db.ProvisioningJobs(), box, time.Now().UTC()); err != nil {
		return 0, err
	}
	return provisioning.SealedByOthers(ctx, db.ProvisioningJobs(), box.Sealing())
}

func countSealed(ctx context.Context, c config, box *seal.Box) (left int64, err error) {
	st, err := openStoreReadOnly(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return provisioning.SealedByOthers(ctx, store.New(st).ProvisioningJobs(), box.Sealing())
}
