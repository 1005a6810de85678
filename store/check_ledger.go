package store

import (
	"encoding/hex"
	"encoding/json"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/verify"
)

// The ledger and what it tells of are compared part by part: each part holds the objects
// whose name falls into it, so that memory is bounded by the part.
const partSize = 50_000

// parts says into how many parts the rows of a table are cut.
func (c *checker) parts(table string) (n uint64, err error) {
	err = c.each("SELECT count(*) FROM "+table, func(r *row) { n = uint64(r.int())/partSize + 1 })
	return n, err
}

// told is what the ledger says of one certificate.
type told struct {
	issued, revoked     int
	onRecord, isRevoked bool
}

// inventory compares certificates with the ledger, both ways: every certificate has
// exactly one row of its issuing, every such row its certificate (recorded), and every
// revoked one a row of that (accounted).
func (c *checker) inventory() error {
	parts, err := c.parts("certificates")
	if err != nil {
		return err
	}
	seed := maphash.MakeSeed()
	for part := range parts {
		mine := func(name string) bool { return maphash.String(seed, name)%parts == part }
		certs := make(map[string]*told)
		if err := c.certificates(certs, mine, part == 0); err != nil {
			return err
		}
		if err := c.ledgerOfCertificates(certs, mine); err != nil {
			return err
		}
		for name, t := range certs {
			c.judge("certificate "+name, *t)
		}
	}
	return nil
}

func (c *checker) judge(object string, t told) {
	switch {
	case !t.onRecord:
		c.add("recorded", object, "the ledger tells of it and the inventory does not have it")
	case t.issued == 0:
		c.add("recorded", object, "the ledger does not tell of its issuing")
	case t.issued > 1:
		c.add("accounted", object, "the ledger tells of its issuing more than once")
	}
	switch {
	case t.onRecord && t.isRevoked && t.revoked == 0:
		c.add("accounted", object, "the ledger does not tell of its revocation")
	case t.onRecord && !t.isRevoked && t.revoked > 0:
		c.add("one-way", object, "the ledger tells of its revocation and the inventory has it as good")
	}
}

// certificates notes those of a part. The first pass also compares what is derived from
// the DER with it.
func (c *checker) certificates(certs map[string]*told, mine func(string) bool, bytesToo bool) error {
	return c.each("SELECT issuer, serial, revoked_at, thumb8, thumbprint, der FROM certificates ORDER BY position", func(r *row) {
		name := r.text() + "/" + r.hex()
		revoked, index, thumbprint, der := r.bool(), r.int(), verify.Thumbprint(r.hash()), r.blob()
		if mine(name) {
			certs[name] = &told{onRecord: true, isRevoked: revoked}
		}
		if bytesToo && (verify.ThumbprintOf(der) != thumbprint || thumb8(thumbprint) != index) {
			c.add("recorded", "certificate "+name, "its thumbprint is not that of its bytes")
		}
	})
}

func (c *checker) ledgerOfCertificates(certs map[string]*told, mine func(string) bool) error {
	return c.each("SELECT seq, action, body FROM ledger WHERE action IN (?, ?) ORDER BY seq", func(r *row) {
		_, action, body := r.int(), audit.Action(r.text()), r.blob()
		var named struct{ Issuer, Serial string }
		if json.Unmarshal(body, &named) != nil || named.Serial == "" {
			return // a row about something else, or of a shape this check does not know
		}
		if b, err := hex.DecodeString(named.Serial); err == nil {
			named.Serial = hex.EncodeToString(b)
		}
		name := named.Issuer + "/" + named.Serial
		if !mine(name) {
			return
		}
		t, ok := certs[name]
		if !ok {
			t = new(told)
			certs[name] = t
		}
		if action == audit.Issued {
			t.issued++
		} else {
			t.revoked++
		}
	}, string(audit.Issued), string(audit.Revoked))
}

// accounts are the tables whose rows have a row of their making in the ledger.
var accounts = []struct {
	table   string // and the row's name in the ledger's subject: "group:line-3"
	subject string
	made    []audit.Action
}{
	{"entries", "CASE WHEN kind = 1 THEN 'group:' ELSE 'enrollment:' END || id", []audit.Action{audit.EnrollmentCreated}},
	{"trust_anchors", "'anchor:' || name", []audit.Action{audit.AnchorUploaded}},
	{"hubs", "'hub:' || name", []audit.Action{audit.HubLinked}},
	{"hub_devices", "'hub-device:' || hub || '/' || device", []audit.Action{
		audit.HubDeviceCreated, audit.HubDeviceUpdated, audit.HubDeviceDisabled, audit.HubDeviceEnabled, audit.HubDeviceKept,
	}},
	{"profiles", "'profile:' || name", []audit.Action{audit.ProfileWritten}},
	{"tokens", "'token:' || name", []audit.Action{audit.TokenCreated}},
	{"issuers", "'issuer:' || id", []audit.Action{audit.IssuerCreated, audit.IssuerImported}},
}

// objects looks for things that came to be without a ledger row (accounted).
func (c *checker) objects() error {
	seed := maphash.MakeSeed()
	for _, a := range accounts {
		parts, err := c.parts(a.table)
		if err != nil {
			return err
		}
		for part := range parts {
			missing := make(map[string]struct{})
			err := c.each("SELECT "+a.subject+" FROM "+a.table, func(r *row) {
				if name := r.text(); maphash.String(seed, name)%parts == part {
					missing[name] = struct{}{}
				}
			})
			if err != nil {
				return err
			}
			if err := c.cross(missing, a.made); err != nil {
				return err
			}
			for name := range missing {
				c.add("accounted", strings.Replace(name, ":", " ", 1), "the ledger does not tell of its making")
			}
		}
	}
	return nil
}

// cross takes off the list what the ledger tells of.
func (c *checker) cross(missing map[string]struct{}, made []audit.Action) error {
	if len(missing) == 0 {
		return nil
	}
	return c.each("SELECT action, subject FROM ledger ORDER BY seq", func(r *row) {
		if slices.Contains(made, audit.Action(r.text())) {
			delete(missing, r.text())
		}
	})
}
