package mosquitto

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/passmuster/muster/internal/seal"
)

// files are a broker's CRL file, and the process that reads it when it is told.
type files struct {
	crl, pid string
	lists    func(context.Context) ([]byte, error)

	mu   sync.Mutex // held from comparing to having told
	told []byte     // the content that the process was told to read
	whom int        // and which process that was
}

// program is the name of the process that may be signalled.
const program = "mosquitto"

// keep makes the file what is published, and has the broker read it, unless both are so.
func (f *files) keep(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	lists, err := f.lists(ctx)
	if err != nil {
		return err
	}
	// A broker that is told to read something else has no list, and refuses everybody.
	if block, _ := pem.Decode(lists); block == nil || block.Type != "X509 CRL" {
		return errors.New("there is no CRL yet")
	}
	if is, err := os.ReadFile(f.crl); err != nil || !bytes.Equal(is, lists) {
		if err := seal.ReplacePublicFile(f.crl, lists); err != nil {
			return err
		}
	}
	process, pid, err := f.process()
	if err != nil {
		return err
	}
	if pid == f.whom && bytes.Equal(f.told, lists) {
		return nil
	}
	if err := process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("signalling process %d: %w", pid, err)
	}
	f.told, f.whom = lists, pid
	return nil
}

// check says whether the file can be written and the process be signalled.
func (f *files) check() error {
	probe, err := os.CreateTemp(filepath.Dir(f.crl), ".new-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return unavailable("the folder of the broker's CRL file cannot be written").Because(err)
	}
	process, _, err := f.process()
	if err == nil {
		err = process.Signal(syscall.Signal(0))
	}
	if err != nil {
		return unavailable("the broker's process cannot be signalled: %v", err)
	}
	return nil
}

// process finds the broker. The handle is taken before the name is read: should the number
// pass to another process in between, the handle is of one that has ended.
func (f *files) process() (*os.Process, int, error) {
	text, err := os.ReadFile(f.pid)
	if err != nil {
		return nil, 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return nil, 0, fmt.Errorf("%s holds no process id", f.pid)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, 0, err
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return nil, 0, fmt.Errorf("process %d, which %s names, is not there", pid, f.pid)
	}
	if got := strings.TrimSpace(string(name)); got != program {
		return nil, 0, fmt.Errorf("process %d, which %s names, is %s and not %s", pid, f.pid, got, program)
	}
	return process, pid, nil
}
