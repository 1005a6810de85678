package crash_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/test/instance"
)

// smallDisk is a command that gives the command after it a disk of 32 MiB at a folder, in
// a mount namespace of its own. The death signal is set again: entering the namespace
// clears it.
func smallDisk(data string) []string {
	return []string{
		"unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
		`mount -t tmpfs -o size=32m,mode=0700 small "$1" && shift && exec setpriv --pdeathsig KILL "$@"`, "sh", data,
	}
}

func TestAFullDiskStopsIssuingAndNothingElse(t *testing.T) {
	data := folder(t)
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", append(smallDisk(data)[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("a disk of its own cannot be had here (user and mount namespaces): %v: %s", err, out)
	}
	s := start(t, instance.Config{Binary: binary(t), Data: data, Wrap: smallDisk(data)})
	inside := filepath.Join(fmt.Sprintf("/proc/%d/root", s.PID), data)
	site, key := siteOf(t, s), groupKey(t, inside)
	d := &disk{T: t, server: s, site: site, groupKey: key, ballast: filepath.Join(inside, "ballast")}

	first, err := d.enroll()
	if err != nil {
		t.Fatal(err)
	}
	d.fill()
	d.issueUntilFull()
	d.wantReads(first)

	if err := os.Remove(d.ballast); err != nil {
		t.Fatal(err)
	}
	last, err := d.enroll()
	if err != nil {
		t.Fatalf("with room again: %v", err)
	}
	d.given = append(d.given, last)
	d.wantRecorded()
	doctor(t, instance.Config{
		Binary: binary(t), Data: data,
		Wrap: []string{"nsenter", "--target", strconv.Itoa(s.PID), "--user", "--preserve-credentials", "--mount"},
	})
}

// disk is a server whose disk is small.
type disk struct {
	*testing.T
	server   *instance.Instance
	site     site
	groupKey []byte
	ballast  string
	devices  int
	given    []*x509.Certificate
}

// enroll enrolls the next device of the group.
func (d *disk) enroll() (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(d.Context(), 20*time.Second)
	defer cancel()
	d.devices++
	id := fmt.Sprintf("dev-%d", d.devices)
	return d.site.enroll(ctx, id, device.DeriveKey(d.groupKey, id))
}

// fill writes to the disk until nothing more goes on it.
func (d *disk) fill() {
	d.Helper()
	f, err := os.Create(d.ballast)
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.Fatal(err)
	}
}

// issueUntilFull enrolls until the server says 503. What SQLite has room for within its
// files is still issued.
func (d *disk) issueUntilFull() {
	d.Helper()
	const most = 2000
	for range most {
		cert, err := d.enroll()
		switch {
		case err == nil:
			d.given = append(d.given, cert)
		case device.IsRefused(err, http.StatusServiceUnavailable):
			if _, err := d.enroll(); !device.IsRefused(err, http.StatusServiceUnavailable) {
				d.Errorf("the next device on the full disk: %v, want 503", err)
			}
			return
		default:
			d.Fatalf("on a full disk: %v, want 503", err)
		}
	}
	d.Fatalf("%d certificates on a full disk", most)
}

// wantReads wants what needs no room: the CRL at the address in a certificate, the CAs,
// the lists, readiness, and every certificate that was given.
func (d *disk) wantReads(cert *x509.Certificate) {
	d.Helper()
	crl, err := x509.ParseRevocationList(d.get(cert.CRLDistributionPoints[0]))
	if err != nil {
		d.Fatalf("the CRL: %v", err)
	}
	if now := time.Now(); now.After(crl.NextUpdate) {
		d.Errorf("the CRL's next update was at %s", crl.NextUpdate)
	}
	if !strings.Contains(string(d.get(d.server.PKI+"/pki/bundle.pem")), "BEGIN CERTIFICATE") {
		d.Error("the bundle holds no certificate")
	}
	if err := d.server.Call(d.Context(), http.MethodGet, "/registrations", nil, nil); err != nil {
		d.Error(err)
	}
	d.given = append(d.given, cert)
	d.wantRecorded()
}

func (d *disk) get(url string) []byte {
	d.Helper()
	resp, err := http.Get(url)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		d.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return body
}

// wantRecorded wants every certificate that was given in the inventory, and no serial twice.
func (d *disk) wantRecorded() {
	d.Helper()
	all, err := inventory(d.Context(), d.server, "")
	if err != nil {
		d.Fatal(err)
	}
	times := map[string]int{}
	for _, r := range all {
		times[r.Serial]++
	}
	for _, cert := range d.given {
		if serial := fmt.Sprintf("%040x", cert.SerialNumber); times[serial] != 1 {
			d.Errorf("the certificate %s that was given is on record %d times", serial, times[serial])
		}
	}
}
