package ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Upstreams are the names of the configured upstreams, in order.
func (a *Authority) Upstreams() []string { return slices.Sorted(maps.Keys(a.config.Upstreams)) }

// AdoptRequest describes an issuer whose key is with an upstream.
type AdoptRequest struct {
	Upstream string
	Name     string // of the issuer; "" for the common name of its certificate
	Profile  string // it signs for; "" for all that have no issuer of their own
}

// Adopt makes an issuer that an upstream signs for: it fetches the upstream's chain and puts
// it on record, those above the CA that signs as external. The issuer is active, or prepared
// where its profile has an active one. Rules: "upstream-missing", "upstream-chain",
// "upstream-adopted", "issuer-prepared", "issuer-revoked".
func (a *Authority) Adopt(ctx context.Context, actor string, r AdoptRequest) (Issuer, error) {
	upstream := a.config.Upstreams[r.Upstream]
	if upstream == nil {
		return Issuer{}, fault.New(fault.NotFound, "upstream-missing", "There is no upstream of this name in the configuration.").At("/upstream")
	}
	limited, cancel := context.WithTimeout(ctx, a.config.UpstreamTimeout)
	defer cancel()
	chain, err := upstream.Chain(limited)
	if err != nil {
		return Issuer{}, fault.New(fault.Unavailable, "upstream-chain", "The upstream did not tell its certificates.").Because(err)
	}
	now := a.now().UTC()
	if err := checkChain(chain, now); err != nil {
		return Issuer{}, err
	}
	name := cmp.Or(r.Name, chain[0].Subject.CommonName)
	if !validCAName(name) {
		return Issuer{}, fault.New(fault.Malformed, "issuer-name", "The name of an issuer has 1 to 64 printable characters.").At("/name")
	}
	ids := make([]IssuerID, len(chain))
	for i := range ids {
		ids[i] = newIssuerID()
	}
	var made Issuer
	err = a.store.UpdateTrust(ctx, func(tx Tx) error {
		known, err := tx.Issuers()
		if err != nil {
			return err
		}
		rows, err := adopted(known, chain, ids, r, name, now)
		if err != nil {
			return err
		}
		for n := range rows {
			row := &rows[n]
			insert := func() error { return tx.InsertIssuer(*row) }
			if row.Upstream != "" {
				insert = func() error { return place(tx, row) }
			}
			if err := insert(); err != nil {
				return err
			}
			cert, err := x509.ParseCertificate(row.Certificate)
			if err != nil {
				return err
			}
			event := issuerEvent(actor, audit.IssuerCreated, newIssuer(*row, cert, nil))
			if row.Upstream != "" {
				event.Body = audit.Body(map[string]any{
					"name": row.Name, "role": row.Role, "parent": row.Parent, "keyHere": false, "upstream": row.Upstream, "profile": row.Profile,
					"serial": SerialOf(cert.SerialNumber), "notAfter": cert.NotAfter, "sha256": verify.ThumbprintOf(cert.Raw).String(),
				})
			}
			if err := tx.Append(event); err != nil {
				return err
			}
		}
		made = rows[len(rows)-1]
		return nil
	})
	if err != nil {
		return Issuer{}, err
	}
	return made, a.Reload(ctx)
}

