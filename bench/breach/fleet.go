package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// device is a simulated one: all it knows of the server is the public wire.
type device struct {
	name    string
	factory tls.Certificate // from the line
	own     tls.Certificate // issued by Muster
	hub     string
}

// fleet is devices and the server that they come to.
type fleet struct {
	server *instance.Instance
	roots  *x509.CertPool
}

func newFleet(s *instance.Instance) (*fleet, error) {
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, err
	}
	f := &fleet{server: s, roots: x509.NewCertPool()}
	if !f.roots.AppendCertsFromPEM(text) {
		return nil, errors.New("the server left no CA certificates")
	}
	return f, nil
}

// atOnce is how many devices come at the same time.
const atOnce = 16

// each does something with each device, some at once, and returns the first error.
func each[T any](list []T, do func(T) error) error {
	var first error
	var mu sync.Mutex
	var busy sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for _, x := range list {
		mu.Lock()
		failed := first != nil
		mu.Unlock()
		if failed {
			break
		}
		turn <- struct{}{}
		busy.Go(func() {
			defer func() { <-turn }()
			if err := do(x); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = errors.Join(first, err)
			}
		})
	}
	busy.Wait()
	return first
}

// build makes devices on a line.
func build(line *authority, prefix string, n int) ([]*device, error) {
	list := make([]*device, n)
	for i := range list {
		list[i] = &device{name: fmt.Sprintf("%s%05d", prefix, i)}
	}
	return list, each(list, func(d *device) (err error) {
		d.factory, err = line.credential(d.name)
		return err
	})
}

const version = "?api-version=2025-07-01-preview"

// answer is the device API's.
type answer struct {
	OperationID       string
	Status            string
	RegistrationState struct {
		AssignedHub            string
		IssuedCertificateChain [][]byte
	}
}

// ask makes one request on a connection of its own, as devices do.
func (f *fleet) ask(ctx context.Context, show tls.Certificate, method, path string, body []byte) (int, answer, error) {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: f.roots, Certificates: []tls.Certificate{show}},
	}}
	req, err := http.NewRequestWithContext(ctx, method, f.server.Devices+"/"+f.server.IDScope+"/registrations/"+path+version, bytes.NewReader(body))
	if err != nil {
		return 0, answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, answer{}, err
	}
	var a answer
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted {
		err = json.Unmarshal(text, &a)
	}
	return resp.StatusCode, a, err
}

// register asks for a certificate, showing one. Status is of the first answer.
func (f *fleet) register(ctx context.Context, d *device, show tls.Certificate) (int, answer, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.name}}, show.PrivateKey)
	if err != nil {
		return 0, answer{}, err
	}
	body, err := json.Marshal(map[string]any{"registrationId": d.name, "csr": csr})
	if err != nil {
		return 0, answer{}, err
	}
	return f.ask(ctx, show, http.MethodPut, d.name+"/register", body)
}

// provisionLimit is how long a device waits for its hub.
const provisionLimit = 3 * time.Minute

// provision registers a device and waits until its hub has it.
func (f *fleet) provision(ctx context.Context, d *device) error {
	status, a, err := f.register(ctx, d, d.factory)
	for end := time.Now().Add(provisionLimit); err == nil && status == http.StatusAccepted && a.Status == "assigning" && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
		status, a, err = f.ask(ctx, d.factory, http.MethodGet, d.name+"/operations/"+a.OperationID, nil)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	if a.Status != "assigned" || len(a.RegistrationState.IssuedCertificateChain) == 0 {
		return fmt.Errorf("%s: answered %d, and is %q", d.name, status, a.Status)
	}
	d.hub = a.RegistrationState.AssignedHub
	d.own = tls.Certificate{Certificate: a.RegistrationState.IssuedCertificateChain, PrivateKey: d.factory.PrivateKey}
	return nil
}

// refused wants 401 for a device that shows a certificate.
func (f *fleet) refused(ctx context.Context, d *device, show tls.Certificate) error {
	status, a, err := f.register(ctx, d, show)
	if err == nil && status != http.StatusUnauthorized {
		err = fmt.Errorf("%s is answered %d, %s", d.name, status, a.Status)
	}
	return err
}

// some are so many of the list, evenly spread over it.
func some[T any](list []T, n int) (out []T) {
	n = min(n, len(list))
	for i := range n {
		out = append(out, list[i*len(list)/n])
	}
	return out
}
