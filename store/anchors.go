package store

import "github.com/passmuster/muster/verify"

var anchorColumns = cols("t name, b certificate, i verified_at, t verified_by, t code, i code_expires, i created, i updated, i version")

var (
	selectAnchor  = statement("SELECT " + anchorColumns.list("") + " FROM trust_anchors WHERE name = ?")
	selectAnchors = statement("SELECT " + anchorColumns.list("") + " FROM trust_anchors WHERE name > ? ORDER BY name LIMIT ?")
	insertAnchor  = statement(insert("trust_anchors", append(anchorColumns[:len(anchorColumns):len(anchorColumns)], cols("b thumbprint, b subject_hash")...))).trust().
			unique(exists("anchor"))
	updateAnchor = statement("UPDATE trust_anchors SET " + set(anchorColumns, "name") + ", thumbprint = ?, subject_hash = ? WHERE name = ? AND version = ?").trust().
			missed(stale("anchor"))
	// The entries that lose a credential change, so their etags do (scenarios X3).
	touchReferrers = statement("UPDATE entries SET version = version + 1, due_at = 1 WHERE EXISTS " +
		"(SELECT 1 FROM entry_credentials c WHERE c.kind = entries.kind AND c.id = entries.id AND c.anchor = ?)").trust()
	deleteReferences = statement("DELETE FROM entry_credentials WHERE anchor = ?").trust()
	deleteAnchor     = statement("DELETE FROM trust_anchors WHERE name = ? AND version = ?").trust().missed(stale("anchor"))
)

// scanAnchorRecord leaves the certificate unparsed: Facts wants no TrustAnchor.
func scanAnchorRecord(r *row) verify.AnchorRecord {
	return verify.AnchorRecord{
		Name: r.text(), Certificate: r.blob(), VerifiedAt: r.time(), VerifiedBy: r.text(), Code: r.text(),
		CodeExpires: r.time(), Created: r.time(), Updated: r.time(), Version: r.int(),
	}
}

func scanAnchor(r *row) verify.TrustAnchor {
	record := scanAnchorRecord(r)
	a, err := verify.RestoreTrustAnchor(record)
	if err != nil && r.err == nil {
		r.err = err
	}
	return a
}

func anchorArgs(a verify.TrustAnchor) []any {
	r := a.Record()
	return []any{r.Name, octets(r.Certificate), micros(r.VerifiedAt), r.VerifiedBy, r.Code, micros(r.CodeExpires),
		micros(r.Created), micros(r.Updated), r.Version}
}

// anchorHashes are how an anchor is found: by certificate and by name.
func anchorHashes(a verify.TrustAnchor) (thumbprint, subject []byte) {
	l := a.Link()
	s := verify.NameHash(l.Cert.RawSubject)
	return l.Thumbprint[:], s[:]
}

func (t *tx) Anchor(name string) (verify.TrustAnchor, error) {
	return one(t, selectAnchor, notFound("anchor"), scanAnchor, name)
}

func (t *tx) Anchors(after string, limit int) ([]verify.TrustAnchor, error) {
	return all(t, selectAnchors, scanAnchor, after, atMost(limit))
}

func (t *tx) InsertAnchor(a verify.TrustAnchor) error {
	thumbprint, subject := anchorHashes(a)
	return t.exec(insertAnchor, append(anchorArgs(a), thumbprint, subject)...)
}

func (t *tx) UpdateAnchor(a verify.TrustAnchor, was int64) error {
	thumbprint, subject := anchorHashes(a)
	return t.exec(updateAnchor, append(anchorArgs(a)[1:], thumbprint, subject, a.Name(), was)...)
}

func (t *tx) DeleteAnchor(name string, version int64) error {
	if err := t.exec(touchReferrers, name); err != nil {
		return err
	}
	if err := t.exec(deleteReferences, name); err != nil {
		return err
	}
	return t.exec(deleteAnchor, name, version)
}