// adopted is the rows that a chain needs, parents first: those above the issuer that are not
// on record, and the issuer.
func adopted(known []Issuer, chain []*x509.Certificate, ids []IssuerID, r AdoptRequest, name string, now time.Time) ([]Issuer, error) {
	for _, k := range known {
		if k.State == IssuerRevoked && slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return k.key() == verify.KeyHashOf(c.RawSubjectPublicKeyInfo) }) {
			return nil, fault.New(fault.Conflict, "issuer-revoked", "A CA in the upstream's chain is revoked here.").About("issuer " + string(k.ID))
		}
		if k.Role != RoleIssuing || k.State == IssuerRevoked || k.State == IssuerRetired {
			continue
		}
		if k.Upstream == r.Upstream && k.Profile == r.Profile && bytes.Equal(k.Certificate, chain[0].Raw) {
			return nil, fault.New(fault.Conflict, "upstream-adopted", "There is an issuer for this upstream and profile already.").About("issuer " + string(k.ID))
		}
	}
	var rows []Issuer
	var parent IssuerID
	for i, c := range slices.Backward(chain) {
		row := Issuer{ID: ids[i], Name: c.Subject.CommonName, Role: RoleExternal, State: IssuerActive, Parent: cmp.Or(parent, ids[i]), Certificate: c.Raw, Created: now}
		if i == 0 {
			row.Name, row.Role, row.Profile, row.Upstream = name, RoleIssuing, r.Profile, r.Upstream
		} else if k := slices.IndexFunc(known, func(k Issuer) bool { return bytes.Equal(k.Certificate, c.Raw) }); k >= 0 {
			parent = known[k].ID
			continue
		}
		rows, parent = append(rows, row), row.ID
	}
	return rows, nil
}

// checkChain refuses what cannot be a chain of CAs, the one that signs first and a root last.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	bad := func(what string) error {
		return fault.New(fault.Unavailable, "upstream-chain", "The upstream's chain cannot be used: %s.", what)
	}
	if len(chain) == 0 || len(chain) > maxUpstreamChain {
		return bad("it is empty, or too long")
	}
	for i, c := range chain {
		above := chain[min(i+1, len(chain)-1)]
		switch {
		case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return bad("a certificate in it is not a CA's")
		case now.After(c.NotAfter) || now.Before(c.NotBefore):
			return bad("a certificate in it is not valid now")
		case !bytes.Equal(c.RawIssuer, above.RawSubject) || c.CheckSignatureFrom(above) != nil:
			return bad("it does not end in a root, link by link")
		}
	}
	return nil
}

// maxUpstreamChain is how many CAs a chain has at most (INV-C4).
const maxUpstreamChain = 9

// Resolution is what an operator found out about an orphan: the serial number of its
// certificate, which is then revoked at the upstream, or that there is none.
type Resolution struct {
	Serial Serial // "" says that the upstream has not signed
	Note   string // how that was found out
}

// ResolveIntent settles an orphan by an operator's word, which goes on record. Conflict:
// "intent-not-orphaned"; Malformed: "intent-note".
func (a *Authority) ResolveIntent(ctx context.Context, actor, id string, r Resolution) (Intent, error) {
	if r.Note = clip(r.Note); r.Note == "" {
		return Intent{}, fault.New(fault.Malformed, "intent-note", "Say how it was found out what became of the request.").At("/note")
	}
	now := a.now().UTC()
	var i Intent
	err := a.store.Update(ctx, func(tx Tx) (err error) {
		if i, err = tx.Intent(id); err != nil {
			return err
		}
		settled := i.State != IntentOrphaned
		if i.Serial != "" && !settled {
			// It is being revoked; or it cannot be, as a certificate on record has its serial.
			_, err := tx.Certificate(i.Issuer, i.Serial)
			settled = err != nil || r.Serial != ""
		}
		if settled {
			return fault.New(fault.Conflict, "intent-not-orphaned", "Only an orphan of which no certificate is known is settled by hand.").About("intent " + id)
		}
		why := actor + ": " + r.Note
		if r.Serial != "" {
			if err := orphanIn(tx, id, r.Serial, nil, why, now); err != nil {
				return err
			}
			if i, err = tx.Intent(id); err != nil {
				return err
			}
		} else {
			i.State, i.Settled, i.Detail = IntentRefused, now, clip(why)
			if err := tx.UpdateIntent(i, IntentOrphaned); err != nil {
				return err
			}
		}
		return tx.Append(intentEvent(i, audit.UpstreamResolved, actor, now))
	})
	return i, err
}
