package mosquitto

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"

	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// deviceRole is the role that devices get where the address names no other.
const deviceRole = "device"

// address is where the plugin is spoken to, and as whom.
type address struct {
	plain          bool
	host           string // with its port
	user, password string
	role           string // of devices
}

func (d *Driver) parse(text string) (a address, err error) {
	bad := func(why string) (address, error) {
		return a, fault.New(fault.Malformed, "hub-address", "%s", why).At("/url")
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return bad("a broker's address is such as mqtts://muster~:PASSWORD@broker.example.net:8884")
	}
	a.plain = u.Scheme == "mqtt"
	port, query := u.Port(), u.Query()
	switch {
	case u.Scheme != "mqtts" && !a.plain, a.plain && (!d.options.Local || !provisioning.OnThisHost(u.Hostname())):
		return bad("a broker is spoken to over mqtts")
	case port == "":
		port = "8883"
	}
	a.host, a.role, a.user = net.JoinHostPort(u.Hostname(), port), deviceRole, u.User.Username()
	a.password, _ = u.User.Password()
	if query.Has("role") {
		a.role = query.Get("role")
		query.Del("role")
	}
	switch {
	case len(query) > 0 || a.role == "" || a.role == refusedRole:
		return bad("a broker's address has no query but role, the role of devices")
	case CouldBeDevice(a.user):
		return bad("a device could have the name " + a.user + ", and with it the rights that Muster has: the name needs another character, such as ~")
	}
	return a, nil
}

// CouldBeDevice says that a certificate of a device may have this name.
func CouldBeDevice(name string) bool {
	_, err := verify.ParseRegistrationID(name)
	return err == nil
}

// Endpoint is the scheme and host of a broker's address.
func (d *Driver) Endpoint(text string) (string, error) {
	a, err := d.parse(text)
	if err != nil {
		return "", err
	}
	if a.plain {
		return "mqtt://" + a.host, nil
	}
	return "mqtts://" + a.host, nil
}

// connect opens the control connection, and returns the role of devices.
func (d *Driver) connect(ctx context.Context, to provisioning.HubAccess) (*control, string, error) {
	a, err := d.parse(to.URL)
	if err != nil {
		return nil, "", err
	}
	conn, err := d.dial(ctx, a, d.options.Brokers[to.Hub])
	switch {
	case errors.Is(err, callout.ErrAddress):
		return nil, "", fault.New(fault.Unavailable, "hub-unreachable", "the broker is at an address that this server does not call").Because(err)
	case err != nil:
		return nil, "", fault.New(fault.Unavailable, "hub-unreachable", "the broker could not be reached").Because(err)
	}
	c, err := login(ctx, conn, a)
	return c, a.role, err
}

func (d *Driver) dial(ctx context.Context, a address, b Broker) (net.Conn, error) {
	conn, err := d.options.Callout.Dialer().DialContext(ctx, "tcp", a.host)
	if err != nil || a.plain {
		return conn, err
	}
	name, _, err := net.SplitHostPort(a.host)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	conf := &tls.Config{RootCAs: b.Roots, ServerName: name, MinVersion: tls.VersionTLS12}
	if conf.RootCAs == nil {
		conf.RootCAs = d.options.Callout.Roots
	}
	if b.Certificate != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return b.Certificate() }
	}
	secured := tls.Client(conn, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}
