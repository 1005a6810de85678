package provisioning

import (
	"crypto/sha256"
	"encoding/binary"
)

// placeOf is the fixed place of a name among all, from 0 to less than 1, by which what comes
// due together is spread.
func placeOf(text string) float64 {
	digest := sha256.Sum256([]byte(text))
	return float64(binary.BigEndian.Uint64(digest[:8])>>11) / (1 << 53)
}
