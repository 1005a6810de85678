package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// ledgerEntry is one row of the ledger.
type ledgerEntry struct {
	Seq     int64           `json:"seq"`
	At      *time.Time      `json:"at"`
	Actor   string          `json:"actor" doc:"operator:NAME, device:ID or job:NAME."`
	Action  string          `json:"action" example:"enrollment.disabled"`
	Subject string          `json:"subject" example:"enrollment:press-0042"`
	Body    json.RawMessage `json:"body" doc:"The facts; secrets by their hashes."`
}

func ledgerEntryOf(e audit.Entry) (ledgerEntry, error) {
	return ledgerEntry{Seq: e.Seq, At: instant(e.At), Actor: e.Actor, Action: string(e.Action), Subject: e.Subject, Body: e.Body}, nil
}

type ledgerList struct {
	Paging
	Subject string `query:"subject" maxLength:"300"`
	Actor   string `query:"actor" maxLength:"300"`
	Action  string `query:"action" maxLength:"64"`
}

func (d *door) addAudit() {
	add(d, route{"list-audit", http.MethodGet, "/audit", policies.ScopeRead, "audit", "List the ledger, newest first", false}, d.listLedger)
}

func (d *door) listLedger(ctx context.Context, in *ledgerList) (*listed[ledgerEntry], error) {
	before, err := in.before(d.Engine, "audit")
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.Ledger(ctx, provisioning.LedgerFilter{
		Before: before, Limit: in.Limit + 1, Subject: in.Subject, Actor: in.Actor, Action: audit.Action(in.Action),
	})
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "audit", func(e audit.Entry) string { return strconv.FormatInt(e.Seq, 10) }, ledgerEntryOf)
}
