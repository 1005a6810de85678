package provisioning

import (
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// HubClient is a client of a broker that stands for a built-in hub, and what it showed. That
// it has the key of its certificate the broker has seen, in the TLS handshake; a token is
// judged here.
type HubClient struct {
	Device     verify.RegistrationID // the device id
	Chain      verify.Chain          // leaf first; nil: it showed none, or only this is known:
	Thumbprint verify.Thumbprint     // of the leaf; zero: it showed none
	Token      *verify.SASToken      // for {hub}/devices/{device}; nil: it showed none
}

// HubVerdict says whether a client is let in.
type HubVerdict struct {
	Reason       string // the rule word of the refusal; "": it is let in
	Hub          string
	DeviceID     string                // as first written; "": there is no such device
	Registration verify.RegistrationID // zero: it has none
	Until        time.Time             // what it showed is good for so long; zero: only a thumbprint of it is on record
}

// Rule words of verdicts, beside those of certificates and tokens.
const (
	ruleHubDeviceDisabled = "hub-device-disabled"
	ruleCredentialMissing = "credential-missing"
	ruleCredentialKind    = "credential-kind"
	ruleCredentialDiffers = "credential-differs"
)

// CheckHub says of clients of a broker whether they are devices of a built-in hub, which may be
// left unnamed where it is the only one. It is the hub's own reading of the device, and what
// the device showed beside it; so it refuses from the commit on that shuts the device out.
//
// Errors: NotFound "hub-not-found"; Malformed "hub-ambiguous", "hub-elsewhere".
func (e *Engine) CheckHub(ctx context.Context, hub string, clients ...HubClient) (list []HubVerdict, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		name, err := builtInHub(tx, hub)
		if err != nil {
			return err
		}
		list = make([]HubVerdict, len(clients))
		reading := e.readingHub(tx, name, false)
		for i, c := range clients {
			if list[i], err = reading.verdict(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// builtInHub is the built-in hub of a name, or the only one.
func builtInHub(tx Tx, name string) (string, error) {
	if name != "" {
		h, err := tx.Hub(strings.ToLower(name))
		if err == nil && h.Driver != BuiltIn {
			err = fault.New(fault.Malformed, "hub-elsewhere", "This hub lives elsewhere: it is told of its devices, and answers for them itself.").At("/hub")
		}
		return h.Name, err
	}
	linked, err := tx.Hubs()
	linked = slices.DeleteFunc(linked, func(h Hub) bool { return h.Driver != BuiltIn })
	switch {
	case err != nil:
		return "", err
	case len(linked) == 0:
		return "", fault.New(fault.NotFound, "hub-not-found", "No built-in hub is linked.")
	case len(linked) > 1:
		return "", fault.New(fault.Malformed, "hub-ambiguous", "There are several built-in hubs: name the one you mean.").At("/hub")
	}
	return linked[0].Name, nil
}

func (r *hubReading) verdict(c HubClient) (v HubVerdict, err error) {
	v.Hub = r.hub
	rec, err := r.tx.HubRecord(r.hub, c.Device)
	if fault.Is(err, fault.NotFound) {
		v.Reason = fault.RuleOf(errNoHubDevice())
		return v, nil
	}
	if err != nil {
		return v, err
	}
	r.keys = c.Token != nil
	d, err := r.device(rec)
	if err != nil {
		return v, err
	}
	v.DeviceID, v.Registration = d.DeviceID, d.Registration
	switch {
	case d.Disallowed:
		v.Reason = "disallowed"
	case rec.Registration != nil && !rec.Registration.HeldAt.IsZero():
		v.Reason = RuleRegistrationHeld
	case !d.Enabled:
		v.Reason = ruleHubDeviceDisabled
	default:
		v.Reason, v.Until, err = r.proved(d, c)
	}
	if v.Reason != "" {
		v.Until = time.Time{}
	}
	return v, err
}

// proved judges what a client showed by what its device proves itself by.
func (r *hubReading) proved(d HubDevice, c HubClient) (reason string, until time.Time, err error) {
	switch d.Auth.Type {
	case HubSAS:
		if c.Token == nil {
			return ruleCredentialMissing, until, nil
		}
		return reasonOf(r.signed(d, *c.Token)), c.Token.Expires(), nil
	case HubSelfSigned:
		return r.shows(d, c)
	}
	return ruleCredentialKind, until, nil // nobody here can say who signs for it
}

// reasonOf is the rule word of a refusal, and never that of none.
func reasonOf(refusal error) string {
	if refusal == nil {
		return ""
	}
	return cmp.Or(fault.RuleOf(refusal), "refused")
}

// signed says whether a token is the device's, by one of its keys.
func (r *hubReading) signed(d HubDevice, token verify.SASToken) error {
	host, path := token.Target()
	switch {
	case host != r.hub || path != "devices/"+d.ID.String():
		return fault.New(fault.Unauthenticated, "sas-other-resource", "The token is for another hub or device.")
	case token.KeyName() != "":
		return fault.New(fault.Unauthenticated, "sas-key-name", "The token is of an access policy.")
	}
	err := token.Verify(d.Auth.Keys[0], r.at)
	if err != nil {
		err = token.Verify(d.Auth.Keys[1], r.at)
	}
	return err
}

// shows says whether a certificate is one of the device's, and stands. Thumbprints of SHA-1 are
// nobody's.
func (r *hubReading) shows(d HubDevice, c HubClient) (reason string, until time.Time, err error) {
	thumbprint := c.Thumbprint
	if len(c.Chain) > 0 {
		thumbprint = c.Chain.Leaf().Thumbprint
	}
	switch {
	case thumbprint.IsZero():
		return ruleCredentialMissing, until, nil
	case !slices.Contains(d.Auth.Thumbprints[:], thumbprintText(thumbprint[:])):
		return ruleCredentialDiffers, until, nil
	}
	if len(c.Chain) == 0 {
		if c.Chain, err = r.onRecord(thumbprint); err != nil || len(c.Chain) == 0 {
			return "", until, err
		}
	}
	leaf := c.Chain.Leaf().Cert
	if err := verify.CheckLeafDates(leaf, r.at); err != nil {
		return reasonOf(err), until, nil
	}
	if disallowed, err := r.bars.shown(c.Chain); disallowed || err != nil {
		return "disallowed", until, err
	}
	return "", leaf.NotAfter, nil
}

// onRecord is the certificate of a thumbprint, nil where Muster has never seen it.
func (r *hubReading) onRecord(x verify.Thumbprint) (verify.Chain, error) {
	der, err := r.tx.KnownCertificate(x)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return verify.Chain{verify.NewLink(cert)}, nil
}
