// Command load measures a certificate service from outside: how many requests a second,
// how long each takes, and what CPU time and memory the server spends on them.
//
// Every answer is checked: a certificate must parse, carry the request's key and be
// signed by an expected CA, and a refusal must be the one expected. Generator and server
// share a machine, so the figures are for ratios between two servers measured in turns.
//
//	load gen-ca DIR NAME
//	load dps|est|get [options]
//	load mqtt [options]           connections that are held: only memory is measured
//
// Called by the other commands of bench and by people.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: load dps|est|get|mqtt [options] | load gen-ca DIR NAME")

func run(args []string) error {
	if len(args) == 3 && args[0] == "gen-ca" {
		return makeCA(args[1], args[2])
	}
	if len(args) == 0 {
		return errUsage
	}
	o, err := parse(args[0], args[1:])
	if err != nil {
		return err
	}
	g, err := newGenerator(o)
	if err != nil {
		return err
	}
	if o.kind == "mqtt" {
		h, err := g.hold()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(h)
	}
	r, err := g.measure()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	if r.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed, the first one: %s", r.Errors, r.Errors+r.Count, r.FirstError)
	}
	return nil
}

// options are what the command line says.
type options struct {
	kind                 string
	url, path            string
	scope, version       string
	withCSR, newCSR      bool
	fresh                bool
	want, orElse         int
	rate                 float64
	count, clients, warm int
	pool                 int
	prefix               string
	deviceCA, issuers    string
	groupKey             string
	pid                  int
	settle               time.Duration
}

func parse(kind string, args []string) (options, error) {
	o := options{kind: kind}
	fs := flag.NewFlagSet("load "+kind, flag.ContinueOnError)
	fs.StringVar(&o.url, "url", "https://127.0.0.1:8443", "base URL of the service")
	fs.IntVar(&o.count, "n", 2000, "requests to measure")
	fs.IntVar(&o.clients, "c", 8, "concurrent clients")
	fs.IntVar(&o.warm, "warm", 50, "requests before measuring")
	fs.IntVar(&o.pool, "pool", 500, "devices, used in turn; for mqtt each has a connection of its own")
	fs.StringVar(&o.prefix, "prefix", "dev-", "what device names begin with")
	fs.BoolVar(&o.fresh, "fresh", false, "a new connection with a full handshake for every request; else each client is one device that keeps its connection")
	fs.BoolVar(&o.newCSR, "new-csr", false, "a new key and CSR for every request")
	fs.StringVar(&o.deviceCA, "device-ca", "", "files of a device CA (BASE.crt, BASE.key): each device shows a certificate of it")
	fs.StringVar(&o.issuers, "ca", "", "PEM file: CAs that may sign what is issued")
	fs.IntVar(&o.pid, "pid", 0, "the server's process: its CPU time and memory are measured")
	fs.IntVar(&o.want, "want", 0, "status of the answers; 0 = a success, looked at closely")
	fs.IntVar(&o.orElse, "or", 0, "another status that is as good as the one wanted")
	fs.Float64Var(&o.rate, "rate", 0, "requests a second, each on its own schedule, however long others take; latency is measured from when it was due. 0 = as fast as the clients can")
	fs.Bool("json", true, "accepted and ignored: the report is one line of JSON")
	switch kind {
	case "dps", "mqtt":
		fs.StringVar(&o.scope, "scope", "", "id scope")
		fs.StringVar(&o.version, "api-version", "2021-06-01", "version of the device API")
		fs.BoolVar(&o.withCSR, "with-csr", false, "ask for a certificate")
		fs.StringVar(&o.groupKey, "group-key", "", "key of a symmetric-key group in base64: devices show a token of their derived keys, and no certificate")
		fs.DurationVar(&o.settle, "settle", 0, "mqtt: how long the connections idle before the server's memory is looked at")
	case "est":
		o.withCSR = true
	case "get":
		fs.StringVar(&o.path, "path", "/", "path")
	default:
		return o, errUsage
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.url = strings.TrimRight(o.url, "/")
	if fs.NArg() > 0 || o.clients < 1 || o.pool < o.clients || o.count < 1 {
		return o, errors.New("load: clients, pool and count are positive, and the pool has a device for each client")
	}
	return o, nil
}
