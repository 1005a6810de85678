package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/hub/hubtest"
	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/verify"
)

// furnished is an installation with devices of a factory on the built-in hub and on one elsewhere, that
// has heard of them.
func (x *house) furnished(t *testing.T, devices int) (*testkit.Family, *hubtest.Receiver) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	f := testkit.Chain(t, "root > mid > d0")
	_, err := x.engine.UploadAnchor(ctx, drillActor, "factory", f.Get("root").PEM(), true, provisioning.Precondition{})
	must(err)
	receiver := hubtest.NewReceiver(t)
	_, key, err := x.engine.LinkHub(ctx, drillActor, provisioning.Hub{Name: "iot.example.net", Driver: hubwebhook.Name, Weight: 1}, receiver.URL, provisioning.Precondition{})
	must(err)
	receiver.SignedWith(key)
	id, err := verify.ParseRegistrationID("line")
	must(err)
	line := provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: id}, Spelled: "line", Enabled: true, Allocation: policies.Hashed, Profile: "default",
		Reprovision: policies.DefaultReprovisionPolicy(), Hubs: []string{"iot.example.net"},
		Attestation: provisioning.Attestation{Role: provisioning.RoleSigning, Slots: [2]provisioning.SlotDraft{{Certificate: f.Get("mid").PEM()}}},
	}
	_, _, err = x.engine.Put(ctx, drillActor, line, provisioning.Precondition{})
	must(err)
	for n := range devices {
		name := fmt.Sprintf("d%d", n)
		chain, err := verify.ReadChain(f.Get("mid").Issue(t, name).Chain())
		must(err)
		id, err := verify.ParseRegistrationID(name)
		must(err)
		_, err = x.engine.Register(ctx, provisioning.RegisterRequest{
			Attempt: provisioning.Attempt{ID: id, Spelled: name, Evidence: provisioning.Evidence{Chain: chain}, Door: "test"},
			CSR:     testkit.CSR(t, testkit.NewKey(t, "p256"), name),
		})
		must(err)
	}
	for more := true; more; {
		more, err = x.engine.SweepHubs(ctx, x.db.ProvisioningJobs())
		must(err)
	}
	return f, receiver
}

// fails leaves a hub with an open circuit, and a rate of a call a minute; answers ends that.
func (x *house) fails(t *testing.T, hub string) {
	t.Helper()
	x.changeHub(t, hub, 1, func(tx provisioning.Tx, was provisioning.HubLink) error {
		is := was
		is.Tries, is.NextTry, is.Problem = 9, time.Now().Add(time.Hour), "the hub answered 503"
		return tx.MoveHubLink(was, is)
	})
}

func (x *house) answers(t *testing.T, hub string) {
	t.Helper()
	x.changeHub(t, hub, 0, func(tx provisioning.Tx, was provisioning.HubLink) error { return tx.UpdateHubLink(was) })
}

