package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
)

// Extensions of RFC 5280 that crypto/x509 leaves to its callers.
var (
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshestCRL              = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// draft is what the CRLs that a shard gets at one moment have in common.
type draft struct {
	number     int64
	thisUpdate time.Time
	nextUpdate time.Time
	shard      CRLShard
	address    string // of the shard; "": the list is of all the issuer's certificates
	freshest   string // where deltas are; "": nowhere
}

// draftCRL dates a shard's next CRLs. A clock that went back a little makes no list that
// seems older than the last; one that went back far has been set right.
func (a *Authority) draftCRL(i *issuer, was publication, now time.Time) draft {
	d := draft{number: was.shard.Number + 1, shard: was.shard, address: was.shard.Address, thisUpdate: now.UTC().Truncate(time.Second)}
	if was.last.After(d.thisUpdate) && !was.last.After(now.Add(clockSlack)) {
		d.thisUpdate = was.last
	}
	d.nextUpdate = d.thisUpdate.Add(a.config.CRLLifetime)
	// Beside the lists of other shards one that names no part would be taken for the whole.
	// A root has one list, and that is whole.
	if d.address == "" && i.Role != RoleRoot {
		d.address = a.crlURL(i.ID)
	}
	if a.config.DeltaCRL {
		d.freshest = a.deltaURL(i.ID, was.shard.Shard)
	}
	return d
}

// crlList is one CRL to be signed.
type crlList struct {
	base    int64 // 0: whole
	revoked []Revocation
}

// delta lists what has changed since a whole CRL: what that one does not say, or says
// otherwise. Going by its entries and not by dates, it cannot miss a revocation that was
// committed late or by another clock.
func (d draft) delta(base *CRL, revoked []Revocation) (crlList, error) {
	was, err := x509.ParseRevocationList(base.DER)
	if err != nil {
		return crlList{}, fault.New(fault.Internal, "crl-damaged", "A CRL on record does not parse.").About("issuer " + string(base.Issuer)).Because(err)
	}
	said := make(map[Serial]int, len(was.RevokedCertificateEntries))
	for _, e := range was.RevokedCertificateEntries {
		said[SerialOf(e.SerialNumber)] = e.ReasonCode
	}
	l := crlList{base: base.Number}
	for _, r := range revoked {
		code, _ := r.Reason.code()
		if was, is := said[r.Serial]; !is || was != code {
			l.revoked = append(l.revoked, r)
		}
	}
	return l, nil
}

// sign signs a list (RFC 5280 §5) and adds it to those signed before it.
func (d draft) sign(signed []CRL, i *issuer, l crlList) ([]CRL, error) {
	crl := CRL{
		Issuer: i.ID, Shard: d.shard.Shard, Number: d.number, Base: l.base, Entries: len(l.revoked), Covers: d.shard.Revocations,
		ThisUpdate: d.thisUpdate, NextUpdate: d.nextUpdate,
	}
	template := &x509.RevocationList{
		Number: big.NewInt(crl.Number), ThisUpdate: crl.ThisUpdate, NextUpdate: crl.NextUpdate,
		RevokedCertificateEntries: make([]x509.RevocationListEntry, len(l.revoked)),
	}
	if d.address != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, issuingDistributionPoint(d.address))
	}
	switch {
	case l.base != 0:
		template.ExtraExtensions = append(template.ExtraExtensions, deltaCRLIndicator(l.base))
	case d.freshest != "":
		template.ExtraExtensions = append(template.ExtraExtensions, freshestCRL(d.freshest))
	}
	for n, r := range l.revoked {
		var err error
		if template.RevokedCertificateEntries[n], err = crlEntry(r); err != nil {
			return nil, err
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, i.certificate, i.signer)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "signing-failed", "The issuer's key could not sign.").About("issuer " + string(i.ID)).Because(err)
	}
	crl.DER = der
	return append(signed, crl), nil
}

// crlEntry is one line of a CRL. The reason "unspecified" is left out (RFC 5280 §5.3.1).
func crlEntry(r Revocation) (x509.RevocationListEntry, error) {
	serial, err := r.Serial.number()
	code, known := r.Reason.code()
	if err != nil || !known {
		return x509.RevocationListEntry{}, fault.New(fault.Internal, "certificate-damaged", "A revoked certificate's row cannot be read.").
			About("certificate " + string(r.Serial)).Because(err)
	}
	return x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.RevokedAt.UTC(), ReasonCode: code}, nil
}

// CRLEntrySize is the size of one entry in octets, of a certificate whose serial we made.
func CRLEntrySize(r Reason) int {
	entry := pkix.RevokedCertificate{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 8*maxSerial-2), RevocationTime: time.Unix(0, 0).UTC()}
	if code, _ := r.code(); code != 0 {
		entry.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 21}, Value: []byte{byte(cbasn1.ENUM), 1, byte(code)}}}
	}
	der, err := asn1.Marshal(entry)
	if err != nil {
		panic("internal error: a CRL entry: " + err.Error())
	}
	return len(der)
}

// issuingDistributionPoint says which part of the issuer's certificates a list is about: those
// that name this address (RFC 5280 §5.2.5).
func issuingDistributionPoint(address string) pkix.Extension {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addDistributionPoint(b, address) })
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: b.BytesOrPanic()}
}

// freshestCRL says where deltas are, in a certificate and in a whole list (RFC 5280 §4.2.1.15,
// §5.2.6).
func freshestCRL(address string) pkix.Extension {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addDistributionPoint(b, address) })
	})
	return pkix.Extension{Id: oidFreshestCRL, Value: b.BytesOrPanic()}
}

// deltaCRLIndicator says which whole list a delta adds to (RFC 5280 §5.2.4).
func deltaCRLIndicator(base int64) pkix.Extension {
	var b cryptobyte.Builder
	b.AddASN1Int64(base)
	return pkix.Extension{Id: oidDeltaCRLIndicator, Critical: true, Value: b.BytesOrPanic()}
}

// addDistributionPoint adds a DistributionPointName with one URI (RFC 5280 §4.2.1.13).
func addDistributionPoint(b *cryptobyte.Builder, address string) {
	outer := cbasn1.Tag(0).Constructed().ContextSpecific()
	b.AddASN1(outer, func(b *cryptobyte.Builder) { // distributionPoint, a CHOICE and so explicit
		b.AddASN1(outer, func(b *cryptobyte.Builder) { // fullName
			b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(address)) })
		})
	})
}
