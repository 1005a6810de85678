package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/passmuster/muster/api/webhook"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/hub/azure"
	"github.com/passmuster/muster/hub/mosquitto"
	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/store/sqlite"
)

// house is the whole of Muster but its doors: store, keys, authority, engine.
type house struct {
	config    config
	storage   storage
	db        *store.DB
	authority *ca.Authority // for requests
	sweeper   *ca.Authority // for jobs: its transactions let devices go first
	engine    *provisioning.Engine
	idScope   string
	log       *issuanceLog
	ct        *certificateLog // nil: there is none
	hubTold   hubOutcomes
	mosquitto *mosquitto.Driver
	trips     tripCounts

	keks       *seal.Shelf
	ownsDevice bool // the key device in config is this house's to close
}

// storage is a store engine with its migrations.
type storage interface {
	store.Engine
	Migrate(ctx context.Context) error
	PendingMigrations(ctx context.Context) ([]string, error)
}

func keysFolder(c config) string { return filepath.Join(c.Data, "keys") }
func kekFile(c config) string    { return filepath.Join(keysFolder(c), "kek.pem") }

// openStore opens the database of a configuration, not yet migrated.
func openStore(ctx context.Context, c config) (storage, error) {
	dsn, err := c.dsn()
	if err != nil {
		return nil, err
	}
	if dsn != "" {
		return postgres.Open(ctx, dsn, postgres.Options{})
	}
	return sqlite.Open(ctx, filepath.Join(c.Data, "muster.db"), sqlite.Options{})
}

// openStoreReadOnly opens the database beside the server that writes it.
func openStoreReadOnly(ctx context.Context, c config) (store.Engine, error) {
	dsn, err := c.dsn()
	if err != nil {
		return nil, err
	}
	if dsn != "" {
		return postgres.Open(ctx, dsn, postgres.Options{})
	}
	return sqlite.OpenReadOnly(ctx, filepath.Join(c.Data, "muster.db"))
}

// openHouse opens everything. With create, what a new installation needs is made:
// folders, the key-encryption key, the id scope.
func openHouse(ctx context.Context, c config, log *slog.Logger, observe func(provisioning.Outcome), create bool) (*house, error) {
	h := &house{config: c}
	if create {
		if err := os.MkdirAll(keysFolder(c), 0o700); err != nil {
			return nil, err
		}
	}
	passphrase, err := c.passphrase()
	if err != nil {
		return nil, err
	}
	if h.keks, err = openShelf(c, passphrase, create); err != nil {
		return nil, err
	}
	if h.storage, err = openStore(ctx, c); err != nil {
		return nil, err
	}
	if err := h.open(ctx, h.keks.Box(), passphrase, log, observe); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *house) open(ctx context.Context, box *seal.Box, passphrase []byte, log *slog.Logger, observe func(provisioning.Outcome)) error {
	if err := h.storage.Migrate(ctx); err != nil {
		return err
	}
	h.db = store.New(h.storage)
	var err error
	if h.idScope, err = h.db.IDScope(ctx, cmp.Or(h.config.idScope, newIDScope())); err != nil {
		return err
	}
	folder, err := keys.OpenFolder(keysFolder(h.config), passphrase)
	if err != nil {
		return err
	}
	kept, err := h.openKeys(folder)
	if err != nil {
		return err
	}
	conf := h.config.authority(box)
	if conf.SCTs, err = h.openCT(ctx, folder); err != nil {
		return err
	}
	if conf.Upstreams, err = h.config.Upstreams.open(); err != nil {
		return err
	}
	conf.UpstreamTimeout = h.config.UpstreamTimeout
	if h.authority, err = ca.New(ctx, h.db.CA(), kept, conf, time.Now); err != nil {
		return err
	}
	if h.sweeper, err = ca.New(ctx, h.db.CAJobs(), kept, conf, time.Now); err != nil {
		return err
	}
	if h.log, err = openLog(ctx, h.config, h.db, h.idScope, folder); err != nil {
		return err
	}
	webhooks, err := h.config.Webhooks.options(h.config.dev)
	if err != nil {
		return err
	}
	if err := h.openMosquitto(webhooks); err != nil {
		return err
	}
	twin, err := h.config.Quarantine.initialTwin()
	if err != nil {
		return err
	}
	h.engine = provisioning.New(provisioning.Config{
		IDScope: h.idScope, Store: h.db.Provisioning(), Authority: h.authority, Box: box,
		Now: time.Now, Log: log, Observe: observe,
		Allocator: webhook.New(webhooks), LocalWebhooks: h.config.dev,
		Ledger: h.db.Log(), Notifier: webhook.NewNotifier(webhooks),
		Clock: h.config.Rotation.clock(),
		HubDrivers: map[string]provisioning.HubDriver{
			hubwebhook.Name: hubwebhook.New(webhooks, h.config.dev), azure.Name: azure.New(webhooks), mosquitto.Name: h.mosquitto,
		}, ObserveHub: h.hubTold.observe,
		CheckHubsEvery: h.config.Hubs.checkEvery(),
		Tripwires:      h.config.Tripwires.rule(), ObserveTrip: h.trips.observe,
		QuarantineTwin: twin,
	})
	return nil
}

func (h *house) Close() error { return errors.Join(h.closeKeys(), h.storage.Close()) }

// pkiURL is the base of addresses in certificates.
func (c config) pkiURL() string {
	if c.PublicURL.PKI != "" {
		return strings.TrimRight(c.PublicURL.PKI, "/")
	}
	return "http://" + c.Listen.PKI
}

func (c config) devicesURL() string {
	if c.PublicURL.Devices != "" {
		return strings.TrimRight(c.PublicURL.Devices, "/")
	}
	return "https://" + c.Listen.Devices
}

func openShelf(c config, passphrase []byte, create bool) (*seal.Shelf, error) {
	keks, err := seal.OpenShelf(keysFolder(c), passphrase, create)
	if fault.RuleOf(err) == "kek-missing" {
		return nil, fault.New(fault.NotFound, "kek-missing", "there is no key-encryption key at %s: run muster init, or restore it", kekFile(c))
	}
	return keks, err
}

// newIDScope makes a name of Azure's shape: "0ne" and 8 hex digits (contract §1).
func newIDScope() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return fmt.Sprintf("0ne%s", strings.ToUpper(hex.EncodeToString(b[:])))
}
