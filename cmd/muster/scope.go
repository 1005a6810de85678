package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/passmuster/muster/api"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/store/sqlite"
)

// scopeCmd is about ID scopes, the tenants of an installation. These are acts of the host:
// no tenant's token can do them. A running server serves a new one, and stops serving a
// deleted one, from its next start.
type scopeCmd struct {
	Create scopeCreateCmd `cmd:"" help:"Make an ID scope with a CA, keys and database of its own, and print its first token."`
	List   scopeListCmd   `cmd:"" help:"List the ID scopes of this installation."`
	Delete scopeDeleteCmd `cmd:"" help:"Delete an ID scope with everything in it. The server must be stopped."`
	Export scopeExportCmd `cmd:"" help:"Write an ID scope into one file, from which it can be restored."`
}

type scopeCreateCmd struct {
	installation
	authorityFlags
	IDScope string `arg:"" optional:"" help:"Name of the ID scope; a random one of Azure's shape unless given."`
}

func (x scopeCreateCmd) Run(ctx context.Context, s streams) error {
	c, err := x.config()
	if err != nil {
		return err
	}
	id := x.IDScope
	if id == "" {
		id = newIDScope()
	}
	if err := c.checkNewIDScope(ctx, id); err != nil {
		return err
	}
	if x.KeepRoot && !c.dev && !c.AllowOnlineRoot {
		return unsafe("the key of the new root would stay on this host", "allowOnlineRoot: true")
	}
	t := c.tenant(id)
	if _, err := os.Stat(t.Data); err == nil {
		return fault.New(fault.Conflict, "id-scope-exists", "there is something in %s already", t.Data)
	}
	if err := x.make(ctx, s, c, t); err != nil {
		return errors.Join(err, discard(ctx, t))
	}
	return nil
}

// checkNewIDScope refuses a name with which the server would not start: a word of its doors'
// addresses, and the installation's own name.
func (c config) checkNewIDScope(ctx context.Context, id string) error {
	if !idScopes.MatchString(id) {
		return fault.New(fault.Malformed, "id-scope", "an id scope has 4 to 32 letters and digits")
	}
	if err := api.CheckIDScope(id); err != nil {
		return err
	}
	if _, err := os.Stat(kekFile(c)); errors.Is(err, os.ErrNotExist) {
		return nil // nothing is there yet but the folder
	}
	st, err := openStoreReadOnly(ctx, c)
	if err != nil {
		return err
	}
	own, err := store.New(st).GivenIDScope(ctx)
	if err = errors.Join(ignore(err, fault.NotFound), st.Close()); err != nil {
		return err
	}
	if strings.EqualFold(own, id) {
		return fault.New(fault.Conflict, "id-scope-exists", "%s is the id scope of this installation itself", own)
	}
	return nil
}

func (x scopeCreateCmd) make(ctx context.Context, s streams, c, t config) error {
	if err := os.MkdirAll(t.Data, 0o700); err != nil {
		return err
	}
	if t.Store.DSNFile != "" {
		base, err := c.dsn()
		if err != nil {
			return err
		}
		dsn, err := postgres.CreateSchema(ctx, base, "muster_"+strings.ToLower(t.idScope))
		if err != nil {
			return err
		}
		if err := seal.ReplaceFile(t.Store.DSNFile, []byte(dsn+"\n")); err != nil {
			return err
		}
	}
	h, err := openHouse(ctx, t, newLogger(t, s.Err), nil, true)
	if err != nil {
		return err
	}
	x.KeepRoot = x.KeepRoot || c.dev
	token, err := x.furnish(ctx, h)
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	if err := seal.ReplaceFile(filepath.Join(t.Data, idScopeFile), []byte(t.idScope+"\n")); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "MUSTER_TOKEN=%s\nMUSTER_ID_SCOPE=%s\n", token, t.idScope)
	fmt.Fprintf(s.Err, "made in %s; it is served from the server's next start; the token is shown this once and expires in 24 hours\n", t.Data)
	return nil
}

