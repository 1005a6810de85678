package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

// drillCmd is `muster drill`: a disallowance on a copy of the database, beside the server that
// writes it. Everything is the real thing but hubs, which are not called and confirm, and the keys
// of issuers, which are not opened.
type drillCmd struct {
	anyScope
	output
	Issuer  string  `required:"" placeholder:"CERT|ID" help:"What is stolen in the drill: a certificate's file or SHA-256 thumbprint, or the id of an issuer."`
	Since   moment  `placeholder:"2h|RFC3339" help:"When, as muster disallow has it."`
	HubRate float64 `placeholder:"N" help:"How many devices a second a hub that lives elsewhere can be told of, for an estimate."`
}

// Validate keeps a rate from being nonsense.
func (d *drillCmd) Validate() error {
	if d.HubRate < 0 {
		return fmt.Errorf("--hub-rate is not below 0")
	}
	return nil
}

// drillActor is who acts in a drill, in the ledger of the copy.
const drillActor = "drill"

// issuerIDs is what ids of issuers look like.
var issuerIDs = regexp.MustCompile(`^[0-9a-f]{16}$`)

func (d *drillCmd) request() (r provisioning.DisallowRequest, err error) {
	r = provisioning.DisallowRequest{Since: time.Time(d.Since).UTC(), StopsIssuing: true}
	if issuerIDs.MatchString(d.Issuer) {
		r.Issuer = ca.IssuerID(d.Issuer)
		return r, nil
	}
	kind, value, err := meantBy(d.Issuer)
	switch {
	case err != nil:
	case kind == "thumbprint":
		r.Thumbprint, err = verify.ParseThumbprint(value)
	default:
		cert, parsed := verify.ParseCertificate([]byte(value))
		if err = parsed; err == nil {
			r.Certificate = cert.Raw
		}
	}
	return r, err
}

