package store

import (
	"encoding/binary"
	"hash/maphash"
)

// Fingerprint stands for a set of rows. Rows count in any order, as neither engine
// promises one without being asked, and asking would cost a sort.
type Fingerprint struct {
	hash maphash.Hash
	sum  uint64
}

// NewFingerprint begins an empty set. Only fingerprints of the same seed compare.
func NewFingerprint(seed maphash.Seed) *Fingerprint {
	var f Fingerprint
	f.hash.SetSeed(seed)
	return &f
}

// Add adds a row.
func (f *Fingerprint) Add(values []any) {
	f.hash.Reset()
	var buf [9]byte
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			f.hash.WriteByte(0)
		case int64:
			buf[0] = 1
			binary.LittleEndian.PutUint64(buf[1:], uint64(v))
			f.hash.Write(buf[:])
		case string:
			buf[0] = 2
			binary.LittleEndian.PutUint64(buf[1:], uint64(len(v)))
			f.hash.Write(buf[:])
			f.hash.WriteString(v)
		case []byte:
			buf[0] = 3
			binary.LittleEndian.PutUint64(buf[1:], uint64(len(v)))
			f.hash.Write(buf[:])
			f.hash.Write(v)
		}
	}
	f.sum += f.hash.Sum64()
}

// Sum is the fingerprint of the rows added so far.
func (f *Fingerprint) Sum() uint64 { return f.sum }
