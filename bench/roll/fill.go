package main

import (
	"context"
	"fmt"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
)

// bench is one store. Of its pairs, each with an active certificate half a life old, some
// are due first; as many again have one beside it whose overlap ends a day later.
type bench struct {
	file   *sqlite.Engine
	db     *store.DB
	engine *provisioning.Engine
	rows   int
	due    int
	now    time.Time
}

const (
	groups = 1000
	slice  = 50_000 // rows of one statement
	issuer = ca.IssuerID("0123456789abcdef")
)

// When things happen, after now as it is when the store is filled.
const (
	firstDue  = time.Hour
	retireDue = 24 * time.Hour
	laterDue  = 20 * 24 * time.Hour
)

func (b *bench) exec(ctx context.Context, text string, args ...any) error {
	return b.file.Update(ctx, store.Jobs, func(c store.Conn) error { return c.Exec(&store.Stmt{Text: text}, args...) })
}

func (b *bench) fill(ctx context.Context) error {
	if err := b.file.Migrate(ctx); err != nil {
		return err
	}
	err := b.db.ProvisioningJobs().Update(ctx, func(tx provisioning.Tx) error {
		if err := tx.InsertIssuer(ca.Issuer{ID: issuer, Name: "bench", Role: ca.RoleIssuing, State: ca.IssuerActive, Parent: issuer, KeyURI: "softkms:none.pem", Certificate: []byte("bench"), Created: b.now}); err != nil {
			return err
		}
		return tx.InsertProfile(provisioning.Profile{Profile: policies.DefaultProfile(), Created: b.now, Updated: b.now, Version: 1})
	})
	if err != nil {
		return err
	}
	// The index is made at the end, in its own order: it takes a fraction of the time.
	for _, text := range []string{
		"INSERT INTO entries (kind, id, spelled, enabled, device_id, allocation, hubs, update_hub, migrate_data, profile, iot_edge, created, updated, version) " +
			fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d) ", groups) +
			"SELECT 1, printf('line-%03d', i), printf('line-%03d', i), 1, '', 'hashed', '', 1, 1, 'default', 0, 1, 1, 1 FROM n",
		"DROP INDEX registrations_due",
	} {
		if err := b.exec(ctx, text); err != nil {
			return err
		}
	}
	for from := 0; from < b.rows; from += slice {
		if err := b.exec(ctx, b.registrations(from, min(from+slice, b.rows))); err != nil {
			return err
		}
	}
	if err := b.exec(ctx, "CREATE INDEX registrations_due ON registrations (due_at) WHERE due_at <> 0"); err != nil {
		return err
	}
	for _, slot := range []string{"primary", "secondary"} {
		if err := b.exec(ctx, b.certificates(slot), b.now.Add(retireDue).UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

// registrations inserts a stretch of pairs. Ids are in order, due dates are not: those that
// are due together lie all over the table.
func (b *bench) registrations(from, to int) string {
	at := func(d time.Duration) int64 { return b.now.Add(d).UnixMicro() }
	every := b.rows / b.due
	return fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d) ", from, to) +
		"INSERT INTO registrations SELECT printf('device-%08d', i), printf('device-%08d', i), 1, printf('line-%03d', i % 1000), 'x509', 'assigned', 'initialAssignment', 'hub-1.example.net', printf('device-%08d', i), '', " +
		"0, '', NULL, 1, " + fmt.Sprint(at(-time.Hour)) + ", 1, hex(randomblob(24)), randomblob(32), 1, " +
		fmt.Sprintf("randomblob(32), 2, %[1]d - 3888000000000, %[1]d + 3888000000000, 1, 0, ", at(0)) +
		fmt.Sprintf("CASE WHEN i %% %[1]d = 1 THEN randomblob(32) ELSE x'' END, CASE WHEN i %% %[1]d = 1 THEN 3 ELSE 0 END, "+
			"CASE WHEN i %% %[1]d = 1 THEN %[2]d ELSE 0 END, CASE WHEN i %% %[1]d = 1 THEN %[3]d ELSE 0 END, 0, CASE WHEN i %% %[1]d = 1 THEN %[4]d ELSE 0 END, ",
			every, at(-60*24*time.Hour), at(30*24*time.Hour), at(retireDue)) +
		fmt.Sprintf("'%s', randomblob(16), randomblob(32), randomblob(32), NULL, NULL, ", issuer) +
		fmt.Sprintf("CASE WHEN i %% %[1]d = 0 THEN %[2]d WHEN i %% %[1]d = 1 THEN %[3]d ELSE %[4]d + (i * 2654435761 %% 2000000) * 1000000 END FROM n",
			every, at(firstDue), at(retireDue), at(laterDue))
}

// certificates inserts those of the pairs whose overlap ends.
func (b *bench) certificates(slot string) string {
	return fmt.Sprintf("INSERT INTO certificates (issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, revoked_at, reason, shard, der) "+
		"SELECT '%s', randomblob(16), random(), %[2]s_ref, randomblob(32), id, x'', %[2]s_from, %[2]s_until, %[2]s_from, 0, '', 0, randomblob(700) "+
		"FROM registrations WHERE due_at = ?", issuer, slot)
}
