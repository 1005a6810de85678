package main

import (
	"encoding/base64"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/device/tpm"
)

// deviceTPM is the TPM of a device, for what it proves itself with and for its keys.
type deviceTPM struct {
	TPM  string   `name:"tpm" placeholder:"PATH" env:"MUSTER_DEVICE_TPM" help:"The device's TPM: /dev/tpmrm0, or the socket of swtpm. Keys are made in it and stay there; without another credential it also proves who the device is, over dps-http."`
	chip *tpm.TPM // open until the process ends
}

func (d *deviceTPM) openTPM() (err error) {
	if d.chip == nil {
		d.chip, err = tpm.Open(d.TPM)
	}
	if err != nil {
		return deviceUsage("%w", err)
	}
	return nil
}

// createInTPM is create with a key in the TPM.
func (d *deviceFolder) createInTPM(kind string) (*device.Folder, error) {
	if kind != "" && device.KeyType(kind) != device.P256 {
		return nil, deviceUsage("keys in a TPM are p256: leave --key-type out")
	}
	if err := d.openTPM(); err != nil {
		return nil, err
	}
	key, err := d.chip.NewKey()
	if err != nil {
		return nil, err
	}
	folder, err := device.Create(d.path(), key)
	if err == nil {
		folder.UseTPM(d.chip)
	}
	return folder, err
}

type deviceEndorsementCmd struct {
	Path string `arg:"" help:"The TPM: /dev/tpmrm0, or the socket of swtpm."`
}

// Run prints the key in base64, as --endorsement-key and Azure have it.
func (c *deviceEndorsementCmd) Run(k *kong.Kong) error {
	d := deviceTPM{TPM: c.Path}
	if err := d.openTPM(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(k.Stdout, base64.StdEncoding.EncodeToString(d.chip.EndorsementKey()))
	return err
}

// endorsement are the certificates of the TPM's endorsement key that are shown; nil: none are.
func (s *deviceServer) endorsement() (ders [][]byte, err error) {
	if s.EndorsementCert == "" {
		return nil, nil
	}
	certs, err := readCertificates(s.EndorsementCert)
	if err != nil {
		return nil, deviceUsage("%w", err)
	}
	for _, c := range certs {
		ders = append(ders, c.Raw)
	}
	return ders, nil
}
