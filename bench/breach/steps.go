package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// open starts the server, then the broker with the list that the server keeps for it, and links it.
func (b *breach) open(ctx context.Context) (err error) {
	b.broker = &instance.Broker{Folder: b.path("broker"), Trusts: b.path("muster-dev/ca.pem"), CRLFile: b.path("crls.pem")}
	if err := b.broker.Prepare(); err != nil {
		return err
	}
	// JSON is YAML.
	brokers, err := json.Marshal(instance.Object{brokerHub: instance.Object{"crlFile": b.broker.CRLFile, "pidFile": b.broker.PIDFile, "caFile": b.broker.CAFile}})
	if err == nil {
		err = os.WriteFile(b.path("mosquitto.yaml"), brokers, 0o600)
	}
	if err != nil {
		return err
	}
	if b.server, err = instance.Start(instance.Config{Binary: b.muster, Data: b.path("muster-dev"), Mosquitto: b.path("mosquitto.yaml")}); err != nil {
		return err
	}
	if err := until(ctx, "the server keeps the broker's list", func() (bool, error) {
		_, err := os.Stat(b.broker.CRLFile)
		return err == nil, nil
	}); err != nil {
		return err
	}
	if err := b.broker.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(b.path("broker.url"), []byte(b.broker.Address()+"\n"), 0o600); err != nil {
		return err
	}
	// Nine of ten to the built-in hub.
	if _, err := b.run(ctx, "hub", "update", "local", "--weight", "9"); err != nil {
		return err
	}
	if _, err := b.run(ctx, "hub", "link", brokerHub, "--driver", "mosquitto", "--to-file", "broker.url", "--weight", "1"); err != nil {
		return err
	}
	out, err := b.run(ctx, "hub", "test", brokerHub)
	shown(out)
	if err != nil {
		return err
	}
	b.fleet, err = newFleet(b.server)
	return err
}