// discard removes what is left of an ID scope, its database too. The name goes first: from
// there on it is no tenant.
func discard(ctx context.Context, t config) error {
	if err := os.Remove(filepath.Join(t.Data, idScopeFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dsn, err := t.dsn()
	if err == nil && dsn != "" {
		err = postgres.DropSchema(ctx, dsn)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(t.Data)
}

type scopeListCmd struct{ installation }

func (x scopeListCmd) Run(s streams) error {
	c, err := x.config()
	if err != nil {
		return err
	}
	all, err := c.tenants()
	if err != nil {
		return err
	}
	for _, t := range all {
		if _, err := fmt.Fprintf(s.Out, "%s\t%s\n", t.idScope, t.Data); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		fmt.Fprintf(s.Err, "no further id scopes: the one of this installation lies in %s itself\n", c.Data)
	}
	return nil
}

type scopeDeleteCmd struct {
	installation
	IDScope string `arg:"" help:"Name of the ID scope."`
	Yes     bool   `help:"Really: every certificate on record, enrollment and key of it goes."`
}

func (x scopeDeleteCmd) Run(ctx context.Context, s streams) error {
	c, err := x.config()
	if err != nil {
		return err
	}
	t, err := c.further(x.IDScope)
	if err != nil {
		return err
	}
	if !x.Yes {
		return fault.New(fault.Malformed, "not-confirmed", "this deletes %s and all it holds; say --yes, after muster scope export", t.idScope)
	}
	// Opening takes the lock that a running server holds.
	h, err := openHouse(ctx, t, newLogger(t, s.Err), nil, false)
	if err != nil {
		return err
	}
	if err := errors.Join(h.Close(), discard(ctx, t)); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "deleted %s\n", t.idScope)
	return nil
}

type scopeExportCmd struct {
	installation
	IDScope string `arg:"" help:"Name of the ID scope."`
	Out     string `arg:"" help:"File to write: a tar archive, readable by its owner alone. Its keys are as well protected as they are here." type:"path"`
}

// Run writes the folder of an ID scope with one consistent copy of its database. The server
// may go on. Unpacked into DATA/scopes of any installation with the same passphrase, it is
// served there.
func (x scopeExportCmd) Run(ctx context.Context, s streams) (err error) {
	c, err := x.config()
	if err != nil {
		return err
	}
	t, err := c.further(x.IDScope)
	if err != nil {
		return err
	}
	if t.Store.DSNFile != "" {
		return fault.New(fault.Malformed, "export-postgres", "its database is a schema of PostgreSQL: pg_dump --schema=muster_%s, with a copy of %s", strings.ToLower(t.idScope), t.Data)
	}
	out, err := os.OpenFile(x.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fault.New(fault.Conflict, "file-exists", "%s exists and is not replaced", x.Out)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(x.Out))
		}
	}()
	if err := archive(ctx, out, t); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "wrote %s: unpack it into DATA/scopes of an installation with the same passphrase\n", x.Out)
	return out.Sync()
}

// archive writes the files of a tenant's folder below its name. The database comes first
// and last changed before anything else is read, so that nothing in it is without its key.
func archive(ctx context.Context, w io.Writer, t config) error {
	work, err := os.MkdirTemp(t.Data, ".export-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // what is left is a hidden folder of the tenant's own
	snapshot := filepath.Join(work, "muster.db")
	if err := sqlite.Snapshot(ctx, filepath.Join(t.Data, "muster.db"), snapshot); err != nil {
		return err
	}
	base := filepath.Base(t.Data)
	tw := tar.NewWriter(w)
	if err := addFile(tw, base+"/muster.db", snapshot); err != nil {
		return err
	}
	for _, pattern := range []string{idScopeFile, "ca.pem", "keys/*"} {
		files, err := filepath.Glob(filepath.Join(t.Data, pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			name, err := filepath.Rel(t.Data, f)
			if err != nil {
				return err
			}
			if err := addFile(tw, base+"/"+filepath.ToSlash(name), f); err != nil {
				return err
			}
		}
	}
	if err := addLogs(tw, base, t); err != nil {
		return err
	}
	return tw.Close()
}

// addLogs writes what cannot be made anew: the log of certificates, checkpoint first, so that
// the tiles cover it. The log of the ledger follows from the ledger; its checkpoint goes
// along for whoever wants to see that it does.
func addLogs(tw *tar.Writer, base string, t config) error {
	checkpoint := filepath.Join(logFolder(t), "checkpoint")
	if err := addFile(tw, base+"/log-checkpoint.txt", checkpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	root := ctFolder(t)
	if err := addFile(tw, base+"/log/ct/checkpoint", filepath.Join(root, "checkpoint")); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // an unfinished tile that was finished meanwhile
		}
		name, relErr := filepath.Rel(root, path)
		if err = errors.Join(err, relErr); err != nil || d.IsDir() || name == "checkpoint" || strings.HasPrefix(d.Name(), ".") || strings.HasSuffix(name, ".new") {
			return err
		}
		if err := addFile(tw, base+"/log/ct/"+filepath.ToSlash(name), path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

func addFile(tw *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime().Truncate(time.Second)})
	if err == nil {
		_, err = io.Copy(tw, f)
	}
	return err
}
