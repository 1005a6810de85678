package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/pgdsn"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/test/instance"
)

// world is an installation with two factories' CAs, of which one will be stolen.
type world struct {
	config
	dir           string
	stolen, clean string             // base names of the CAs' files
	acts, asked   *instance.Instance // the same, or two on one database
	schema        string             // PostgreSQL
}

func open(ctx context.Context, c config) (w *world, err error) {
	w = &world{config: c}
	if w.dir, err = os.MkdirTemp("", "muster-contain-"); err != nil {
		return nil, err
	}
	w.stolen, w.clean = filepath.Join(w.dir, "stolen"), filepath.Join(w.dir, "clean")
	for _, base := range []string{w.stolen, w.clean} {
		if said, err := exec.Command(c.load, "gen-ca", w.dir, filepath.Base(base)).CombinedOutput(); err != nil {
			return w, errors.Join(fmt.Errorf("making a device CA: %w: %s", err, said), w.close(ctx))
		}
	}
	if c.dsn != "" {
		w.schema = "contain_" + strconv.FormatInt(time.Now().UnixNano(), 36)
		err = errors.Join(w.sql(ctx, "CREATE SCHEMA "+w.schema),
			os.WriteFile(filepath.Join(w.dir, "dsn"), []byte(pgdsn.Within(c.dsn, w.schema)), 0o600))
	}
	if err == nil {
		err = w.start()
	}
	if err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	return w, nil
}

func (w *world) sql(ctx context.Context, text string) error {
	conn, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, text)
	return errors.Join(err, conn.Close(ctx))
}

// start runs a server, and on PostgreSQL a second one beside it.
func (w *world) start() (err error) {
	c := instance.Config{Binary: w.muster, Data: filepath.Join(w.dir, "data")}
	if w.schema != "" {
		c.DSNFile = filepath.Join(w.dir, "dsn")
	}
	if w.acts, err = instance.Start(c); err != nil {
		return err
	}
	w.asked = w.acts
	if w.schema != "" {
		w.asked, err = instance.Start(c)
	}
	return err
}

func (w *world) stop() (err error) {
	if w.asked != nil && w.asked != w.acts {
		err = w.asked.Stop()
	}
	if w.acts != nil {
		err = errors.Join(err, w.acts.Stop())
	}
	w.acts, w.asked = nil, nil
	return err
}

func (w *world) close(ctx context.Context) error {
	err := w.stop()
	if w.schema != "" {
		err = errors.Join(err, w.sql(ctx, "DROP SCHEMA IF EXISTS "+w.schema+" CASCADE"))
	}
	_ = os.RemoveAll(w.dir) // a folder left in TMPDIR harms nobody
	return err
}

// furnish lets in what the two CAs sign, and makes so many devices like the one it returns.
func (w *world) furnish(ctx context.Context, devices int) (d device, err error) {
	for _, base := range []string{w.stolen, w.clean} {
		if err := w.acts.Admit(ctx, filepath.Base(base), base, true); err != nil {
			return d, err
		}
	}
	if d, err = newDevice(w.stolen, "dev-a"); err != nil {
		return d, err
	}
	if _, err := d.doors(w.asked); err != nil {
		return d, err
	}
	if err := w.stop(); err != nil {
		return d, err
	}
	engine, err := w.engine(ctx)
	if err != nil {
		return d, err
	}
	if err := errors.Join(fill(ctx, engine, d.name, devices), engine.Close()); err != nil {
		return d, fmt.Errorf("filling: %w", err)
	}
	return d, w.start()
}

func (w *world) engine(ctx context.Context) (store.Engine, error) {
	if w.schema != "" {
		return postgres.Open(ctx, pgdsn.Within(w.dsn, w.schema), postgres.Options{})
	}
	return sqlite.Open(ctx, filepath.Join(w.dir, "data", "muster.db"), sqlite.Options{})
}

// Issuances that go on meanwhile: for so long, so many a second, of devices that rest on the other CA.
const (
	issueFor  = 20 * time.Second
	issueRate = 50
)

// issue has devices enroll, and returns the p99 in ms; meanwhile, unless nil, is done beside it.
func (w *world) issue(prefix string, meanwhile func() error) (p99 float64, err error) {
	cmd := exec.Command(w.load, "est", "-url", w.asked.Devices, "-device-ca", w.clean, "-ca", w.asked.CAFile, "-pid", strconv.Itoa(w.asked.PID),
		"-prefix", prefix, "-rate", strconv.Itoa(issueRate), "-n", strconv.Itoa(int(issueFor.Seconds())*issueRate))
	var said, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complaint
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if meanwhile != nil {
		time.Sleep(time.Second) // it has begun
		err = meanwhile()
	}
	if failed := cmd.Wait(); failed != nil {
		return 0, errors.Join(err, fmt.Errorf("issuing: %w: %s", failed, complaint.String()))
	}
	var r struct {
		P99 float64 `json:"p99_ms"`
	}
	return r.P99, errors.Join(err, json.Unmarshal(said.Bytes(), &r))
}