func (x *house) changeHub(t *testing.T, name string, rate int, edit func(provisioning.Tx, provisioning.HubLink) error) {
	t.Helper()
	err := x.db.Provisioning().Update(t.Context(), func(tx provisioning.Tx) error {
		hub, err := tx.Hub(name)
		if err != nil {
			return err
		}
		version := hub.Version
		hub.Rate, hub.Version = rate, version+1
		link, err := tx.HubLink(name)
		return errors.Join(err, tx.UpdateHub(hub, version), edit(tx, link))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// everyRow is all that is in a SQLite database.
func everyRow(t *testing.T, path string) (rows []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	list := func(query string, each func(string)) {
		t.Helper()
		found, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer found.Close()
		columns, err := found.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for found.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := found.Scan(into...); err != nil {
				t.Fatal(err)
			}
			each(fmt.Sprint(values...))
		}
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
	}
	var tables []string
	list("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name", func(name string) { tables = append(tables, name) })
	for _, name := range tables {
		list(`SELECT * FROM "`+name+`"`, func(row string) { rows = append(rows, name+" "+row) })
	}
	return rows
}

// everyRowOf is all that is in a PostgreSQL schema, with what counts its rows.
func everyRowOf(t *testing.T, dsn string) (rows []string) {
	t.Helper()
	e, err := postgres.Open(t.Context(), dsn, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	err = e.Rows(t.Context(), func(table string, _ []string, found iter.Seq2[[]any, error]) error {
		for values, err := range found {
			if err != nil {
				return err
			}
			rows = append(rows, table+" "+fmt.Sprint(values...))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var counters string
	err = conn.QueryRow(t.Context(), "SELECT string_agg(sequencename || ' ' || COALESCE(last_value, 0), ', ' ORDER BY sequencename) FROM pg_sequences WHERE schemaname = current_schema()").Scan(&counters)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	return append(rows, counters)
}

// filesIn are the names of all files below a folder.
func filesIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A drill runs beside the process that writes the database, changes no row of it, leaves nothing
// behind, calls no hub, and says what the act would then have done.
func TestADrillChangesNothingAndForetellsTheAct(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		h := newHost(t)
		h.init("--keep-root")
		foretells(t, h, func() []string { return everyRow(t, h.path("data/muster.db")) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		h := newHost(t)
		dsn := testpg.DSN(t)
		h.write("dsn", dsn+"\n", 0o600)
		h.init("--keep-root", "--dsn-file", h.path("dsn"))
		foretells(t, h, func() []string { return everyRowOf(t, dsn) })
	})
}

func foretells(t *testing.T, h host, everyRow func() []string) {
	t.Helper()
	c := h.config("")
	c.dev = true // hubs on this host
	h.within(c, func(x *house) {
		const devices = 40 // more than a hub is told at once
		f, receiver := x.furnished(t, devices)
		h.write("mid.pem", string(f.Get("mid").PEM()), 0o600)
		x.fails(t, "iot.example.net")
		rows, files, posts := everyRow(), filesIn(t, c.Data), receiver.Posts()
		if posts < devices {
			t.Fatalf("the hub was told of %d devices", posts)
		}
		since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		var told drillReport
		code, out, talk := h.muster("drill", "--config", h.path("muster.yaml"), "--issuer", h.path("mid.pem"), "--since", since.Format(time.RFC3339), "--hub-rate", "2", "-o", "json")
		if code != exitDone {
			t.Fatalf("exit %d: %s", code, talk)
		}
		if err := json.Unmarshal([]byte(out), &told); err != nil {
			t.Fatal(err)
		}
		if now := everyRow(); !slices.Equal(now, rows) {
			t.Errorf("the live database had %d rows, and has %d, or others", len(rows), len(now))
		}
		if now := filesIn(t, c.Data); !slices.Equal(now, files) {
			t.Errorf("the folder had %v, and has %v", files, now)
		}
		if receiver.Posts() != posts {
			t.Errorf("the hub was told %d times more", receiver.Posts()-posts)
		}

		// What the act does then, when the hub answers again.
		x.answers(t, "iot.example.net")
		r := provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw, Since: since}
		p, err := x.engine.PreviewDisallow(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		i, err := x.engine.Disallow(t.Context(), drillActor, r, p.ID)
		if err != nil {
			t.Fatal(err)
		}
		before, err := x.sweeper.CRLShards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			_, err1 := x.engine.SweepIncidents(t.Context(), x.db.ProvisioningJobs())
			_, err2 := x.engine.SweepHubs(t.Context(), x.db.ProvisioningJobs())
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
		}
		did, err := x.engine.Disallowance(t.Context(), i.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !told.Done || told.Devices != did.Devices || did.Devices != devices || told.Revoked != did.Revoked || did.Revoked != devices ||
			len(told.Entries) != 1 || len(did.Entries) != 1 || len(told.Hubs) != 1 || !told.Hubs[0].Elsewhere || *told.Hubs[0].Minutes != 0.4 {
			t.Errorf("the drill said %s\nand the act did %d devices, %d revoked, %+v", out, did.Devices, did.Revoked, did.Entries)
		}
		// The CRL that is signed in earnest is as much larger, but for the length of a signature and a number.
		if err := x.sweeper.SweepCRLs(t.Context()); err != nil {
			t.Fatal(err)
		}
		grew := 0
		for _, s := range before {
			if crl, err := x.sweeper.PublishedCRL(t.Context(), s.Issuer, s.Shard); err == nil && s.Shard != 0 {
				grew += len(crl.DER)
			}
		}
		if told.CRLGrowth < 40*devices || told.CRLGrowth > grew {
			t.Errorf("CRLs grow by %d octets, said the drill; they are %d now", told.CRLGrowth, grew)
		}
		if left, err := filepath.Glob(filepath.Join(c.Data, ".drill-*")); err != nil || len(left) != 0 {
			t.Errorf("it left %v: %v", left, err)
		}
	})
}

func TestADrillSaysWhatItCannotDo(t *testing.T) {
	h := newHost(t)
	h.init("--keep-root")
	h.write("dsn", "postgres://nobody@127.0.0.1:1/none\n", 0o600)
	code, _, talk := h.muster("drill", "--config", h.path("muster.yaml"), "--dsn-file", h.path("dsn"), "--issuer", "0123456789abcdef")
	if code == exitDone || !strings.Contains(talk, "127.0.0.1") {
		t.Errorf("of a database that does not answer: exit %d: %s", code, talk)
	}
	code, _, talk = h.muster("drill", "--config", h.path("muster.yaml"), "--issuer", "0123456789abcdef")
	if code != exitNotFound {
		t.Errorf("of nobody: exit %d: %s", code, talk)
	}
}
