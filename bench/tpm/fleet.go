package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/swtpm"
	verifytpm "github.com/passmuster/muster/verify/tpm"

	"github.com/passmuster/muster/test/instance"
)

// fleet are devices of two kinds, each with an enrollment of its own.
type fleet struct {
	m            *instance.Instance
	roots        *x509.CertPool
	keyed, chips []device.Config
	idle         float64 // of a core, that the server takes with nobody there
	tpms         []*tpm.TPM
	processes    []*swtpm.TPM
}

// furnish starts TPMs and enrolls devices; what was started is in the fleet in any case.
func furnish(ctx context.Context, m *instance.Instance, devices int) (*fleet, error) {
	f := &fleet{m: m, roots: x509.NewCertPool()}
	pem, err := os.ReadFile(m.CAFile)
	if err != nil {
		return f, err
	}
	f.roots.AppendCertsFromPEM(pem)
	for n := range devices {
		if err := f.add(ctx, n); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f *fleet) add(ctx context.Context, n int) error {
	process, err := swtpm.Start()
	if err != nil {
		return err
	}
	f.processes = append(f.processes, process)
	chip, err := tpm.Open(process.Socket)
	if err != nil {
		return err
	}
	f.tpms = append(f.tpms, chip)
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	text := base64.StdEncoding.EncodeToString
	with := f.config(fmt.Sprintf("chip-%d", n), device.Credential{TPM: chip})
	without := f.config(fmt.Sprintf("key-%d", n), device.Credential{SymmetricKey: key})
	f.chips, f.keyed = append(f.chips, with), append(f.keyed, without)
	return errors.Join(
		f.enroll(ctx, with, instance.Object{"type": "tpm", "tpm": instance.Object{"endorsementKey": text(chip.EndorsementKey())}}),
		f.enroll(ctx, without, instance.Object{"type": "symmetricKey", "symmetricKey": instance.Object{"primaryKey": text(key)}}),
	)
}

func (f *fleet) config(id string, c device.Credential) device.Config {
	return device.Config{URL: f.m.Devices, IDScope: f.m.IDScope, RegistrationID: id, CA: f.roots, Credential: c}
}

func (f *fleet) enroll(ctx context.Context, c device.Config, attestation instance.Object) error {
	return f.m.Call(ctx, "PUT", "/enrollments/"+c.RegistrationID, instance.Object{"attestation": attestation}, nil)
}

func (f *fleet) close() (err error) {
	for _, chip := range f.tpms {
		err = errors.Join(err, chip.Close())
	}
	for _, process := range f.processes {
		err = errors.Join(err, process.Close())
	}
	return err
}

// comes is one registration, on a connection of its own.
func comes(ctx context.Context, c device.Config) error {
	client, err := device.New(c)
	if err != nil {
		return err
	}
	defer client.Close()
	got, err := client.Register(ctx, device.Request{})
	if err == nil && got.Status != "assigned" {
		err = fmt.Errorf("%s is %s", c.RegistrationID, got.Status)
	}
	return err
}

// atOnce has all devices with a TPM come at the same time, and says how long each took.
func (f *fleet) atOnce(ctx context.Context) ([]time.Duration, error) {
	took := make([]time.Duration, len(f.chips))
	began := time.Now()
	var all errgroup.Group
	for n, c := range f.chips {
		all.Go(func() error {
			err := comes(ctx, c)
			took[n] = time.Since(began)
			return err
		})
	}
	return took, all.Wait()
}

// rest measures what the server does by itself: TPMs are slow, and it is not theirs.
func (f *fleet) rest(d time.Duration) {
	before := instance.UsageOf(f.m.PID).CPU
	time.Sleep(d)
	f.idle = (instance.UsageOf(f.m.PID).CPU - before).Seconds() / d.Seconds()
}

// register has devices register, two at a time, and says what one costs the server in µs of CPU.
func (f *fleet) register(ctx context.Context, devices []device.Config) (float64, error) {
	before, began := instance.UsageOf(f.m.PID).CPU, time.Now()
	var all errgroup.Group
	all.SetLimit(2)
	for _, c := range devices {
		all.Go(func() error { return comes(ctx, c) })
	}
	err := all.Wait()
	took := instance.UsageOf(f.m.PID).CPU - before - time.Duration(f.idle*float64(time.Since(began)))
	return float64(took.Microseconds()) / float64(len(devices)), err
}

// operations is what wrapping the two keys of a registration takes, in µs.
func (f *fleet) operations() (float64, error) {
	ek, err := verifytpm.ParseEndorsementKey(f.tpms[0].EndorsementKey())
	if err != nil {
		return 0, err
	}
	srk, err := verifytpm.ParseStorageRootKey(f.tpms[0].StorageRootKey())
	if err != nil {
		return 0, err
	}
	const times = 500
	secret := make([]byte, 32)
	began := time.Now()
	for range 2 * times {
		if _, err := verifytpm.Wrap(ek, srk, secret); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Microseconds()) / times, nil
}
