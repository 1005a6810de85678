package provisioning

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// What a revoked issuer of ours signed is good nowhere from that commit on: doors and OCSP read the
// issuer's state with the certificate, and hubs are asked and told without it.

func issuerCertificate(tx Tx, id ca.IssuerID) ([]byte, error) {
	issuers, err := tx.Issuers()
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(issuers, func(i ca.Issuer) bool { return i.ID == id })
	if at < 0 {
		return nil, fault.New(fault.NotFound, "no-issuer", "There is no such issuer.").About("issuer " + string(id))
	}
	return issuers[at].Certificate, nil
}

// lastIssuer refuses an act that ends issuing, and says what could go on.
func lastIssuer(stops []ca.Stop) error {
	var what []string
	for _, x := range stops {
		what = append(what, stopText(x))
	}
	return fault.New(fault.Conflict, "last-issuer", "it ends issuing: %s. Say that it may", strings.Join(what, "; "))
}

func stopText(x ca.Stop) string {
	what := "nobody is left to sign for profile " + x.Profile
	switch {
	case x.Role == ca.RoleRoot:
		what = "no root is left to sign issuing CAs"
	case x.Profile == "":
		what = "nobody is left to sign for profiles without an issuer of their own"
	}
	if x.Prepared != "" {
		what += fmt.Sprintf(" (%s is prepared: promote it first)", x.Prepared)
	}
	return what
}

// heedIssuers has this process know of issuers that were revoked. It is not what refuses them; a
// process that has not heard finds it in what it reads.
func (e *Engine) heedIssuers(ctx context.Context) {
	if err := e.authority.Reload(context.WithoutCancel(ctx)); err != nil {
		e.log.Error("reading the issuers after a disallowance", "problem", err)
	}
}

// live are the certificates of a pair that are good at a time: not overdue, and of no revoked
// issuer.
func live(tx Tx, p rotation.Pair, now time.Time) ([]rotation.Cell, error) {
	cells := p.Live(now)
	lost, err := lostOf(tx, cells)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(cells, func(c rotation.Cell) bool { return slices.Contains(lost, verify.Thumbprint(c.Ref)) }), nil
}

func lostOf(tx Tx, cells []rotation.Cell) ([]verify.Thumbprint, error) {
	var refs []verify.Thumbprint
	for _, c := range cells {
		if c.State != rotation.Empty {
			refs = append(refs, verify.Thumbprint(c.Ref))
		}
	}
	if len(refs) == 0 {
		return nil, nil
	}
	return tx.OfRevokedIssuers(refs)
}

// withoutLost takes what revoked issuers signed from the certificates that were set at a hub's door.
func withoutLost(tx Tx, texts [2]string) (_ [2]string, err error) {
	var refs []verify.Thumbprint
	for _, text := range texts {
		if raw, err := hex.DecodeString(text); err == nil && len(raw) == len(verify.Thumbprint{}) {
			refs = append(refs, verify.Thumbprint(raw))
		}
	}
	if len(refs) == 0 {
		return texts, nil
	}
	lost, err := tx.OfRevokedIssuers(refs)
	for _, x := range lost {
		for slot := range texts {
			if texts[slot] == thumbprintText(x[:]) {
				texts[slot] = ""
			}
		}
	}
	return texts, err
}

// dropLost takes out of a device's pair, and of what hubs were told by hand, what revoked issuers
// signed.
func dropLost(tx Tx, reg Registration, now time.Time) (_ Registration, dropped bool, err error) {
	lost, err := lostOf(tx, []rotation.Cell{reg.Pair.Cell(rotation.Primary), reg.Pair.Cell(rotation.Secondary)})
	if err != nil || len(lost) == 0 {
		return reg, false, err
	}
	for _, x := range lost {
		reg.Pair = reg.Pair.Drop(rotation.Ref(x))
		if err := tx.DropHubThumbprint(thumbprintText(x[:]), now); err != nil {
			return reg, false, err
		}
	}
	reg.Updated, reg.Version = now, reg.Version+1
	return reg, true, first(tx.PutRegistration(reg), settlePending(tx, reg, now))
}
