package mosquitto

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/passmuster/muster/internal/fault"
)

// Topics of the plugin. Its answers go to all who listen, so each command has a number.
const (
	controlTopic = "$CONTROL/dynamic-security/v1"
	answerTopic  = controlTopic + "/response"
)

const (
	answerLimit = 4 * time.Second
	// keepAlive is far below the engine's lease: the broker leaves a process that hangs
	// before another one takes up its devices.
	keepAlive = 10 * time.Second
)

// command is one of the plugin's.
type command struct {
	Command     string   `json:"command"`
	Correlation string   `json:"correlationData"`
	Username    string   `json:"username,omitempty"`
	Description string   `json:"textdescription,omitempty"`
	Role        string   `json:"rolename,omitempty"`
	Roles       []ranked `json:"roles,omitzero"`
	Groups      []ranked `json:"groups,omitzero"`
	ACLs        []acl    `json:"acls,omitempty"`
	Verbose     bool     `json:"verbose,omitempty"`
	Count       int      `json:"count,omitempty"`
	Offset      int      `json:"offset,omitempty"`
}

// ranked is a role or a group that a client has; the one with the largest priority is asked first.
type ranked struct {
	Role     string `json:"rolename,omitempty"`
	Group    string `json:"groupname,omitempty"`
	Priority int    `json:"priority,omitempty"`
}

type acl struct {
	Type  string `json:"acltype"`
	Topic string `json:"topic,omitempty"`
	Allow bool   `json:"allow"`
}

type response struct {
	Correlation string `json:"correlationData"`
	Command     string `json:"command"`
	Error       string `json:"error"`
	Data        struct {
		Client  client   `json:"client"`
		Clients []client `json:"clients"`
		ACLs    []acl    `json:"acls"`
		Role    struct {
			ACLs []acl `json:"acls"`
		} `json:"role"`
	} `json:"data"`
}

// control is a connection to a broker's plugin, for one call.
type control struct {
	mqtt    mqtt.Client
	name    string          // begins the numbers of its commands
	asked   int             // messages
	answers chan []response // to its own commands; one message at a time is unanswered
	lost    chan struct{}
}

// login takes over the connection.
func login(ctx context.Context, conn net.Conn, a address) (*control, error) {
	c := &control{name: "muster-" + rand.Text(), answers: make(chan []response, 1), lost: make(chan struct{})}
	o := mqtt.NewClientOptions().AddBroker("tcp://" + a.host).SetClientID(c.name).
		SetUsername(a.user).SetPassword(a.password).SetKeepAlive(keepAlive).SetConnectTimeout(answerLimit).SetWriteTimeout(answerLimit).
		SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(4).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil }).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(c.lost) })
	c.mqtt = mqtt.NewClient(o)
	if err := c.wait(ctx, c.mqtt.Connect()); err != nil {
		_ = conn.Close() // paho may have done so
		if errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) || errors.Is(err, packets.ErrorRefusedNotAuthorised) {
			return nil, unavailable("the broker refuses the name and password of its address").Because(err)
		}
		return nil, err
	}
	listening := c.mqtt.Subscribe(answerTopic, 1, func(_ mqtt.Client, m mqtt.Message) { c.hear(m.Payload()) })
	err := c.wait(ctx, listening)
	if s, is := listening.(*mqtt.SubscribeToken); err == nil && is && s.Result()[answerTopic] >= 0x80 {
		err = unavailable("the broker does not let the client of its address listen to %s: it needs the role of an administrator", answerTopic)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// hear takes an answer to what was asked here, and passes over those to others.
func (c *control) hear(payload []byte) {
	var said struct{ Responses []response }
	if json.Unmarshal(payload, &said) != nil || len(said.Responses) == 0 || !strings.HasPrefix(said.Responses[0].Correlation, c.name) {
		return
	}
	select {
	case c.answers <- said.Responses:
	default: // nobody waits for it any more
	}
}

// close leaves the broker.
func (c *control) close() { c.mqtt.Disconnect(0) }

// wait waits for a packet to be answered.
func (c *control) wait(ctx context.Context, t mqtt.Token) error {
	limit := time.NewTimer(answerLimit)
	defer limit.Stop()
	select {
	case <-t.Done():
		if t.Error() != nil {
			return fault.New(fault.Unavailable, "hub-unreachable", "the broker could not be spoken to").Because(t.Error())
		}
		return nil
	case <-c.lost:
	case <-ctx.Done():
	case <-limit.C:
	}
	return fault.New(fault.Unavailable, "hub-unreachable", "the broker does not answer")
}

// ask has commands carried out, in one message, and returns their answers in turn.
func (c *control) ask(ctx context.Context, commands []command) ([]response, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	c.asked++
	of := map[string]int{}
	for i := range commands {
		commands[i].Correlation = fmt.Sprintf("%s-%d-%d", c.name, c.asked, i)
		of[commands[i].Correlation] = i
	}
	body, err := json.Marshal(map[string]any{"commands": commands})
	if err != nil {
		return nil, err
	}
	if err := c.wait(ctx, c.mqtt.Publish(controlTopic, 1, false, body)); err != nil {
		return nil, err
	}
	limit := time.NewTimer(answerLimit)
	defer limit.Stop()
	out := make([]response, len(commands))
	for {
		select {
		case list := <-c.answers:
			for _, r := range list {
				if i, asked := of[r.Correlation]; asked {
					out[i] = r
					delete(of, r.Correlation)
				}
			}
			if len(of) == 0 {
				return out, nil
			}
		case <-c.lost:
			return nil, fault.New(fault.Unavailable, "hub-unreachable", "the broker ended the connection")
		case <-ctx.Done():
			return nil, fault.New(fault.Unavailable, "hub-unreachable", "the broker's dynamic-security plugin did not answer in time")
		case <-limit.C:
			return nil, unavailable("the broker's dynamic-security plugin does not answer: is it loaded, and may the client of its address use it?")
		}
	}
}

// firstProblem is about the broker and not about a device: the commands are Muster's own.
func firstProblem(said []response) error {
	for _, r := range said {
		if r.Error != "" {
			return unavailable("the broker answers %s with: %s", r.Command, r.Error)
		}
	}
	return nil
}
