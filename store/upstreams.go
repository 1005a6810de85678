package store

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

var (
	intentColumns     = cols("t id, t issuer, t registration_id, b csr, i created, t state, i settled, b serial, b certificate, t detail")
	revocationColumns = cols("t issuer, b serial, t reason, b certificate, t intent, i created, i tries, i next_try, i told, t detail")
)

var (
	insertIntent   = statement(insert("intents", intentColumns)).unique(exists("intent")).foreign(notFound("issuer"))
	selectIntent   = statement("SELECT " + intentColumns.list("") + " FROM intents WHERE id = ?")
	selectIntents  = "SELECT " + intentColumns.list("") + " FROM intents"
	updateIntent   = statement("UPDATE intents SET state = ?, settled = ?, serial = ?, certificate = ?, detail = ? WHERE id = ? AND state = ?").missed(errIntentSettled)
	closeIntent    = statement("UPDATE intents SET state = 'issued', settled = ? WHERE id = ? AND state = 'open'").missed(errIntentSettled)
	countUpstreams = statement("SELECT (SELECT count(*) FROM intents WHERE state = 'open'), (SELECT count(*) FROM intents WHERE state = 'orphaned'), " +
		"(SELECT count(*) FROM upstream_revocations WHERE told = 0)").apart()

	insertRevocation = statement(insert("upstream_revocations", revocationColumns) + " ON CONFLICT (issuer, serial) DO NOTHING").foreign(notFound("issuer"))
	// Whether the issuer's key is elsewhere is in its row: only then is there somebody to tell.
	tellUpstream = statement("INSERT INTO upstream_revocations (" + revocationColumns.list("") + ") " +
		"SELECT c.issuer, c.serial, c.reason, c.der, '', ?, 0, ?, 0, '' FROM certificates c JOIN issuers i ON i.id = c.issuer " +
		"WHERE c.issuer = ? AND c.serial = ? AND i.upstream <> '' ON CONFLICT (issuer, serial) DO NOTHING")
	updateRevocation = statement("UPDATE upstream_revocations SET tries = ?, next_try = ?, told = ?, detail = ? WHERE issuer = ? AND serial = ?").
				missed(notFound("upstream-revocation"))
)

var errIntentSettled = fault.New(fault.Conflict, "intent-settled", "What became of the request to the upstream is on record already.")

func scanIntent(r *row) ca.Intent {
	return ca.Intent{
		ID: r.text(), Issuer: ca.IssuerID(r.text()), RegistrationID: r.id(), CSR: r.blob(), Created: r.time(), State: ca.IntentState(r.text()),
		Settled: r.time(), Serial: ca.Serial(r.hex()), Certificate: r.blob(), Detail: r.text(),
	}
}

func scanUpstreamRevocation(r *row) ca.UpstreamRevocation {
	return ca.UpstreamRevocation{
		Issuer: ca.IssuerID(r.text()), Serial: ca.Serial(r.hex()), Reason: ca.Reason(r.text()), Certificate: r.blob(), Intent: r.text(),
		Created: r.time(), Tries: int(r.int()), Next: r.time(), Told: r.time(), Detail: r.text(),
	}
}

func (t *tx) InsertIntent(i ca.Intent) error {
	serial, err := serialBytes(i.Serial)
	if err != nil {
		return err
	}
	return t.exec(insertIntent, i.ID, string(i.Issuer), i.RegistrationID.String(), octets(i.CSR), micros(i.Created), string(i.State),
		micros(i.Settled), octets(serial), octets(i.Certificate), i.Detail)
}

func (t *tx) Intent(id string) (ca.Intent, error) {
	return one(t, selectIntent, notFound("intent"), scanIntent, id)
}

func (t *tx) Intents(f ca.IntentFilter) ([]ca.Intent, error) {
	var w where
	if f.Issuer != "" {
		w.add("issuer = ?", string(f.Issuer))
	}
	if f.State != "" {
		w.add("state = ?", string(f.State))
	}
	if f.Unended {
		w.add("state IN ('open', 'orphaned')")
	}
	if !f.Before.IsZero() {
		w.add("created < ?", micros(f.Before))
	}
	if f.After.ID != "" {
		w.add("(created > ? OR created = ? AND id > ?)", micros(f.After.Created), micros(f.After.Created), f.After.ID)
	}
	s, args := w.list(selectIntents, "created, id", f.Limit)
	return all(t, s, scanIntent, args...)
}

func (t *tx) UpdateIntent(i ca.Intent, was ca.IntentState) error {
	serial, err := serialBytes(i.Serial)
	if err != nil {
		return err
	}
	return t.exec(updateIntent, string(i.State), micros(i.Settled), octets(serial), octets(i.Certificate), i.Detail, i.ID, string(was))
}

func (t *tx) CloseIntent(id string, at time.Time) error { return t.exec(closeIntent, micros(at), id) }

func (t *tx) TellUpstream(c ca.Certificate, at time.Time) error {
	serial, err := serialBytes(c.Serial)
	if err != nil {
		return err
	}
	return t.exec(tellUpstream, micros(at), micros(at), string(c.Issuer), serial)
}

func (t *tx) InsertUpstreamRevocation(r ca.UpstreamRevocation) error {
	serial, err := serialBytes(r.Serial)
	if err != nil {
		return err
	}
	return t.exec(insertRevocation, string(r.Issuer), serial, string(r.Reason), octets(r.Certificate), r.Intent, micros(r.Created),
		int64(r.Tries), micros(r.Next), micros(r.Told), r.Detail)
}

func (t *tx) UpdateUpstreamRevocation(r ca.UpstreamRevocation) error {
	serial, err := serialBytes(r.Serial)
	if err != nil {
		return err
	}
	return t.exec(updateRevocation, int64(r.Tries), micros(r.Next), micros(r.Told), r.Detail, string(r.Issuer), serial)
}

func (t *tx) DueUpstreamRevocations(issuer ca.IssuerID, intent string, now time.Time, limit int) ([]ca.UpstreamRevocation, error) {
	var w where
	w.add("issuer = ? AND told = 0 AND next_try <= ?", string(issuer), micros(now))
	if intent != "" {
		w.add("intent = ?", intent)
	}
	s, args := w.list("SELECT "+revocationColumns.list("")+" FROM upstream_revocations", "next_try, serial", limit)
	return all(t, s, scanUpstreamRevocation, args...)
}

func (t *tx) UpstreamBacklog() (ca.UpstreamBacklog, error) {
	return one(t, countUpstreams, notFound("upstream"), func(r *row) ca.UpstreamBacklog {
		return ca.UpstreamBacklog{Open: r.int(), Orphaned: r.int(), Revocations: r.int()}
	})
}
