package provisioning

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// Where a device on the built-in hub finds its next certificate in its desired properties:
// muster.certificate. What others put beside it is left alone.
const (
	twinOwn         = "muster"
	twinCertificate = "certificate"
)

// announceInTwin tells a device on the built-in hub that a certificate is there for it: its
// SHA-256 as thumbprint, notAfter, and as pem the certificate and those above it but the
// root, where the desired properties stay within 8 KB with it.
func announceInTwin(tx Tx, reg Registration, c ca.Certificate, above [][]byte, now time.Time) error {
	note := map[string]any{"thumbprint": c.Thumbprint.String(), "notAfter": c.NotAfter.UTC().Format(time.RFC3339), "pem": shownPEM(c.DER, above)}
	return noteInTwin(tx, reg, now, func(own map[string]any) bool { own[twinCertificate] = note; return true },
		func() { delete(note, "pem") })
}

// withdrawFromTwin takes the announcement back.
func withdrawFromTwin(tx Tx, reg Registration, now time.Time) error {
	return noteInTwin(tx, reg, now, func(own map[string]any) bool {
		_, there := own[twinCertificate]
		delete(own, twinCertificate)
		return there
	}, func() {})
}

// noteInTwin changes what is Muster's own in a device's desired properties: change says
// whether there is anything to write; shorten is tried where the result is larger than what
// an entry may start a twin with, and nothing is written that no hub would take.
func noteInTwin(tx Tx, reg Registration, now time.Time, change func(own map[string]any) bool, shorten func()) error {
	if reg.Hub == "" {
		return nil
	}
	was, err := tx.Twin(reg.ID)
	stored := was.Version
	if fault.Is(err, fault.NotFound) {
		was, _ = twinOf(nil, reg.Created)
	} else if err != nil {
		return err
	}
	desired, _ := object(was.Desired)
	if desired == nil {
		desired = map[string]any{}
	}
	own, isOurs := desired[twinOwn].(map[string]any)
	if _, taken := desired[twinOwn]; taken && !isOurs {
		return nil // a property of somebody else's
	}
	if own == nil {
		own = map[string]any{}
	}
	if !change(own) {
		return nil
	}
	next, err := withOwn(desired, own)
	if err == nil && len(next) > maxDesired {
		shorten()
		next, err = withOwn(desired, own)
	}
	if err != nil || len(next) > maxTwinDesired || bytes.Equal(next, was.Desired) {
		return err
	}
	was.Desired = next
	was.Version++
	was.DesiredVersion++
	if !now.After(was.Updated) {
		now = was.Updated.Add(time.Microsecond) // the ETag must change
	}
	was.Updated = now
	return tx.UpdateTwin(reg.ID, was, stored)
}

func withOwn(desired, own map[string]any) ([]byte, error) {
	delete(desired, twinOwn)
	if len(own) > 0 {
		desired[twinOwn] = own
	}
	return json.Marshal(desired)
}

// shownPEM is what a client shows: the certificate and those above it but the root.
func shownPEM(leaf []byte, above [][]byte) string {
	var b strings.Builder
	chain := append([][]byte{leaf}, above[:max(0, len(above)-1)]...)
	for _, der := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Builder does not fail
	}
	return b.String()
}
