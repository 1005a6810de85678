package store

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// The match View is one statement (store design §4): several questions about one
// attempt to register, answered by rows of one shape. tag says which question a row
// answers, and is its first value.
type tag int64

const (
	tagEpoch tag = iota
	tagRegistration
	tagRegistrationRest
	tagLink
	tagDisallowance
	tagEntry
	tagCredential
	tagAnchor
	tagIssued
	tagHub
	tagAlias
	tagProfile
	tagListed
	tags
)

// branch is one question: the columns its scan function reads, and where from.
type branch struct {
	tag  tag
	cols columns
	from string
}

// shape is how many places of each kind a row has. A driver is asked for every place of
// every row, so a narrow shape is a fast one: a registration, the widest answer, comes
// in two rows.
var shape = [...]struct {
	kind byte
	n    int
	of   string // a column of registrations that tells PostgreSQL the type
}{{'i', 10, "version"}, {'t', 6, "id"}, {'b', 4, "leaf"}}

var (
	epochColumns      = cols("i value")
	linkColumns       = cols("i position, b thumbprint")
	aliasColumns      = cols("t hub, t id")
	factAnchorColumns = cols("t name, b certificate, i verified_at, b thumbprint")
	issuedColumns     = slices.Concat(certificateColumns, cols("i issuer_revoked"))

	// registrationParts are the columns of each of the two rows, as places in registrationColumns.
	registrationParts = func() (parts [2][]int) {
		free := map[byte]int{}
		for _, k := range shape {
			free[k.kind] = k.n
		}
		for i, c := range registrationColumns {
			part := 1
			if free[c.kind] > 0 {
				free[c.kind]--
				part = 0
			}
			parts[part] = append(parts[part], i)
		}
		return parts
	}()
)

func registrationPart(n int) (part columns) {
	for _, i := range registrationParts[n] {
		part = append(part, registrationColumns[i])
	}
	return part
}

// branches in the order of their tags.
var branches = [tags]branch{
	{tagEpoch, epochColumns, "trust_epoch x"},
	{tagRegistration, registrationPart(0), "reg x"},
	{tagRegistrationRest, registrationPart(1), "reg x"},
	{tagLink, linkColumns, "link x"},
	{tagDisallowance, disallowanceColumns, "(SELECT d.* FROM named n CROSS JOIN disallowances d WHERE d.digest = n.digest AND d.lifted_at = 0" +
		" UNION ALL SELECT d.* FROM disallowances d WHERE d.subject_hash IS NOT NULL AND d.lifted_at = 0) x"}, // all CAs: they are few
	{tagEntry, entryColumns, "met m CROSS JOIN entries x WHERE x.kind = m.kind AND x.id = m.id"},
	{tagCredential, credentialColumns, "met m CROSS JOIN entry_credentials x WHERE x.kind = m.kind AND x.id = m.id"},
	{tagAnchor, factAnchorColumns, "held h CROSS JOIN trust_anchors x WHERE x.name = h.name"},
	{tagIssued, issuedColumns, "(SELECT " + certificateColumns.list("c.") + ", CASE WHEN i.state = 'revoked' THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS issuer_revoked " +
		"FROM certificates c CROSS JOIN issuers i WHERE c.thumb8 = ? AND i.id = c.issuer) x"},
	{tagHub, hubColumns, "hubs x"},
	{tagAlias, aliasColumns, `(
  SELECT r.hub, r.id FROM wanted w CROSS JOIN registrations r WHERE r.alias = w.name AND r.alias <> '' AND r.hub <> '' AND r.id <> ?
  UNION ALL
  SELECT r.hub, r.id FROM wanted w CROSS JOIN registrations r WHERE r.id = w.name AND r.alias = '' AND r.hub <> '' AND r.id <> ?) x`},
	{tagProfile, profileColumns, "profiles x"},
	{tagListed, listedColumns, "named n CROSS JOIN endorsement_keys x WHERE x.key_hash = n.digest"},
}

// width is the number of values in a row: the tag and the shape's places.
var width = func() int {
	n := 1
	for _, k := range shape {
		n += k.n
	}
	return n
}()

// places maps each branch's columns to their places in a row: the next free one of the
// column's kind. Place 0 is the tag.
var places = func() (p [tags][]int) {
	for i, b := range branches {
		free, at := map[byte][]int{}, 1
		for _, k := range shape {
			for range k.n {
				free[k.kind] = append(free[k.kind], at)
				at++
			}
		}
		for _, c := range b.cols {
			p[i] = append(p[i], free[c.kind][0])
			free[c.kind] = free[c.kind][1:]
		}
	}
	return p
}()

// typed is a SELECT without rows that gives every place its type.
func typed() string {
	var b strings.Builder
	b.WriteString("SELECT CAST(0 AS BIGINT)")
	for _, k := range shape {
		b.WriteString(strings.Repeat(", x."+k.of, k.n))
	}
	return b.String() + " FROM registrations x WHERE 1 = 0"
}

