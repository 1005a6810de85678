//go:build unix

package ctlog

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock makes this process the only one to write a folder. The system lets go of it when
// the process ends, in whatever way. It is the second line behind whoever chose a leader.
func (f folder) lock() (*os.File, error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, err
	}
	l, err := os.OpenFile(f.path(".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process writes the log in %s: %w", f, err), l.Close())
	}
	return l, nil
}