// Run copies the database, acts on the copy, removes it, and says how that went.
func (d *drillCmd) Run(ctx context.Context, s streams) (err error) {
	r, err := d.request()
	if err != nil {
		return err
	}
	c, err := d.config()
	if err != nil {
		return err
	}
	passphrase, err := c.passphrase()
	if err != nil {
		return err
	}
	keks, err := openShelf(c, passphrase, false)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(c.Data, ".drill-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	began := time.Now()
	copied := filepath.Join(work, "muster.db")
	if err := copyDatabase(ctx, c, copied); err != nil {
		return err
	}
	took := time.Since(began)
	file, err := sqlite.Open(ctx, copied, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	x, err := newDrill(ctx, c, file, keks.Box())
	if err != nil {
		return err
	}
	report, err := x.act(ctx, r)
	if err != nil {
		return err
	}
	report.CopySeconds = took.Seconds()
	report.estimate(d.HubRate)
	return d.print(s, report)
}

// copyDatabase copies an installation's database into a new SQLite file, PostgreSQL's too: reading it
// needs no right to write there, and nothing is left behind where something is live.
func copyDatabase(ctx context.Context, c config, into string) (err error) {
	live, err := openStoreReadOnly(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	if pg, ok := live.(*postgres.Engine); ok {
		return sqlite.Fill(ctx, into, pg.Rows)
	}
	return sqlite.Snapshot(ctx, filepath.Join(c.Data, "muster.db"), into)
}

// print shows a report; one whose receipts were not all written ends with "partly done".
func (d *drillCmd) print(s streams, report drillReport) error {
	raw, err := json.Marshal(report)
	if err != nil {
		return err
	}
	if d.Output != "table" && d.Output != "wide" {
		err = d.one(s.Out, table{{"THUMBPRINT", "thumbprint", false}}, raw)
	} else {
		err = report.print(s.Out, raw)
	}
	if err == nil && !report.Done {
		fmt.Fprintln(s.Err, "muster: not every receipt was written: look at the hubs' problems (muster hub list)")
		return quietExit{exitPartly}
	}
	return err
}

// drill is an installation's copy, and what acts on it.
type drill struct {
	db        *store.DB
	authority *ca.Authority
	engine    *provisioning.Engine
	ahead     time.Duration // its clock is, so that nobody waits for a pause to be over
	links     map[string]bool
}

func newDrill(ctx context.Context, c config, file *sqlite.Engine, box *seal.Box) (*drill, error) {
	if err := file.Migrate(ctx); err != nil {
		return nil, err
	}
	x := &drill{db: store.New(file), links: map[string]bool{}}
	idScope, err := x.db.GivenIDScope(ctx)
	if err != nil {
		return nil, err
	}
	now := func() time.Time { return time.Now().Add(x.ahead) }
	if x.authority, err = ca.New(ctx, x.db.CA(), closedKeys{}, c.authority(box), now); err != nil {
		return nil, err
	}
	drivers, err := x.readyHubs(ctx)
	if err != nil {
		return nil, err
	}
	x.engine = provisioning.New(provisioning.Config{
		IDScope: idScope, Store: x.db.Provisioning(), Authority: x.authority, Box: box, Now: now, Log: slog.New(slog.DiscardHandler),
		Ledger: x.db.Log(), HubDrivers: drivers,
	})
	return x, nil
}

// readyHubs notes which hubs live elsewhere, and has a driver that calls nobody for each; in the
// copy none has failed, and none has a rate to be kept.
func (x *drill) readyHubs(ctx context.Context) (map[string]provisioning.HubDriver, error) {
	drivers := map[string]provisioning.HubDriver{}
	err := x.db.Provisioning().Update(ctx, func(tx provisioning.Tx) error {
		links, err := tx.HubLinks()
		if err != nil {
			return err
		}
		for _, l := range links {
			x.links[l.Hub] = true
			if err := tx.UpdateHubLink(l); err != nil {
				return err
			}
		}
		hubs, err := tx.Hubs()
		for _, h := range hubs {
			drivers[h.Driver] = silentHub{}
			if h.Rate == 0 {
				continue
			}
			was := h.Version
			h.Rate, h.Version = 0, h.Version+1
			if err := tx.UpdateHub(h, was); err != nil {
				return err
			}
		}
		return err
	})
	return drivers, err
}

// act is the preview, the act and all that follows from it.
func (x *drill) act(ctx context.Context, r provisioning.DisallowRequest) (out drillReport, err error) {
	before, err := x.authority.RehearseCRLs(ctx)
	if err != nil {
		return out, err
	}
	began := time.Now()
	p, err := x.engine.PreviewDisallow(ctx, r)
	if err != nil {
		return out, err
	}
	if p.AlreadyBy != "" {
		return out, fault.New(fault.Conflict, "drill-already-disallowed", "it is disallowed already, by %s: there is nothing to try", p.AlreadyBy)
	}
	out = x.foreseen(p)
	out.PreviewSeconds = time.Since(began).Seconds()

	began = time.Now()
	i, err := x.engine.Disallow(ctx, drillActor, r, p.ID)
	if err != nil {
		return out, err
	}
	out.ActSeconds = time.Since(began).Seconds()
	got, err := x.follow(ctx, i.ID)
	if err != nil {
		return out, err
	}
	out.ReceiptsSeconds = time.Since(began).Seconds()
	out.Done, out.Devices, out.Revoked = !got.Done.IsZero(), got.Devices, got.Revoked
	after, err := x.authority.RehearseCRLs(ctx)
	out.CRLGrowth = grown(before, after)
	return out, err
}

// drillRounds bounds how often a drill goes on from a moment at which nothing was to be done.
const drillRounds = 48

// follow carries the disallowance on until every receipt is written. Where what is left waits for
// its time it is an hour later at once.
func (x *drill) follow(ctx context.Context, id string) (r provisioning.IncidentReport, err error) {
	for waited := 0; waited < drillRounds; {
		some, err := x.engine.SweepIncidents(ctx, x.db.ProvisioningJobs())
		if err != nil {
			return r, err
		}
		others, err := x.engine.SweepHubs(ctx, x.db.ProvisioningJobs())
		if err != nil {
			return r, err
		}
		if some || others {
			continue
		}
		if r, err = x.engine.Disallowance(ctx, id); err != nil || !r.Done.IsZero() {
			return r, err
		}
		x.ahead += time.Hour
		waited++
	}
	return r, nil
}

// grown is by how many octets CRLs that are there before and after have grown.
func grown(before, after []ca.CRLSize) (octets int) {
	was := map[ca.CRLSize]int{}
	of := func(s ca.CRLSize) ca.CRLSize { return ca.CRLSize{Issuer: s.Issuer, Shard: s.Shard} }
	for _, s := range before {
		was[of(s)] = s.Octets
	}
	for _, s := range after {
		octets += s.Octets - was[of(s)]
	}
	return octets
}

// silentHub confirms all it is told, and calls nobody.
type silentHub struct{}

func (silentHub) Traits() provisioning.HubTraits { return provisioning.HubTraits{Batch: 1} }

func (silentHub) Endpoint(string) (string, error) { return "", nil }

func (silentHub) Apply(_ context.Context, _ provisioning.HubAccess, want []provisioning.HubIdentity) []error {
	return make([]error, len(want))
}

func (silentHub) Test(context.Context, provisioning.HubAccess) error { return nil }

// closedKeys opens no key: a drill signs nothing that anybody could take for real.
type closedKeys struct{}

var errDrillKeys = fault.New(fault.Unavailable, "key-unavailable", "a drill opens no key")

func (closedKeys) Create(context.Context, string, policies.KeyType) (string, crypto.Signer, error) {
	return "", nil, errDrillKeys
}

func (closedKeys) Open(context.Context, string) (crypto.Signer, error) { return nil, errDrillKeys }

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) + " s" }