// selection is a branch's SELECT in the common shape.
func (b branch) selection() string {
	at := make([]string, width)
	for i := range at {
		at[i] = "NULL"
	}
	at[0] = "CAST(" + strconv.Itoa(int(b.tag)) + " AS BIGINT)"
	for i, c := range b.cols {
		at[places[b.tag][i]] = "x." + c.name
	}
	return "SELECT " + strings.Join(at, ", ") + " FROM " + b.from
}

// factsShape is what the text of the statement depends on.
type factsShape struct {
	size      int // index into factsSizes
	sharedKey bool
	profiles  bool
	tpm       bool
}

// lists says that a list of endorsement keys may bear on it: a poll shows a token alone, be it a TPM's.
func (s factsShape) lists() bool { return s.tpm || s.sharedKey }

// factsSizes are the numbers of thumbprints, and of issuers' names, a statement is made
// for; shorter lists are filled up by repeating. A statement takes one key more: a CSR's.
var factsSizes = [...]int{0, 1, 2, 3, 5, 10}

// factsStatements keeps the statement of each shape.
type factsStatements [len(factsSizes) * 8]atomic.Pointer[Stmt]

func (f *factsStatements) of(s factsShape) *Stmt {
	slot := &f[s.size*8+int(flag(s.tpm))*4+int(flag(s.sharedKey))*2+int(flag(s.profiles))]
	if made := slot.Load(); made != nil {
		return made
	}
	slot.CompareAndSwap(nil, statement(s.text()).alone())
	return slot.Load()
}

// text is the statement. Its parameters, in order: the id; the thumbprints; the keys;
// the issuers' names; the id three times; the leaf's thumb8 where there are
// thumbprints; the id twice.
//
// SQLite takes the tables of a CROSS JOIN in the order written: left to itself it may
// begin with the large one. What is asked about may stand there twice: to sort that out
// for each question would cost more than the questions do.
func (s factsShape) text() string {
	n := factsSizes[s.size]
	var b strings.Builder
	b.WriteString("WITH reg AS (SELECT * FROM registrations WHERE id = ?),\n" +
		"link AS (SELECT l.* FROM reg CROSS JOIN chain_links l WHERE l.chain = reg.chain),\n" +
		"asked (thumbprint) AS (SELECT leaf FROM reg UNION ALL SELECT thumbprint FROM link")
	b.WriteString(strings.Repeat(" UNION ALL SELECT ?", n))
	b.WriteString("),\nnamed (digest) AS (SELECT thumbprint FROM asked UNION ALL SELECT leaf_key FROM reg UNION ALL SELECT key_hash FROM link")
	b.WriteString(strings.Repeat(" UNION ALL SELECT ?", n+1))
	// The first SELECT has no rows: it tells PostgreSQL the type.
	b.WriteString("),\nissuer (name) AS (SELECT leaf FROM reg WHERE 1 = 0")
	b.WriteString(strings.Repeat(" UNION ALL SELECT ?", n))
	b.WriteString("),\nheld (name) AS (SELECT a.name FROM asked q CROSS JOIN trust_anchors a WHERE a.thumbprint = q.thumbprint\n" +
		" UNION SELECT a.name FROM issuer i CROSS JOIN trust_anchors a WHERE a.subject_hash = i.name),\n" +
		"met (kind, id) AS (SELECT kind, id FROM entries WHERE kind = 0 AND id = ?\n" +
		" UNION SELECT owner_kind, owner_id FROM reg WHERE owner_id IS NOT NULL\n" +
		" UNION SELECT c.kind, c.id FROM asked q CROSS JOIN entry_credentials c WHERE c.thumbprint = q.thumbprint\n" +
		" UNION SELECT c.kind, c.id FROM issuer i CROSS JOIN entry_credentials c WHERE c.subject_hash = i.name\n" +
		" UNION SELECT c.kind, c.id FROM held h CROSS JOIN entry_credentials c WHERE c.anchor = h.name")
	if s.sharedKey {
		b.WriteString("\n UNION SELECT kind, id FROM entry_credentials WHERE kind = 1 AND role = 'key'")
	}
	if s.lists() {
		b.WriteString("\n UNION SELECT g.kind, g.id FROM named n CROSS JOIN endorsement_keys g WHERE g.key_hash = n.digest")
	}
	// The name the device would take: what its individual entry says, else what it has
	// been given by a group, else its id.
	b.WriteString("),\nwanted (name) AS (SELECT COALESCE(\n" +
		" (SELECT CASE WHEN device_id <> '' THEN lower(device_id) ELSE id END FROM entries WHERE kind = 0 AND id = ?),\n" +
		" (SELECT alias FROM reg WHERE owner_kind = 1 AND alias <> ''),\n" +
		" ?))\n")
	b.WriteString(typed())
	for _, question := range branches {
		if question.tag == tagProfile && !s.profiles || question.tag == tagIssued && n == 0 || question.tag == tagListed && !s.lists() {
			continue
		}
		b.WriteString("\nUNION ALL ")
		b.WriteString(question.selection())
	}
	return b.String()
}