func until(ctx context.Context, what string, is func() (bool, error)) error {
	for end := time.Now().Add(5 * time.Minute); ; {
		done, err := is()
		if done || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.New("not in time: " + what)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (b *breach) furnish(ctx context.Context) (err error) {
	if b.root, err = newAuthority(b.dir, "root", "Example Works Root", 20, nil); err != nil {
		return err
	}
	if b.line, err = newAuthority(b.dir, "line-3", "Example Works Line 3", 5, b.root); err != nil {
		return err
	}
	if b.next, err = newAuthority(b.dir, "line-3b", "Example Works Line 3b", 6, b.root); err != nil {
		return err
	}
	if err := b.server.Admit(ctx, "all-presses", b.root.base, true); err != nil {
		return err
	}
	say("group all-presses on the root, whose key was proved")
	_, err = b.run(ctx, "group", "create", "line-3", "--signing-certificate", "line-3.crt", "--profile", "default")
	return err
}

func (b *breach) enroll(ctx context.Context) (err error) {
	began := time.Now()
	if b.devices, err = build(b.line, "press-", b.size); err != nil {
		return err
	}
	if err := each(b.devices, func(d *device) error { return b.fleet.provision(ctx, d) }); err != nil {
		return err
	}
	say("%d registered in %.0f s, each with a certificate of Muster's", b.size, time.Since(began).Seconds())
	door, err := doorOf(b.broker)
	if err != nil {
		return err
	}
	var there []*device
	for _, d := range b.devices {
		if d.hub == brokerHub {
			there = append(there, d)
		}
	}
	if len(there) == 0 {
		return errors.New("no device was assigned to the broker")
	}
	b.atBroker = make([]*open, len(there))
	places := make([]int, len(there))
	for i := range places {
		places[i] = i
	}
	if err := each(places, func(i int) (err error) {
		b.atBroker[i], err = door.connect(there[i])
		return err
	}); err != nil {
		return err
	}
	say("%d of them live on the Mosquitto, are connected to it and stay so", len(b.atBroker))
	return each(some(b.atBroker, 20), (*open).works)
}

// thief makes a device with the stolen key.
func (b *breach) thief(n int) (*device, error) {
	list, err := build(b.line, "ghost-"+strconv.Itoa(n)+"-", 1)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (b *breach) steal(ctx context.Context) error {
	ghost, err := b.thief(1)
	if err != nil {
		return err
	}
	if err := b.fleet.provision(ctx, ghost); err != nil {
		return err
	}
	say("%s, which no factory made, registers: assigned to %s", ghost.name, ghost.hub)
	return nil
}

// stolen is when: before the first device registered, as nobody knows better.
func (b *breach) stolen() string { return b.began.UTC().Truncate(time.Second).Format(time.RFC3339) }

func (b *breach) preview(ctx context.Context) error {
	out, err := b.run(ctx, "disallow", "preview", "line-3.crt", "--since", b.stolen())
	if err != nil {
		return err
	}
	shown(cut(out, "preview "))
	if !strings.Contains(out, "stays enabled: its devices would slip back in by it") || !strings.Contains(out, "group all-presses") {
		return errors.New("the preview does not name the group that would let them back in")
	}
	return nil
}

// cut leaves out lines that begin with a word: ids too long to look at.
func cut(text, word string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, word) && !strings.HasPrefix(line, word[:len(word)-1]+"\t") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func (b *breach) stage(ctx context.Context) error {
	if _, err := b.run(ctx, "group", "stage", "line-3", "--certificate", "line-3b.crt"); err != nil {
		return err
	}
	say("so that the group stays open for them when its first slot is emptied")
	return nil
}

// incident is what is read of the disallowance.
type incident struct {
	ID, State        string
	Devices, Revoked int64
	Pending          *int64
}

// act disallows, and asks every door and hub whether it took.
func (b *breach) act(ctx context.Context) error {
	stolen, err := os.ReadFile(b.line.base + ".crt")
	if err != nil {
		return err
	}
	body := instance.Object{"certificate": string(stolen), "since": b.stolen()}
	var preview struct{ Preview string }
	if err := b.server.Call(ctx, http.MethodPost, "/disallowances/preview", body, &preview); err != nil {
		return err
	}
	body["preview"], body["expectDevices"] = preview.Preview, b.size+1
	say("> POST /api/v1/disallowances")
	began := time.Now()
	var is incident
	if err := b.server.Call(ctx, http.MethodPost, "/disallowances", body, &is); err != nil {
		return err
	}
	acted := time.Now()
	say("< 201 %s, after %.0f ms. The clock runs from here", is.State, float64(acted.Sub(began).Milliseconds()))
	since := func() float64 { return time.Since(acted).Seconds() }

	if err := b.doorsRefuse(ctx); err != nil {
		return err
	}
	say("%6.2f s  DPS refuses: a device with its own certificate, one with the factory's, and a new one of the thief's", since())
	out, err := b.run(ctx, "disallow", "watch", is.ID, "--for", "5m")
	shown(out)
	if err != nil {
		return err
	}
	if err := b.server.Call(ctx, http.MethodGet, "/disallowances/"+is.ID, nil, &is); err != nil {
		return err
	}
	if is.Devices != int64(b.size)+1 || is.Revoked != is.Devices {
		return fmt.Errorf("%d receipts, %d certificates revoked", is.Devices, is.Revoked)
	}
	say("%6.2f s  every hub has confirmed: %d receipts, %d certificates revoked", since(), is.Devices, is.Revoked)
	if err := b.readBack(ctx, since); err != nil {
		return err
	}
	b.dump("incident", is)
	fmt.Printf("\n    TIME TO CONTAIN: %.1f s from the act's answer to the last hop read back (%d devices, %d of them on the Mosquitto)\n", since(), b.size, len(b.atBroker))
	return nil
}

// dump keeps something for who looks into the folder.
func (b *breach) dump(name string, what any) {
	if text, err := json.MarshalIndent(what, "", "  "); err == nil {
		_ = os.WriteFile(b.path(name+".json"), text, 0o600) // for a look alone
	}
}

func (b *breach) doorsRefuse(ctx context.Context) error {
	first, last := b.devices[0], b.devices[len(b.devices)-1]
	ghost, err := b.thief(2)
	if err != nil {
		return err
	}
	return errors.Join(b.fleet.refused(ctx, first, first.own), b.fleet.refused(ctx, last, last.factory), b.fleet.refused(ctx, ghost, ghost.factory))
}

// sample is how many of the devices on the built-in hub are looked up there, one by one.
const sample = 500

func (b *breach) readBack(ctx context.Context, since func() float64) error {
	hub, err := b.fleet.door()
	if err != nil {
		return err
	}
	var builtIn []*device
	for _, d := range b.devices[1 : len(b.devices)-1] {
		if d.hub != brokerHub {
			builtIn = append(builtIn, d)
		}
	}
	looked := some(builtIn, sample)
	if err := each(looked, func(d *device) error { return hub.is(ctx, d, "disabled") }); err != nil {
		return err
	}
	say("%6.2f s  read back: %d of %d devices looked up at the built-in hub, all disabled", since(), len(looked), len(builtIn))
	if err := each(b.atBroker, (*open).isDropped); err != nil {
		return err
	}
	say("%6.2f s  read back: all %d connections to the Mosquitto are dropped", since(), len(b.atBroker))
	broker, err := doorOf(b.broker)
	if err != nil {
		return err
	}
	if err := each(b.atBroker, func(c *open) error { return broker.shut(c.device) }); err != nil {
		return err
	}
	say("%6.2f s  read back: all %d came back to it, and were refused in the handshake", since(), len(b.atBroker))
	out, err := b.run(ctx, "hub", "check", brokerHub, "--for", "2m")
	shown(out)
	if err != nil {
		return err
	}
	say("%6.2f s  read back: the Mosquitto holds what it shall hold", since())
	asked := some(builtIn, sample/10)
	if err := each(asked, func(d *device) error { return b.fleet.refused(ctx, d, d.own) }); err != nil {
		return err
	}
	say("%6.2f s  read back: %d more devices asked DPS, and were refused", since(), len(asked))
	return nil
}

// comeBack makes new factory certificates for some devices, by the replacement's key.
func (b *breach) comeBack(ctx context.Context) error {
	back := some(b.devices, max(20, b.size/100))
	broker, err := doorOf(b.broker)
	if err != nil {
		return err
	}
	hub, err := b.fleet.door()
	if err != nil {
		return err
	}
	if err := each(back, func(d *device) (err error) {
		if d.factory, err = b.next.credential(d.name); err != nil {
			return err
		}
		if err := b.fleet.provision(ctx, d); err != nil {
			return err
		}
		if d.hub != brokerHub {
			return hub.is(ctx, d, "enabled")
		}
		c, err := broker.connect(d)
		if err != nil {
			return fmt.Errorf("%s is refused by the broker: %w", d.name, err)
		}
		defer c.Disconnect(0)
		return c.works()
	}); err != nil {
		return err
	}
	say("%d devices have a certificate by it, and their hubs let them in", len(back))
	out, err := b.run(ctx, "group", "slots", "line-3")
	if err != nil {
		return err
	}
	shown(out)
	if strings.Contains(out, "CN=Example Works Line 3\t") {
		return errors.New("the stolen one is still in its slot")
	}
	ghost, err := b.thief(3)
	if err != nil {
		return err
	}
	if err := b.fleet.refused(ctx, ghost, ghost.factory); err != nil {
		return err
	}
	say("the thief, who tries once more: 401, by both groups")
	return nil
}

func (b *breach) report(ctx context.Context) error {
	var list struct{ Items []incident }
	if err := b.server.Call(ctx, http.MethodGet, "/disallowances", nil, &list); err != nil {
		return err
	}
	if len(list.Items) != 1 {
		return fmt.Errorf("there are %d disallowances", len(list.Items))
	}
	out, err := b.run(ctx, "disallow", "report", list.Items[0].ID)
	if err != nil {
		return err
	}
	shown(out)
	return os.WriteFile(b.path("incident.md"), []byte(out), 0o600)
}
