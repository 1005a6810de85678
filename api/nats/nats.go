// Package nats answers the auth callouts of NATS servers (2.10 and later): a server that does not
// know a client asks on $SYS.REQ.USER.AUTH, and Muster answers with a user that has the device's
// own subjects and ends in time, or with a refusal (docs/reference/hub-check.md).
//
// It decodes, asks the engine and encodes; what is let in is what the built-in hub knows, by its
// certificate. What it keeps of its own is the wire:
//
//   - A question is a server's, by its signature, and with an xkey it is sealed. Anything else is
//     not answered; the server lets nobody in without an answer.
//   - Nothing but the engine's word is a user, and it is for this server and connection alone.
//   - What is open is looked at again and again (Sweep): a client that would be refused now is dropped.
//
// Opened by cmd, for one id scope and one of its built-in hubs.
package nats

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

const (
	subject = "$SYS.REQ.USER.AUTH"
	// queue is shared by the processes of an installation: each question goes to one.
	queue = "muster"
	// patience is less than the 2 s that a server waits by default.
	patience = 1500 * time.Millisecond
	// maxWorking bounds the questions under way, maxWaiting those behind them: what is more is
	// refused, not kept (INV-R6). Patience begins when a question's turn has come.
	maxWorking, maxWaiting = 64, 1024
)

// Config is how a NATS server is reached, and what its clients are let in to.
type Config struct {
	Engine *provisioning.Engine
	Hub    string // the built-in hub it stands for; "": the only one
	URL    string // nats:// or tls://, several with commas
	TLS    *tls.Config
	// User is an nkey user in the account of the callout; Issuer signs answers.
	User, Issuer nkeys.KeyPair
	// XKey opens questions and seals answers; nil: they are only signed.
	XKey nkeys.KeyPair
	// System is an nkey user in the system account, to drop clients by; nil: they end in time.
	System nkeys.KeyPair
	// Account is where devices are.
	Account string
	// Publish and Subscribe are what a device may, with {device} for its name.
	Publish, Subscribe []string
	// AskAgain is the longest that a client stays without being asked about anew.
	AskAgain time.Duration
	Now      func() time.Time
	Log      *slog.Logger
	// Checked is told of every client that was judged, by the rule word of its refusal.
	Checked func(broker, reason string)
}

// Callout is at work until it is closed.
type Callout struct {
	Config
	conn, system *nats.Conn
	working      chan struct{}
	running      sync.WaitGroup
	page         int // connections listed at once

	mu     sync.Mutex // around a sweep, and
	rested time.Time  // not before which the next one begins
}

// Open begins to answer. A server that is not there yet is tried again until it is.
func Open(c Config) (*Callout, error) {
	o := &Callout{Config: c, working: make(chan struct{}, maxWorking), page: connectionPage}
	var err error
	if o.conn, err = o.connect("muster auth callout", c.User); err != nil {
		return nil, err
	}
	if c.System != nil {
		if o.system, err = o.connect("muster", c.System); err != nil {
			o.conn.Close()
			return nil, err
		}
	}
	sub, err := o.conn.QueueSubscribe(subject, queue, o.serve)
	if err == nil {
		err = sub.SetPendingLimits(maxWaiting, -1)
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *Callout) connect(name string, as nkeys.KeyPair) (*nats.Conn, error) {
	public, err := as.PublicKey()
	if err != nil {
		return nil, err
	}
	log := o.Log.With("door", "nats", "as", name)
	options := []nats.Option{
		nats.Name(name), nats.Nkey(public, as.Sign), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second),
		nats.IgnoreAuthErrorAbort(), nats.ConnectHandler(func(c *nats.Conn) { log.Info("connected to NATS", "server", c.ConnectedServerName()) }),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("connected to NATS again", "server", c.ConnectedServerName()) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("NATS is away: it lets no new device in", "problem", err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("NATS cannot be reached", "problem", err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Error("NATS", "problem", err) }),
	}
	if o.TLS != nil {
		options = append(options, nats.Secure(o.TLS))
	}
	c, err := nats.Connect(o.URL, options...)
	if err != nil {
		return nil, fault.New(fault.Malformed, "config", "brokers.nats: %s cannot be connected to: %v", name, err).Because(err)
	}
	return c, nil
}

// IsConnected says that questions come, and that clients can be dropped if that is configured.
func (o *Callout) IsConnected() bool {
	return o.conn.IsConnected() && (o.system == nil || o.system.IsConnected())
}

// Close ends the connections, and waits for what is under way.
func (o *Callout) Close() {
	o.conn.Close()
	if o.system != nil {
		o.system.Close()
	}
	o.running.Wait()
}

// serve is called for one message after the other, and makes them run side by side.
func (o *Callout) serve(m *nats.Msg) {
	o.working <- struct{}{}
	o.running.Go(func() {
		defer func() { <-o.working }()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, err := o.answer(ctx, m.Header.Get(headerXKey), m.Data)
		if err == nil {
			err = m.Respond(answer)
		}
		if err != nil {
			o.Log.Error("an auth callout is not answered: NATS refuses the client", "door", "nats", "problem", err)
		}
	})
}

// KeyOf reads the seed of an nkey, which begins with prefix: SU of a user, SA of an account, SX of
// an xkey.
func KeyOf(seed []byte, prefix string) (nkeys.KeyPair, error) {
	kind, _, err := nkeys.DecodeSeed(seed)
	want := map[string]nkeys.PrefixByte{"SU": nkeys.PrefixByteUser, "SA": nkeys.PrefixByteAccount, "SX": nkeys.PrefixByteCurve}[prefix]
	if err != nil || kind != want {
		return nil, fmt.Errorf("this is no seed that begins with %s", prefix)
	}
	if want == nkeys.PrefixByteCurve {
		return nkeys.FromCurveSeed(seed)
	}
	return nkeys.FromSeed(seed)
}
