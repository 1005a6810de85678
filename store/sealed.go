package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/provisioning"
)

// sealedColumn is a column of sealed values with its statements.
type sealedColumn struct {
	table, name        string
	key                columns
	list, count, reset *Stmt
}

// sealedColumns are the places of provisioning.SealedPlace. The id of the KEK is the first
// eight bytes of a value, so the database can tell which are left.
var sealedColumns = map[provisioning.SealedPlace]sealedColumn{
	// What is kept of fleets holds keys as they were sealed: it is read again.
	provisioning.SealedEntryKeys:      sealedIn("entry_credentials", "sealed_key", "i kind, t id, i slot", true),
	provisioning.SealedPolicyFirst:    sealedIn("access_policies", "primary_key", "t plane, t name", false),
	provisioning.SealedPolicySecond:   sealedIn("access_policies", "secondary_key", "t plane, t name", false),
	provisioning.SealedHubFirst:       sealedIn("hub_devices", "primary_key", "t hub, t device", false),
	provisioning.SealedHubSecond:      sealedIn("hub_devices", "secondary_key", "t hub, t device", false),
	provisioning.SealedResponders:     sealedIn("ocsp_responders", "sealed_key", "t issuer", false),
	provisioning.SealedWebhooks:       sealedIn("entries", "webhook", "i kind, t id", true),
	provisioning.SealedSubscribers:    sealedIn("subscriptions", "sealed_url", "t name", false),
	provisioning.SealedSubscriberKeys: sealedIn("subscriptions", "sealed_key", "t name", false),
	provisioning.SealedHubAddresses:   sealedIn("hub_links", "sealed_url", "t hub", false),
	provisioning.SealedHubKeys:        sealedIn("hub_links", "sealed_key", "t hub", false),
	provisioning.SealedTPMChallenges:  sealedIn("tpm_challenges", "sealed_key", "t registration_id", false),
	provisioning.SealedTPMDevices:     sealedIn("tpm_devices", "sealed_key", "t registration_id", false),
}

func sealedIn(table, column, key string, trust bool) sealedColumn {
	c := sealedColumn{table: table, name: column, key: cols(key)}
	others := " FROM " + table + " WHERE length(" + column + ") > 0 AND substr(" + column + ", 1, 8) <> ?"
	c.list = statement("SELECT " + c.key.list("") + ", " + column + others + " AND (" + c.key.list("") + ") > (" + marks(len(c.key)) + ") ORDER BY " + c.key.list("") + " LIMIT ?")
	c.count = statement("SELECT count(*)" + others)
	var where strings.Builder
	for _, k := range c.key {
		where.WriteString(k.name + " = ? AND ")
	}
	c.reset = statement("UPDATE " + table + " SET " + column + " = ? WHERE " + where.String() + column + " = ?")
	c.reset.Trust = trust
	return c
}

// args are the values of a row's key; nil is before the first.
func (c sealedColumn) args(key []string) ([]any, error) {
	var out []any
	for i, k := range c.key {
		switch {
		case key == nil && k.kind == 'i':
			out = append(out, int64(-1))
		case key == nil:
			out = append(out, "")
		case k.kind == 'i':
			n, err := strconv.ParseInt(key[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("internal error: the key of a row of %s: %w", c.table, err)
			}
			out = append(out, n)
		default:
			out = append(out, key[i])
		}
	}
	return out, nil
}

func (t *tx) SealedByOthers(place provisioning.SealedPlace, than seal.KEKID, after []string, limit int) ([]provisioning.SealedValue, error) {
	c := sealedColumns[place]
	from, err := c.args(after)
	if err != nil {
		return nil, err
	}
	return all(t, c.list, func(r *row) provisioning.SealedValue {
		v := provisioning.SealedValue{Place: place}
		for _, k := range c.key {
			if k.kind == 'i' {
				v.Key = append(v.Key, strconv.FormatInt(r.int(), 10))
			} else {
				v.Key = append(v.Key, r.text())
			}
		}
		v.Sealed = r.blob()
		return v
	}, append(append([]any{than[:]}, from...), atMost(limit))...)
}

func (t *tx) CountSealedByOthers(than seal.KEKID) (n int64, err error) {
	for _, place := range provisioning.SealedPlaces() {
		err := t.query(sealedColumns[place].count, func(r *row) error {
			n += r.int()
			return nil
		}, than[:])
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (t *tx) Reseal(read provisioning.SealedValue, sealed []byte) error {
	c := sealedColumns[read.Place]
	key, err := c.args(read.Key)
	if err != nil {
		return err
	}
	return t.exec(c.reset, append(append([]any{sealed}, key...), read.Sealed)...)
}
