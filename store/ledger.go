package store

import (
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/provisioning"
)

const ledgerColumns = "seq, at, actor, action, subject, body"

var insertEvent = statement("INSERT INTO ledger (at, actor, action, subject, body) VALUES (?, ?, ?, ?, ?)")

func scanLedger(r *row) audit.Entry {
	return audit.Entry{Seq: r.int(), Event: audit.Event{
		At: r.time(), Actor: r.text(), Action: audit.Action(r.text()), Subject: r.text(), Body: r.blob(),
	}}
}

func (t *tx) Append(e audit.Event) error {
	return t.exec(insertEvent, micros(e.At), e.Actor, string(e.Action), e.Subject, octets(e.Body))
}

func (t *tx) LedgerEntries(f provisioning.LedgerFilter) ([]audit.Entry, error) {
	var w where
	if f.Before > 0 {
		w.add("seq < ?", f.Before)
	}
	if f.Subject != "" {
		w.add("subject = ?", f.Subject)
	}
	if f.Actor != "" {
		w.add("actor = ?", f.Actor)
	}
	if f.Action != "" {
		w.add("action = ?", string(f.Action))
	}
	s, args := w.list("SELECT "+ledgerColumns+" FROM ledger", "seq DESC", f.Limit)
	return all(t, s, scanLedger, args...)
}
