package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const (
	connectionPage = 512
	// gather is how long the servers of a cluster have to answer, each for itself.
	gather   = 500 * time.Millisecond
	kickWait = 2 * time.Second
	// rest is how much longer than a sweep lasts the next one waits.
	rest = 10
)

// connection is an open one, as a server's CONNZ has it.
type connection struct {
	CID   uint64 `json:"cid"`
	User  string `json:"authorized_user"`
	Certs []struct {
		SHA256 string `json:"cert_sha256"`
	} `json:"tls_peer_certs"`
}

// connections is a page of those of one server.
type connections struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data *struct {
		Total       int          `json:"total"`
		Offset      int          `json:"offset"`
		Connections []connection `json:"connections"`
	} `json:"data"`
}

// Sweep looks at the open connections of all servers of the cluster, and drops those that would be
// refused now. It is sparing: it rests ten times as long as it lasted.
func (o *Callout) Sweep(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	began := time.Now()
	if o.system == nil || !o.system.IsConnected() || began.Before(o.rested) {
		return nil
	}
	defer func() { o.rested = time.Now().Add(rest * (time.Since(began) - gather)) }()
	pages, err := o.ask(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range pages {
		failed = append(failed, o.sweepServer(ctx, p))
	}
	return errors.Join(failed...)
}

// sweepServer goes through the pages of one server. What was dropped is out of its list.
func (o *Callout) sweepServer(ctx context.Context, p connections) error {
	var failed []error
	for p.Data != nil && len(p.Data.Connections) > 0 && ctx.Err() == nil {
		listed := len(p.Data.Connections)
		dropped, err := o.dropRefused(ctx, p.Server.ID, p.Data.Connections)
		failed = append(failed, err)
		next := p.Data.Offset + listed - dropped
		if next >= p.Data.Total-dropped {
			break
		}
		if p, err = o.next(ctx, p.Server.ID, next); err != nil {
			failed = append(failed, err)
			break
		}
	}
	return errors.Join(failed...)
}

// query asks for a page. By id, so that who comes and goes meanwhile does not move the rest much; whom a page
// misses the next sweep finds.
func (o *Callout) query(offset int) []byte {
	text, err := json.Marshal(map[string]any{"auth": true, "sort": "cid", "acc": o.Account, "limit": o.page, "offset": offset})
	if err != nil {
		panic("internal error: a query does not encode: " + err.Error())
	}
	return text
}

// ask has every server's first page.
func (o *Callout) ask(ctx context.Context) (list []connections, err error) {
	inbox := o.system.NewInbox()
	sub, err := o.system.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is gone
	if err := o.system.PublishRequest("$SYS.REQ.SERVER.PING.CONNZ", inbox, o.query(0)); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, gather)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(limited)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return list, nil
		case err != nil:
			return nil, err
		}
		p, err := pageOf(m)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
}

func (o *Callout) next(ctx context.Context, server string, offset int) (connections, error) {
	ctx, cancel := context.WithTimeout(ctx, kickWait)
	defer cancel()
	m, err := o.system.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".CONNZ", o.query(offset))
	if err != nil {
		return connections{}, fmt.Errorf("listing connections of NATS: %w", err)
	}
	return pageOf(m)
}

func pageOf(m *nats.Msg) (p connections, err error) {
	if err := json.Unmarshal(m.Data, &p); err != nil {
		return p, fmt.Errorf("reading a list of connections of NATS: %w", err)
	}
	return p, nil
}

// dropRefused drops those of a server's connections that would be refused now, and counts them.
func (o *Callout) dropRefused(ctx context.Context, server string, open []connection) (dropped int, err error) {
	ours := slices.DeleteFunc(open, func(c connection) bool { return !strings.HasPrefix(c.User, mark) })
	clients := make([]provisioning.HubClient, len(ours))
	for i, c := range ours {
		clients[i] = c.client()
	}
	verdicts, err := o.Engine.CheckHub(ctx, o.Hub, clients...)
	if err != nil {
		return 0, err
	}
	var failed []error
	for i, v := range verdicts {
		if v.Reason == "" || v.Reason == "credential-missing" && len(ours[i].Certs) == 0 {
			continue // it showed one when it came: that the server does not list it says nothing
		}
		if err := o.kick(ctx, server, ours[i].CID); err != nil {
			failed = append(failed, err)
			continue
		}
		dropped++
		o.Log.Info("a client of NATS is dropped", "door", "nats", "deviceId", clients[i].Device.String(), "reason", v.Reason)
	}
	return dropped, errors.Join(failed...)
}

// client is who a connection is of. Of what cannot be read nothing is known, and nothing is let in.
func (c connection) client() (out provisioning.HubClient) {
	out.Device, _ = verify.ParseRegistrationID(strings.TrimPrefix(c.User, mark))
	if len(c.Certs) > 0 {
		out.Thumbprint, _ = verify.ParseThumbprint(c.Certs[0].SHA256)
	}
	return out
}

// kick ends one connection. One that is gone already is as good.
func (o *Callout) kick(ctx context.Context, server string, cid uint64) error {
	ctx, cancel := context.WithTimeout(ctx, kickWait)
	defer cancel()
	if _, err := o.system.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+".KICK", fmt.Appendf(nil, `{"cid":%d}`, cid)); err != nil {
		return fmt.Errorf("dropping a client of NATS: %w", err)
	}
	return nil
}
