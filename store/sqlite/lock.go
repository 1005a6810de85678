//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/passmuster/muster/internal/fault"
)

// lockFile takes the lock that makes this process the only one to write the database.
// The system lets go of it when the process ends, in whatever way.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(lockPath(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking database %s: %w", path, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fault.New(fault.Conflict, "database-locked", "another process has it open; only one may write it")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking database %s: %w", path, err), f.Close())
	}
	return f, nil
}
