package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/passmuster/muster/policies"
)

// blockListFile is the file of blocked keys. It is read at the start, and again when it
// has changed.
type blockListFile struct {
	path     string // "" = none
	modified time.Time
	size     int64
}

// load reads the file, if it is not as it was when it was last read.
func (b *blockListFile) load(houses []*house) (read bool, err error) {
	if b.path == "" {
		return false, nil
	}
	file, err := os.Open(b.path)
	if err != nil {
		return false, fmt.Errorf("reading the block list of keys: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.ModTime().Equal(b.modified) && info.Size() == b.size {
		return false, err
	}
	list, err := policies.ReadBlockList(file)
	if err != nil {
		return false, fmt.Errorf("%s: %w", b.path, err)
	}
	for _, h := range houses {
		h.engine.SetBlockList(list)
	}
	b.modified, b.size = info.ModTime(), info.Size()
	return true, nil
}

// reload is load for a server that runs: a file that cannot be read leaves the old list.
func (b *blockListFile) reload(houses []*house, log *slog.Logger) {
	switch read, err := b.load(houses); {
	case err != nil:
		log.Error("the block list of keys stays as it was", "problem", err)
	case read:
		log.Info("block list of keys read", "file", b.path)
	}
}
